"""Shared text checks: each threshold once kept and once rejected, in Chinese and in English."""

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.stages.checks import (
    ENDINGS,
    DropCopies,
    DropKeywords,
    DropRepetition,
    KeepCjk,
    KeepEndings,
    KeepLikely,
    KeepWords,
    Keywords,
    grams,
    words,
)
from tests.conftest import judged


def reasons(stage, *texts: str, **columns: list[str]) -> list[str | None]:
    """The stage's verdict on each text, as the field it looks at; `columns` are further fields."""
    frame = pl.DataFrame({stage.field: list(texts), **columns}, schema_overrides={stage.field: pl.String})
    return frame.with_columns(reason=stage.reason())["reason"].to_list()


def evaluated(expression: pl.Expr, *texts: str) -> list:
    return pl.DataFrame({"text": texts}).select(expression).to_series().to_list()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("今天天气很好。", 6),
        ("It's a well-known rule.", 4),
        ("部署 Istio 1.5 版", 6),  # 1 and 5 are two
        ("カレーライス", 6),
        ("Tiếng Việt đẹp", 3),
        ("हिन्दी में", 2),
        ("……！？", 0),
        ("", 0),
    ],
)
def test_a_word_is_a_cjk_character_or_a_run_of_other_letters(text, count):
    assert evaluated(words(pl.col("text")), text) == [count]


def test_grams_are_runs_of_words_in_lower_case():
    assert evaluated(grams(pl.col("text"), 2), "天地 Big sky", "天", "") == [["天 地", "地 big", "big sky"], [], []]


def test_keywords_have_reasons_and_the_first_list_that_matches_tells():
    stage = DropKeywords(
        "output", (Keywords("refusal", ("抱歉", "sorry")), Keywords("year", (), r"20\d\d年")), ("网址",)
    )
    texts = ("很抱歉，2023年的事我不知道。", "I am SORRY.", "2023年的事。", "请看网址。", "一切都好。")
    assert reasons(stage, *texts) == ["refusal", "refusal", "year", "keyword", None]


def test_keyword_patterns_ignore_case_in_every_branch():
    assert reasons(DropKeywords("output", (Keywords("x", (), r"\bab\b|\bcd\b"),)), "AB", "CD", "abcd") == [
        "x",
        "x",
        None,
    ]


def test_a_list_without_keywords_rejects_nothing():
    assert reasons(DropKeywords("output"), "anything", "") == [None, None]


def test_a_wrong_pattern_is_told_before_any_work():
    with pytest.raises(RecipeError, match=r"keywords year: pattern '\(' is no regex"):
        Keywords("year", (), "(")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("哈" * 6, "repeats_start"),
        ("哈" * 5, None),
        ("好的。" * 6 + "以上就是全部内容。", "repeats_start"),
        ("好的。" * 5 + "以上就是全部内容。", None),
        ("前言：" + "好的。" * 5, None),
        ("  \n" + "no " * 6 + "end", "repeats_start"),
        ("", None),
        (" ", None),
    ],
)
def test_a_start_repeated_more_than_five_times_is_a_loop(text, reason):
    assert reasons(DropRepetition(run=0), text) == [reason]


def test_the_longest_repeated_piece_is_a_setting():
    looping = "".join(chr(0x4E00 + n) for n in range(30)) * 6
    assert reasons(DropRepetition(run=0, max_unit=30), looping) == ["repeats_start"]
    assert reasons(DropRepetition(run=0, max_unit=29), looping) == [None]


def test_a_text_that_says_again_what_it_said_repeats_itself():
    fresh = "".join(chr(0x4E00 + n) for n in range(40))
    stage = DropRepetition(run=10, max_share=0.5)
    # 71 runs of ten in 80 words: 31 are repeated, then 41 of 81 with ten words more.
    assert reasons(stage, fresh + fresh) == [None]
    assert reasons(stage, fresh + fresh + fresh[:10]) == ["repeats_itself"]
    assert reasons(DropRepetition(run=0), fresh * 5) == [None], "run 0 leaves the rule out"
    assert reasons(DropRepetition(run=10, max_share=0.0), "少于十个词") == [None]


@pytest.mark.parametrize(
    ("language", "ended", "cut"),
    [
        ("zh", "这样就完成了。”\n", "这样就完成了，然后"),
        ("zh", "（完成了！）", "第一步："),
        ("en", 'He said "go."', "He said that the"),
        ("ja", "そうです。", "そうですが"),
        ("hi", "यह सच है।", "यह सच"),
        ("ar", "هل هذا صحيح؟", "هل هذا"),
    ],
)
def test_a_text_ends_as_sentences_of_its_language_do(language, ended, cut):
    assert reasons(KeepEndings(language=language), ended, cut, "") == [None, "no_ending", "no_ending"]


def test_other_endings_can_be_allowed():
    assert reasons(KeepEndings(language="zh", endings="：；"), "如下：", "甲；", "乙、") == [None, None, "no_ending"]


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError, match=r"KeepEndings.language is 'xx'; accepted: ar, .*zh"):
        KeepEndings(language="xx")
    assert all(ENDINGS.values())


def test_the_share_of_cjk_characters_is_among_words():
    texts = ("云原生 is here", "云原生的 is now here", "all English", "全是中文。", "123 ...")
    assert reasons(KeepCjk("text", 0.6), *texts) == [None, "few_cjk", "few_cjk", None, "few_cjk"]
    assert reasons(KeepCjk("text", max_share=0.1), *texts) == ["much_cjk", "much_cjk", None, "much_cjk", None]
    assert reasons(KeepCjk(), "") == [None]


def test_lengths_count_each_chinese_character_and_include_both_bounds():
    stage = KeepWords("text", 3, 5)
    assert reasons(stage, "两字", "三个字", "一二三四五", "一二三四五六") == ["few_words", None, None, "many_words"]
    assert reasons(stage, "two words", "one two three", "one two three four five six") == [
        "few_words",
        None,
        "many_words",
    ]


SOURCE = "春天来了，冰雪融化，小河开始流淌，孩子们在田野里奔跑。"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SOURCE, "copy"),
        (SOURCE.replace("，", "、\n"), "copy"),
        ("春天来了", "copy"),  # too short for a run, but there as it is
        ("春天走了", None),
        ("春天里天气转暖，河水解冻，大家都到户外活动去了。", None),
        ("", None),
    ],
)
def test_a_copy_is_what_the_source_holds(text, reason):
    assert reasons(DropCopies(), text, document=[SOURCE]) == [reason]


def test_a_copy_is_counted_in_different_runs_of_words():
    # 8 runs of three words, of which 4 are in the source.
    half = ("a b c d e f" + " v w x y").strip()
    assert reasons(DropCopies(run=3, max_share=0.5), half, document=["A b c, d e f!"]) == [None]
    assert reasons(DropCopies(run=3, max_share=0.49), half, document=["A b c, d e f!"]) == ["copy"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: DropRepetition(max_share=1.5), "DropRepetition.max_share is 1.5; accepted: a share from 0 to 1"),
        (lambda: DropRepetition(max_repeats=0), "DropRepetition.max_repeats is 0; accepted: a whole number, 1 or more"),
        (lambda: KeepCjk(min_share=-1), "KeepCjk.min_share"),
        (lambda: DropCopies(run=0), "DropCopies.run is 0"),
    ],
)
def test_wrong_thresholds_are_refused(wrong, words):
    with pytest.raises(RecipeError) as refused:
        wrong()
    assert words in str(refused.value)


PROSE = [f"第{n}天，我们沿着小路走到河边，看见村里的人正在修桥，他们请我们喝茶。" for n in "一二三四五六七八九十"]


def verdicts(stage: KeepLikely, texts: list[str]) -> list[str | None]:
    frame = pl.DataFrame(
        {"id": [str(n) for n in range(len(texts))], "text": texts}, schema_overrides={"text": pl.String}
    )
    return judged(stage, frame)["reason"].to_list()


def test_scrambled_text_is_unlikely():
    scrambled = PROSE[0][::-1]
    decoded_wrongly = PROSE[1].encode().decode("gb18030", "ignore")
    assert verdicts(KeepLikely(), [*PROSE, scrambled, decoded_wrongly]) == [None] * 10 + ["unlikely"] * 2
    assert verdicts(KeepLikely(max_ratio=0), [scrambled, "abc"]) == [None, None], "0 keeps any"


def test_the_bound_on_perplexity_is_a_multiple_of_the_median():
    found = KeepLikely().perplexities(lambda: [pl.Series([*PROSE, "桥边的村子里住着修路的人。"])])
    ratio = found[10] / found.median()
    assert ratio > 1.5
    texts = [*PROSE, "桥边的村子里住着修路的人。"]
    assert verdicts(KeepLikely(max_ratio=ratio * 1.01), texts)[10] is None
    assert verdicts(KeepLikely(max_ratio=ratio * 0.99), texts)[10] == "unlikely"


def test_perplexity_is_that_of_the_pairs_of_all_other_texts():
    """By hand, with a prior of 1: of "ab", "ab", "ac", for the first text p(a) = 1/1 at a start and so on."""
    found = KeepLikely(counted="[abc]", prior=1.0).perplexities(lambda: [pl.Series(["ab", "ab", "ac"])])
    # Others of the first: "ab", "ac". p1(a) = (2 + 1) / (4 + 3), p1(b) = p1(c) = (1 + 1) / 7.
    start, after_a = (2 + 3 / 7) / (2 + 1), (1 + 2 / 7) / (2 + 1)
    assert found[0] == found[1] == pytest.approx((start * after_a) ** -0.5, abs=1e-3)
    # Others of the last: "ab", "ab": c was never seen, p1(c) = 1 / 7.
    assert found[2] == pytest.approx((start * (1 / 7) / 3) ** -0.5, abs=1e-3)


def test_texts_with_nothing_to_count_say_so_and_none_at_all_is_no_error():
    assert verdicts(KeepLikely(), [*PROSE, "plain English", ""])[10:] == ["nothing_counted"] * 2
    assert verdicts(KeepLikely(), []) == []


def test_texts_are_scored_in_pieces_as_in_one():
    texts = pl.Series(PROSE)
    whole, pieces = (KeepLikely().perplexities(lambda read=read: read) for read in ([texts], [texts[:4], texts[4:]]))
    assert whole.to_list() == pieces.to_list()
