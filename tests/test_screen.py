"""The compiled loop says of a text what the rules in Polars say, or leaves it to them."""

# ruff: noqa: SIM905

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from reinstruct.stages import screen
from reinstruct.stages.compiled import packaged
from reinstruct.stages.text import KeepProse, SelectAdvice

compiled = pytest.importorskip("reinstruct._advice", reason="the package was installed without a C compiler")

LOOPS = (compiled.advice_reasons, compiled.advice_reasons_anywhere)  # the first is what this processor can

BASES, ING_FORMS = ("mix", "do", "add", "ca", "step", "a", "k", "i", "day", "pre-heat"), ("mixing", "adding", "doing")
# The sign of Kelvin and a dotted capital I have letters of ASCII in lower case.
WORDS = (
    "mix|Mixing|adding |do|don't|Don’t|can't|n't|N’T|do-n't|don't-do|don'ts|don'|ain't-so|pre-heat|a-b'c|mix-|step|A"
    "|don's|éwe|9mix|中文|mİ|İ|\u212a|do-\u212a|"
).split("|")
LIST_MARKS = (
    "|- |-|• |“|‘|([|* |> |#|Step 3:|step 12 – |steps 1.|day1.|rule 1234.|rule 123.|tip ٣)|1.|12)|1 —|(2)|a)|A. |b.c"
    "|(c) |\u212a) | \u2003"
).split("|")
PRONOUNS = (
    "we|We|our|i|I|I've|i’ve|i'vex|we'i|us|US|weird|éwe|we_|my9|9my|i.e|i. e|i.\ne|i.  e|i.\r\n \ne|i.ex|i.eé|I.e|i.e."
    "|i.e\U000e0001|we\U000e0001|é\x7fwe|\x7fwe"
).split("|")
CAPITALS = "?|？|NASA|NA|Na|nASA|N.A|A-B|A-b|A B|É Ü|ÉÜ|Éü|ǅA|A1|A\u2028B|AéB|中文|\U0002b820|ᾳ|ß|ª|é".split("|")
SPACES = "\n|\r\n|\r|\n\n| \n\t\n|\n\u2003\n|\x0b|\x85|\u2028|\u200b|\u200d| |  |\xa0".split("|")
BANNED = ("...", "…", "®", "&")
PIECES = some.one_of(
    some.sampled_from([*WORDS, *LIST_MARKS, *PRONOUNS, *CAPITALS, *SPACES, *BANNED]), some.characters(codec="utf-8")
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
    banned=some.sampled_from([(), BANNED, ("#", "…")]),
    pronouns=some.sampled_from([OPEN.pronouns, (), ("i",), ("we", "we're")]),
    prose=some.sampled_from([None, KeepProse(min_words=2, min_sentences=0)]),
)


def expect_same(stage: SelectAdvice, texts: list[str], bases=BASES, ing_forms=ING_FORMS) -> pl.Series:
    column = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
    asked = stage.screen(bases, ing_forms)
    assert asked.is_known()
    in_columns = stage.reason_with(bases, ing_forms)
    wanted = column.select(in_columns).to_series()
    for loop in LOOPS:
        found = column.select(screen.screened(asked, in_columns, stage.prose.reason() if stage.prose else None, loop))
        assert found.to_series().to_list() == wanted.to_list()
    return wanted


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(stage=STAGES, texts=TEXTS)
@example(OPEN, ["a) mix\n(a) \nstep 3:\n1. do\n'mix' 12345. x"])
def test_the_loop_says_what_the_columns_say(stage, texts):
    expect_same(stage, texts)


LENIENT = replace(
    OPEN, max_chars=1000, banned=(), max_pronouns=99, max_question_marks=99, max_capital_words=99, require_openers=False
)


@pytest.mark.parametrize("filler", ["go on ", "x", "é ", "É", "X-", "We "])
def test_what_stands_anywhere_in_a_text(filler):
    """Nothing depends on where the blocks of bytes that the loop looks at begin."""
    pieces = [*PRONOUNS, *CAPITALS, *SPACES, *BANNED]
    texts = [(filler * size)[:size] + piece + " " + filler * 9 for piece in pieces for size in range(0, 132)]
    expect_same(replace(LENIENT, banned=BANNED), texts)
    for limits in ({"max_pronouns": 0}, {"max_question_marks": 0}, {"max_capital_words": 0}):
        for more in range(3):
            expect_same(replace(LENIENT, **{name: most + more for name, most in limits.items()}), texts)


@pytest.mark.parametrize("second", LIST_MARKS)
def test_lines_begin_with_a_word_behind_all_marks(second):
    stage = replace(LENIENT, require_openers=True, min_verbs=1, max_verbs=1, extra_lines=1, repeated_openers=0)
    texts = [first + second + word for first in LIST_MARKS for word in WORDS]
    expect_same(stage, texts)
    expect_same(replace(stage, min_verbs=2), [f"{text}\nmix" for text in texts])
    expect_same(replace(stage, max_verbs=2, extra_lines=0), [f"mixing\n{text}\nadd" for text in texts])


def test_lengths_that_no_text_has_are_refused_for_the_same_reason():
    texts = ["x" * size for size in (0, 50, 64, 99, 100, 101, 150, 999, 1000, 1001, 2000)]
    for shortest, longest in ((1000, 100), (100, 1000), (65, 64), (0, 0), (5, -1)):
        expect_same(replace(LENIENT, min_chars=shortest, max_chars=longest), [*texts, *(text + "é" for text in texts)])


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
    loop, classes, limits = compiled.advice_reasons, packaged(screen.CLASSES), asked.limits
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
