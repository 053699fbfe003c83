"""The compiled loop says of a text what the rules in Polars say, or leaves it to them."""

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from reinstruct.stages import screen
from reinstruct.stages.compiled import packaged
from reinstruct.stages.text import KeepProse, SelectAdvice

pytestmark = pytest.mark.skipif(screen.advice_reasons is None, reason="the package was installed without a C compiler")

BASES, ING_FORMS = ("mix", "do", "add", "ca", "step", "a", "pre-heat"), ("mixing", "adding", "doing")
# Openers, list marks, numbers, pronouns and what looks like them, line ends of all kinds, capitals, other scripts.
PIECES = some.one_of(
    some.sampled_from(
        (
            *(
                "mix",
                "Mixing",
                "adding ",
                "do",
                "don't",
                "Don’t",
                "can't",
                "n't",
                "N’T",
                "ain't-so",
                "pre-heat",
                "a-b'c",
            ),
            *("step", "Step 3:", "step 12 – ", "day1.", "rule 1234.", "tip ٣)", "1.", "12)", "1 —", "(2)", "a)"),
            *("b. ", "(c) ", "- ", "• ", "“", "‘", "([", "* ", "> ", "#", "...", "…", "®", "&", "mİ", "do-\u212a"),
            *("we", "We", "our", "i", "I", "I've", "i’ve", "i'vex", "we'i", "us", "US", "Us", "weird", "éwe", "we_"),
            *(
                "my9",
                "i.e",
                "i. e",
                "i.\ne",
                "i.  e",
                "i.\r\n \ne",
                "i.ex",
                "I.e",
                "i.e.",
                "i.e\U000e0001",
                "we\U000e0001",
            ),
            *(
                "?",
                "？",
                "NASA",
                "NA",
                "Na",
                "A-B",
                "É Ü",
                "ÉÜ",
                "ǅA",
                "中文",
                "\u212a",
                "İ",
                "\U0002b820",
                "ᾳ",
                "ß",
                "ª",
            ),
            *("é", "é\x7fwe", "\n", "\r\n", "\r", "\n\n", " \n\t\n", "\n\u2003\n", "\x0b", "\x85", "\u2028", "\u200b"),
            *("\u200d", "mix-", "a-b'c", "we\U000e0001", "ß", "ª", " ", "  ", "\xa0"),
        )
    ),
    some.characters(codec="utf-8"),
)
TEXTS = some.lists(some.lists(PIECES, max_size=25).map("".join), min_size=1, max_size=6)
OPEN = SelectAdvice(min_chars=0, max_chars=200)
STAGES = some.builds(
    replace,
    some.just(OPEN),
    max_pronouns=some.integers(-1, 6),
    pronoun_window=some.sampled_from([0, 0, 10, 40]),
    max_question_marks=some.integers(0, 3),
    max_capital_words=some.integers(0, 5),
    require_openers=some.booleans(),
    repeated_openers=some.integers(0, 2),
    min_verbs=some.integers(0, 3),
    max_verbs=some.integers(1, 4),
    extra_lines=some.integers(0, 4),
    banned=some.sampled_from([(), ("®", "...", "&"), ("#", "…")]),
    pronouns=some.sampled_from([OPEN.pronouns, (), ("i",), ("we", "we're")]),
    prose=some.sampled_from([None, KeepProse(min_words=2, min_sentences=0)]),
)


def expect_same(stage: SelectAdvice, texts: list[str], bases=BASES, ing_forms=ING_FORMS) -> pl.Series:
    column = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
    asked = stage.screen(bases, ing_forms)
    assert asked.is_known()
    in_columns = stage.reason_with(bases, ing_forms)
    found = column.select(screen.screened(asked, in_columns, stage.prose.reason() if stage.prose else None)).to_series()
    assert found.to_list() == column.select(in_columns).to_series().to_list()
    return found


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(stage=STAGES, texts=TEXTS)
@example(OPEN, ["a) mix\n(a) \nstep 3:\n1. do\n'mix' 12345. x"])
def test_the_loop_says_what_the_columns_say(stage, texts):
    expect_same(stage, texts)


ADVICE = "Mix the flour.\nAdd an egg.\nStir it well.\nBake it for an hour."
VERBS = (("mix", "add", "stir", "bake"), ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ADVICE, None),
        (ADVICE.replace("\n", "\r\n \r\n"), None),
        (ADVICE.replace("an hour", "\U0002b820"), None),  # a character that the loop does not know
        (ADVICE[:30], "too_short"),
        (ADVICE * 3, "too_long"),
        (ADVICE + "…", "odd_punctuation"),
        (ADVICE + " We bake, i.e. we and I wait.", "personal_pronouns"),
        (ADVICE + " Hot? Hot？", "questions"),
        (ADVICE + " NASA, AT-ST: U.K.", "capital_words"),
        (ADVICE.replace("Add", "Mix").replace("Stir", "Mix"), "repeated_openers"),
        (ADVICE.replace("Add", "Egg"), "few_verb_openers"),
        (ADVICE + "\nSo\nit\nis", "other_paragraphs"),
    ],
)
def test_each_rule(text, reason):
    stage = SelectAdvice(min_chars=40, max_chars=120)
    assert expect_same(stage, [text], *VERBS).to_list() == [reason]
    assert expect_same(replace(stage, max_verbs=3, min_verbs=2), [ADVICE], *VERBS).to_list() == ["many_verb_openers"]


def test_texts_that_are_empty_sliced_or_in_many_pieces():
    expect_same(OPEN, ["", "mix"])
    expect_same(OPEN, [])
    pieces = [pl.Series("text", [text, ADVICE, text * 9]) for text in ("mix", "do it\nnow")]
    frame = pl.concat([piece.to_frame() for piece in pieces], rechunk=False).slice(1)
    stage = SelectAdvice(min_chars=5, max_chars=100)
    in_columns = stage.reason_with(stage.verbs.bases(), stage.verbs.ing_forms())
    for rows in (frame, frame.slice(2, 2), frame.rechunk().slice(1, 3)):
        assert rows.select(stage.reason()).to_series().to_list() == rows.select(in_columns).to_series().to_list()


@pytest.mark.parametrize(
    "stage",
    [
        replace(OPEN, banned=("a b",)),
        replace(OPEN, banned=("",)),
        replace(OPEN, pronouns=("nosotros'",)),
        replace(OPEN, pronouns=("你",)),
        replace(OPEN, banned=tuple(map(str, range(65)))),
    ],
)
def test_settings_that_the_loop_does_not_know_are_left_to_the_columns(stage):
    assert not stage.screen((), ()).is_known()
    frame = pl.DataFrame({"text": ["a b", ADVICE]})
    in_columns = stage.reason_with(stage.verbs.bases(), stage.verbs.ing_forms())
    assert frame.select(stage.reason()).to_series().to_list() == frame.select(in_columns).to_series().to_list()


def test_views_and_strings_that_cannot_be_are_errors():
    asked = OPEN.screen((), ())
    loop, classes, limits = screen.advice_reasons, packaged(screen.CLASSES), asked.limits
    assert loop is not None
    outside = (40).to_bytes(4, "little") + bytes(4) + (0).to_bytes(4, "little") + (9).to_bytes(4, "little")
    with pytest.raises(ValueError, match="does not lie in its buffer"):
        loop(outside, (b"x" * 48,), classes, limits, (), (), frozenset(), frozenset())
    with pytest.raises(ValueError, match="classes of 5 characters"):
        loop(b"", (), b"12345", limits, (), (), frozenset(), frozenset())
    with pytest.raises(ValueError, match="empty"):
        loop(b"", (), classes, limits, (b"",), (), frozenset(), frozenset())
    with pytest.raises(ValueError, match="not in order"):
        loop(b"", (), classes, limits, (b"b", b"a"), (), frozenset(), frozenset())
    with pytest.raises(ValueError, match="more than 64"):
        loop(b"", (), classes, limits, (b"x",) * 65, (), frozenset(), frozenset())
