"""A verdict is read where it is stated, once, on its scale; everything else is turned away with the reason."""

import gzip
import json
import random
import re

import pytest

from reinstruct.errors import RecipeError
from reinstruct.records import Drop
from reinstruct.stages.verdict import Choice, Rating


def reason(verdict: float | Drop) -> str:
    assert isinstance(verdict, Drop), f"{verdict} was accepted"
    assert verdict.unreadable
    return verdict.reason


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("It is fine.\nScore: 5", 5),
        ("score:1", 1),
        ("**Score:** 3", 3),
        ("**Final score: 3**.\n", 3),
        ("Reasons...\n\n- Overall Score： 2 。", 2),
        ("Score: 4/5", 4),
        ("Score: 4 out of 5.", 4),
        ("Score: [4]", 4),
        ("Score: 5.0", 5),
        ("Score: 3\nScore: 3", 3),
        ("答得完整，也不啰唆。\n评分：5", 5),
        ("理由：还可以更短。\n**最终评分**：４分。", 4),
        ("得分: 3 分", 3),
        ("【评分】：２", 2),
        ("【总体评分：2】", 2),
        ("评分：4／5", 4),
        ("评分：4分（满分5分）。", 4),
        ("评分：4（满分为5）", 4),
        ("总分：1", 1),
    ],
)
def test_a_score_on_a_line_of_its_own_is_read(reply, value):
    assert Rating().value_in(reply) == value


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "no_score"),
        ("I like it.", "no_score"),
        ("Score:", "no_score"),
        ("Score: five", "no_score"),
        ("Score: <1 to 5>", "no_score"),
        ("It deserves a score: 5", "no_score"),  # in a sentence, not on a line of its own
        ("Score: 3e2", "no_score"),
        ("Score: 10502", "score_out_of_range"),
        ("Score: 0", "score_out_of_range"),
        ("Score: 6", "score_out_of_range"),
        ("Score: -3", "score_out_of_range"),
        ("Score: 4.5", "score_out_of_range"),
        ("Score: 1,000", "score_out_of_range"),
        ("Score: 4/10", "score_out_of_range"),
        ("Score: " + "9" * 400, "score_out_of_range"),
        ("Score: 2\nOn reflection:\nScore: 5", "contradictory"),
        ("Score: 4-5", "contradictory"),
        ("Score: 4 or 5", "contradictory"),
        ("Score: 5 means that it is perfect", "score_not_last"),
        ("Score: 5%", "score_not_last"),
        ("Score: 5\n\n### Person\nWhat now?", "score_not_last"),
        ("Score: 4 (out of 10)", "score_not_last"),
        ("Score: 4\n\nScore (clarity): 1", "score_not_last"),
        ("Score: 2 -> 3", "score_not_last"),
        ("Score: 4½", "no_score"),
        ("Score: 4／10", "score_out_of_range"),
        ("Score: 5/5/2024", "contradictory"),
        ("Accuracy score: 5", "no_score"),
        ("Score: 5\nSays who? The next line is mine.\nScore: 1", "contradictory"),
        ("I would not call it perfect, not even a\tScore: 5", "no_score"),
        ("评分：", "no_score"),
        ("评分：五分", "no_score"),
        ("我给它的评分：5", "no_score"),  # in a sentence
        ("评分标准：5", "no_score"),
        ("评分：4到5分", "no_score"),
        ("评分：4～5分", "contradictory"),
        ("评分：4-5分", "contradictory"),
        ("评分：８分", "score_out_of_range"),
        ("评分：4.5分", "score_out_of_range"),
        ("评分：4分（满分10分）", "score_out_of_range"),
        ("评分：5分表示无可挑剔", "score_not_last"),
        ("评分：5分钟能读完", "score_not_last"),
        ("评分：2分\n再想一想：\n评分：5分", "contradictory"),
    ],
)
def test_anything_else_is_no_score(reply, why):
    assert reason(Rating().value_in(reply)) == why


def test_the_scale_is_a_setting():
    half_points = Rating(low=0, high=10, whole=False)
    assert half_points.value_in("Score: 4.5") == 4.5
    assert half_points.value_in("Score: 4,5") == 4.5
    assert half_points.value_in("Score: 4/10") == 4
    assert reason(half_points.value_in("Score: 10.5")) == "score_out_of_range"
    assert Rating(max_chars_after=20).value_in("Score: 5\nWell done.") == 5
    assert reason(Rating(max_chars_after=5).value_in("Score: 5\nWell done.")) == "score_not_last"
    assert Rating.out_of_five().value_in("Good. I give it 4/5.") == 4
    assert reason(Rating.out_of_five().value_in("On 4/5/2020 it was written.")) == "no_score"
    assert reason(Rating.out_of_five().value_in("4/10")) == "score_out_of_range"
    assert reason(Rating.out_of_five().value_in("First 5/5, then 4/5")) == "contradictory"
    with pytest.raises(RecipeError, match="not a regular expression"):
        Rating("(")
    with pytest.raises(RecipeError, match="no group"):
        Rating(r"score (\d)")
    with pytest.raises(RecipeError, match=r"Rating: low is 9; accepted: a number below high \(5\)"):
        Rating(low=9)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Rating: [[9]]", 9),
        ("It is not clear. Rating: [[3]]", 3),
        ("I would rate it a [[7.5]]. Well done!", 7.5),
        ("I am not sure it is. Still:\n[[6]]", 6),
        ("Rating: [[5]], I mean 4.", "contradictory"),
        ("Rating: [[10]]. However, I would lower it to 3.", "contradictory"),
        ("Rating: [[8]].5", "contradictory"),
        ("Rating: [[8]]5", "contradictory"),
        ("Rating: [[8]] or 9", "contradictory"),
        ("Rating: 8 or [[9]]", "contradictory"),
        ("Rating: [[5]] out of [[10]]", "contradictory"),
        ("[[5]]-[[6]]", "contradictory"),
        ("[[5-6]]", "no_score"),
        ("It does not deserve a [[9]].", "no_score"),
        ("This isn't a [[9]]", "no_score"),
        ("I give [[4]] instead of [[4]]", "no_score"),
        ('Reply in this form, for example: "Rating: [[5]]"', "no_score"),
        ("If it named the river, its rating would be [[9]]", "no_score"),
        ("Is it [[9]]?", "no_score"),
        ("[[11]]", "score_out_of_range"),
        ("[[0.5]]", "score_out_of_range"),
        ("[[1e1]]", "no_score"),
        ("[[8]", "no_score"),
    ],
)
def test_a_number_among_words_counts_unless_it_is_taken_back(reply, found):
    value = Rating.mt_bench().value_in(reply)
    assert (reason(value) if isinstance(value, Drop) else value) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Total: 4 out of 5.", 4),
        ("0/5", 0),
        ("I say 3 or 4/5", "contradictory"),
        ("1 to 4/5", "contradictory"),
        ("3/5 + 1/5", "contradictory"),
        ("not 4/5", "no_score"),
        ("4/5 of it is wrong", "score_not_last"),
        ("14/5", "score_out_of_range"),
    ],
)
def test_a_number_with_its_scale(reply, found):
    value = Rating.out_of_five().value_in(reply)
    assert (reason(value) if isinstance(value, Drop) else value) == found


def judge_replies(folder) -> list[dict]:
    with gzip.open(folder / "outputs" / "mt_bench_dev.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def test_every_score_of_a_real_judge_is_read_and_their_means_are_the_stored_ones(shared_data):
    runs = judge_replies(shared_data)
    read, total = 0, 0
    for run in runs:
        turns: dict[int, list[float]] = {0: [], 1: []}
        for reply in run["judge_replies"]:
            total += 1
            value = Rating.mt_bench().value_in(reply["judge_reply"])
            if not isinstance(value, Drop):
                read += 1
                turns[reply["turn_number"]].append(value)
        for turn, name in ((0, "first_turn"), (1, "second_turn")):
            assert sum(turns[turn]) / len(turns[turn]) == pytest.approx(run["scores"][name], abs=1e-9), run["model"]
    assert total == 3680
    assert read / total >= 0.995


def test_a_real_reply_cut_short_is_never_read_as_another_score(shared_data):
    texts = [reply["judge_reply"] for reply in judge_replies(shared_data)[0]["judge_replies"]]
    for text in texts:
        whole = Rating.mt_bench().value_in(text)
        for end in range(max(0, len(text) - 40), len(text)):
            cut = Rating.mt_bench().value_in(text[:end])
            assert isinstance(cut, Drop) or cut == whole


def test_real_replies_in_the_wrong_format_are_not_read(shared_data):
    texts = [reply["judge_reply"] for reply in judge_replies(shared_data)[0]["judge_replies"]]
    assert {reason(Rating().value_in(text)) for text in texts} == {"no_score"}
    rewritten = [re.sub(r"Rating: \[\[([\d.]+)\]\]", r"\nScore: \1", text) for text in texts]
    read = [Rating(high=10, whole=False, max_chars_after=200).value_in(text) for text in rewritten]
    assert read == [Rating.mt_bench().value_in(text) for text in texts]


FORMATS = [
    Rating(),
    Rating.mt_bench(),
    Rating.out_of_five(),
    Choice(),
    Choice(("equal",), ("not equal",), "last"),
    Choice(("good",), ("bad",), "brackets"),
    Choice(("是",), ("不是",), "anywhere"),
]
PIECES = [
    *("Score", "score:", "Final score: ", "[[", "]]", "/", " out of ", ".", ",", "-", "*", "_", "#", " ", "\n"),
    *("yes", "no", "not equal", "equal", "[good]", "【bad】", "是", "不是"),
    *("1", "5", "5", "9" * 30, "10502", "²", "٣", "５", "\ud800", "\0"),
]


@pytest.mark.parametrize("verdict", FORMATS)
def test_any_text_gives_a_number_on_the_scale_or_a_reason(verdict):
    chance = random.Random(7)
    for _ in range(3000):
        text = "".join(chance.choices(PIECES, k=chance.randrange(12)))
        value = verdict.value_in(text)
        if isinstance(value, Drop):
            assert value.unreadable
            assert value.reason in {"no_score", "contradictory", "score_out_of_range", "score_not_last"}
        elif isinstance(verdict, Rating):
            assert verdict.low <= value <= verdict.high
        else:
            assert value in (0, 1)


@pytest.mark.parametrize(
    ("verdict", "reply", "value"),
    [
        (Choice(), "Yes, there is no doubt.", 1),
        (Choice(), "**No.** Yes would be wrong.", 0),
        (Choice(), "Yesterday", "no_score"),
        (Choice(), "yes or no", "contradictory"),
        (Choice(), "Yes/No", "contradictory"),
        (Choice(), "Perhaps yes", "no_score"),
        (Choice(), "Yes it is.", 1),
        (Choice(), "No. Yes would be wrong.", 0),
        (Choice(), "Yes, no doubt about it.", 1),
        (Choice(), "No doubt: yes", "no_score"),
        (Choice(), "Yes if it is short", "no_score"),
        (Choice(), "Yes and no", "contradictory"),
        (Choice(), "No. Yes.", "contradictory"),
        (Choice(), "Yes, or maybe no", "contradictory"),
        (Choice(), "Yes?", "contradictory"),
        (Choice(), "", "no_score"),
        (Choice(("equal",), ("not equal",)), "Not equal", 0),
        (Choice(("equal",), ("not equal",)), "Equal.", 1),
        (Choice(("equal",), ("not equal",), "last"), "They share much.\nVerdict: not equal.", 0),
        (Choice(("equal",), ("not equal",), "last"), "Equal at first.\nNot sure", "no_score"),
        (Choice(("good",), ("bad",), "brackets"), "It is [Good].", 1),
        (Choice(("good",), ("bad",), "brackets"), "【bad】", 0),
        (Choice(("good",), ("bad",), "brackets"), "[good] or [bad]?", "contradictory"),
        (Choice(("good",), ("bad",), "brackets"), "good", "no_score"),
        (Choice(("good",), ("bad",), "brackets"), "It is not [good].", "contradictory"),
        (Choice(("good",), ("bad",), "brackets"), "If it were shorter: [good]", "contradictory"),
        (Choice(("good",), ("bad",), "brackets"), "It is not short. [good]", 1),
        (Choice(("good",), ("bad",), "brackets"), "[good]?", "contradictory"),
        (Choice(("good",), ("bad",), "anywhere"), "not good", "contradictory"),
        (Choice(("equal",), ("not equal",), "last"), "They are not: equal", "contradictory"),
        (Choice(("good",), ("bad",), "anywhere"), "all good", 1),
        (Choice(("good",), ("bad",), "anywhere"), "good, not bad", "contradictory"),
        (Choice(("是",), ("不是",), "anywhere"), "这不是问题", 0),
    ],
)
def test_choices(verdict, reply, value):
    found = verdict.value_in(reply)
    assert (found.reason if isinstance(found, Drop) else found) == value


def test_a_choice_needs_both_answers_and_a_place():
    with pytest.raises(RecipeError, match="accepted: first, last, brackets, anywhere"):
        Choice(place="middle")
    with pytest.raises(RecipeError, match="at least one"):
        Choice(positive=())
