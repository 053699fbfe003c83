"""The selection stages: compat against an independent reading of the release's rules, and what the default mends."""

from __future__ import annotations

import json
import random
import re
import sys
from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest

from reinstruct.identity import describe, restore
from reinstruct.stages import select
from reinstruct.stages.text import KeepLengths, KeepProse, SelectAdvice, keep_like_release

ROWS = [
    ["add", "adds", "added", "added", "adding"],
    ["bake", "bakes", "baked", "baked", "baking"],
    ["check", "checks", "checked", "checked", "checking"],
    ["keep", "keeps", "kept", "kept", "keeping"],
    ["mix", "mixes", "mixed", "mixed", "mixing"],
    ["pour", "pours", "poured", "poured", "pouring"],
    ["rinse", "rinses", "rinsed", "rinsed", "rinsing"],
    ["set", "sets", "set", "set", "setting"],
    ["stir", "stirs", "stirred", "stirred", "stirring"],
    ["try", "tries", "tried", "tried", "trying"],
    ["use", "uses", "used", "used", "using"],
    ["wait", "waits", "waited", "waited", "waiting"],
]
PRONOUNS = ("we ", "our ", "i ", "i've ", "we've ", "we're ", "my ", "he ", "she ", "us ")
BANNED = ("...", "…", "™", "#", "&", "*", "®", "@")


def oracle(text: str) -> bool:
    """The released rules, written down a second time in plain Python."""
    if len(text) < 1200 or len(text) > 3000 or any(mark in text for mark in BANNED):
        return False
    low = text.lower()
    if sum(low.count(" " + item) + low.count("\n" + item) for item in PRONOUNS) > 2 or text.count("?") > 1:
        return False
    if sum(token == token.upper() for token in text.replace("\n", " ").split()) > 2:
        return False
    openers = [found[1:-1] for found in re.findall("\n[a-z]+ ", low)]
    if len(set(openers)) < len(openers) - 1:
        return False
    for column in (0, -1):
        verbs = sum(opener in {row[column] for row in ROWS} for opener in openers)
        if 4 <= verbs <= 10 and text.count("\n") < verbs + 2:
            return True
    return False


SPACES = [" "] * 30 + ["  ", "\t", "\xa0", "\x1c", "\x1f", "\x85", "\u2028", "\u3000", "\u200b", "\x0b", "\r", "\ufeff"]
WORDS = ["the", "a", "bowl", "water", "until", "it", "boils", "for", "ten", "minutes", "and", "then", "slowly", "flour"]
ODD = (
    *(
        "I",
        "2.",
        "-",
        "1990",
        "NASA",
        "漢字",
        "ß",
        "ŉ",
        "ẞ",
        "ǅ",
        "\u0345",
        "A\u0345",
        "ͅB",
        "ﬁ",
        "K",
        "İ",
        "ı",
        "ſ",
        "Σ",
    ),
    *(
        "ς",
        "ª",
        "ⅷ",
        "Ⅷ",
        "ⓐ",
        "𐐀",
        "𐐨",
        "\ud800",
        "\udfff",
        "A\udc00",
        "\x00",
        "é",
        "É",
        "e\u0301",
        "💧",
        "Ა",
        "ა",
        "ʰ",
    ),
)
RARE = ("we", "our", "I", "i", "I've", "we've", "We're", "my", "He", "she", "us", "i i", "we we", "i’ve", "?", "??")
STARTS = ("the", "this", "İf", "\u212aeep", "add,", "use", "Don't", "2.", "", "é", "\t", "i", "we", "my i", " add")


def advice(rng: random.Random) -> str:
    """A text that is often, not always, kept: all thresholds lie within the spread."""
    column = rng.choice((0, 0, 0, -1))
    target = rng.choice((1199, 1200, 1201, 2998, 2999, 3000, 3001, *(rng.randrange(1200, 3000) for _ in range(9))))
    count = rng.randrange(3, 12)
    verbs = rng.sample([row[column] for row in ROWS], count)
    if rng.random() < 0.2:
        verbs[1] = verbs[0]
    if rng.random() < 0.1:
        verbs[2] = rng.choice([row[0] for row in ROWS])
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        verbs.insert(rng.randrange(len(verbs)), rng.choice(STARTS))
    lines = ["Good things to know"]
    for verb in verbs:
        lines.append(rng.choice((str.title, str, str.upper if rng.random() < 0.2 else str))(verb) + " it")
        while len(lines[-1]) < target // (len(verbs) + 1):
            lines[-1] += rng.choice(SPACES) + rng.choice(WORDS)
    text = "\n".join(lines)
    for pool, most in ((ODD, 4), (RARE, 4), (BANNED, 1)):
        for _ in range(rng.choice((0, 0, 0, 0, 1, most))):
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice((" ", "\n", "", "\t")) + rng.choice(pool) + rng.choice((" ", "")) + text[at:]
    return text[:target] + "x" * (target - len(text))


def counted(expression: pl.Expr, texts: list[str]) -> list[int]:
    return pl.DataFrame({"text": texts}).select(expression).to_series().to_list()


@pytest.mark.slow
def test_compat_decides_as_the_release_on_random_texts():
    rng = random.Random(7)
    texts = [advice(rng) for _ in range(2000)]
    expected = [oracle(text) for text in texts]
    assert 400 < sum(expected) < 1600
    assert keep_like_release(texts, ROWS) == expected


def test_compat_decides_as_the_release_on_edge_texts():
    verb_lines = [f"\n{row[0].title()} it " for row in ROWS]
    body = "Start" + "".join(verb_lines[:5])
    padded = [(body + "x" * 3001)[:length] for length in (0, 1, 1199, 1200, 3000, 3001)]
    additions = [
        " i i ",
        "\ni i ",
        " i i i i i ",
        " US us Us ",
        " A 2. ",
        " A 2. -",
        " A\x1c2.\x85-",
        " 漢 字 ",
        " 漢 字 語 ",
    ]
    additions += [
        "?",
        "??",
        "…",
        "..",
        "...",
        "\x00",
        "\ud83d\ude00",
        "\udc00 \udc01 \udc02",
        "\n",
        "\n\n",
        "\r\n",
        "\n\n\n",
    ]
    additions += [
        "\n\u212aeep it",
        "\nİ i",
        " 1 2 ẞ",
        " 1 2 ŉ",
        " 1 2 \u0345",
        " 1 2 ª",
        "\nadd x",
        "\nadd x\nadd y\nadd z",
    ]
    for count in range(13):
        additions.append("".join(verb_lines[5:count]))
        padded.append("Start" + "".join(verb_lines[:count]) + "y" * 1500)
    texts = [*padded, *((body + addition + "x" * 1500)[:2000] for addition in additions), "a" * 3_000_000, "\n" * 2000]
    expected = [oracle(text) for text in texts]
    assert {True, False} <= set(expected)
    assert keep_like_release(texts, ROWS) == expected


def test_pronouns_are_counted_as_by_str_count():
    rng = random.Random(3)
    pieces = [" ", " ", " ", "  ", "\n", "i", "we", "we", "i've", "my", "us", "he", "she", "s", "\t", "our"]
    texts = ["".join(rng.choice(pieces) for _ in range(40)) for _ in range(2000)]
    expected = [sum(text.count(before + item) for item in PRONOUNS for before in " \n") for text in texts]
    items = tuple(item.rstrip() for item in PRONOUNS)
    assert max(expected) > 5
    assert counted(select.release_pronouns(pl.col("text"), items), texts) == expected


@pytest.mark.slow
def test_capital_tokens_agree_with_python_for_every_code_point():
    codes = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    texts = [f"x{chr(code)}A {chr(code)}" for code in codes]
    expected = [sum(token == token.upper() for token in text.split()) for text in texts]
    assert counted(select.release_capital_words(pl.col("text")), texts) == expected


@pytest.mark.slow
def test_lower_case_agrees_with_python_where_rules_look():
    """The rules look at ASCII alone, so only characters that become ASCII matter."""
    codes = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    lowered = pl.Series([chr(code) for code in codes]).str.to_lowercase().to_list()
    ascii_of = [lower.encode("ascii", "ignore") for lower in lowered]
    assert ascii_of == [chr(code).lower().encode("ascii", "ignore") for code in codes]


def test_keep_like_release_takes_a_file_of_verbs(tmp_path):
    path = tmp_path / "verbs.json"
    path.write_text(json.dumps(ROWS))
    text = ("Start" + "".join(f"\n{row[0]} it " for row in ROWS[:5]) + "x" * 2000)[:2000]
    assert keep_like_release([text], path) == keep_like_release([text], str(path)) == [True]
    assert keep_like_release([], ROWS) == []


def reasons(stage, *texts: str) -> list[str | None]:
    return pl.DataFrame({"text": list(texts)}).select(stage.reason().alias("reason"))["reason"].to_list()


STEPS = ("Rinse the rice.", "Add cold water.", "Stir it once.", "Wait for ten minutes.", "Check that it is soft.")
FILL = " Take all the time that this needs and do not hurry, for haste makes a dull dish of good things." * 3


def recipe(steps=STEPS, *, fill: str = FILL, end: str = "\n") -> str:
    return end.join(step + fill for step in steps)


def test_default_keeps_advice_and_names_the_first_broken_rule():
    cases = {
        recipe(): None,
        "Rinse.": "too_short",
        recipe() * 3: "too_long",
        recipe() + " Nice...": "odd_punctuation",
        recipe() + " We think our rice is what I like.": "personal_pronouns",
        recipe() + " Why? How?": "questions",
        recipe() + " The FDA, WHO, and EPA agree.": "capital_words",
        recipe([STEPS[0]] * 3 + list(STEPS[1:])[:2]): "repeated_openers",
        recipe(["The rice.", "A pot.", "It boils.", "That is all.", "Soft."]): "few_verb_openers",
        recipe([f"{row[0]} it." for row in ROWS], fill=FILL[:98]): "many_verb_openers",
        recipe([*STEPS[:4], "The pan.", "A lid.", "Your rice."], fill=FILL[:200]): "other_paragraphs",
    }
    assert reasons(SelectAdvice(), *cases) == list(cases.values())


@pytest.mark.parametrize(
    "text",
    [
        recipe(end="\n\n"),
        recipe([f"{number}. {step}" for number, step in enumerate(STEPS, 1)]),
        recipe([f"- {step}" for step in STEPS]),
        recipe([f"Step {number}: {step}" for number, step in enumerate(STEPS, 1)]),
        recipe(["Rinse, then dry.", "“Add” water.", "Stir: once.", "Wait!", "(Check it.)"]),
        recipe(STEPS[:4]),  # the first paragraph is one of the four
        recipe() + " 1990 - A 2. I. 漢 字 語 漢 字",
        recipe() + " Our US and US rice, i.e. from there.",
    ],
)
def test_default_understands_what_the_release_missed(text: str):
    assert reasons(SelectAdvice(), text) == [None]
    assert reasons(SelectAdvice(compat=True), text) != [None]


@pytest.mark.parametrize(
    "text",
    [
        "I say: " + recipe() + " “We know.” (He does.)",
        recipe() + " I’ve, we’re and we’ve.",
        recipe() + "\nMy, our, us.",
    ],
)
def test_default_finds_pronouns_by_word(text: str):
    assert reasons(SelectAdvice(), text) == ["personal_pronouns"]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n \n", "\n\n\n", "  \n\t"])
def test_default_takes_any_line_ends(end: str):
    """Eleven more breaks than openers would be too many if blank lines counted."""
    assert reasons(SelectAdvice(), recipe(end=end), recipe(STEPS[:3], end=end)) == [None, "too_short"]
    assert reasons(SelectAdvice(), end * 9 + recipe(["Rice.", *STEPS[:4]], end=end) + end * 9) == [None]


def test_every_threshold_counts():
    text = recipe() + " It is. It is."
    changes = {
        "too_short": {"min_chars": len(text) + 1},
        "too_long": {"max_chars": len(text) - 1},
        "odd_punctuation": {"banned": ("!", "rice")},
        "personal_pronouns": {"pronouns": ("you", "it")},
        "questions": {"max_question_marks": -1},
        "capital_words": {"max_capital_words": -1},
        "repeated_openers": {"repeated_openers": -1},
        "few_verb_openers": {"min_verbs": 6},
        "many_verb_openers": {"min_verbs": 1, "max_verbs": 4},
        "other_paragraphs": {"extra_lines": -1},
        "few_words": {"prose": KeepProse(min_words=10_000)},
    }
    assert reasons(SelectAdvice(), text) == [None]
    assert {reason: reasons(SelectAdvice(**change), text)[0] for reason, change in changes.items()} == {
        reason: reason for reason in changes
    }


PROSE = (
    "The parser reads one line at a time and keeps what it has seen in a small table. When a name is not in the "
    "table, it is looked up in the file that you gave, and the answer is kept for the next time. If the file has "
    "changed since then, all that was kept is thrown away and the work begins again from the top of the file."
)
CODE = "def f(x):\n    return {x: x + 1}\n\n>>> f(1)\n{1: 2}\nimport os\nfor a in b:\n    c = d(a)\n" * 6
MENU = "Home\nAbout us\nOur products\nContact\nSign in\nPrivacy\nTerms of use\nSite map. Help. Jobs.\n" * 8
GERMAN = "Der Parser liest eine Zeile nach der anderen und merkt sich alles. Ist ein Name neu, wird er gesucht. " * 5


def test_loose_keeps_prose_alone():
    stage = SelectAdvice.loose()
    assert reasons(stage, PROSE, f"* {PROSE}\n\n# Notes & more @ home...") == [None, None]
    assert all(reasons(stage, CODE, MENU, GERMAN, "I saw him. He saw me. " * 20, "Too short."))


def test_prose_names_what_is_wrong():
    wrong = {MENU: "stub_lines", GERMAN: "few_stop_words", "One. Two. Three.": "few_words"}
    wrong[PROSE.replace(". ", ", ")] = "few_sentences"
    wrong[PROSE + " 123456789" * 30] = "few_letters"
    wrong[PROSE + "\n>>> the one that is here" * 3] = "code_lines"
    assert reasons(KeepProse(), *wrong) == list(wrong.values())
    assert reasons(replace(KeepProse(), stop_words=()), GERMAN) == [None]


def test_pronouns_per_window():
    stage = replace(SelectAdvice.loose(), max_pronouns=1, pronoun_window=len(PROSE), max_chars=10_000)
    assert reasons(stage, PROSE + " I see. I do.", PROSE * 4 + " I see. I do.") == ["personal_pronouns", None]


def test_keep_lengths_counts_code_points_and_includes_bounds():
    stage = KeepLengths(field="text", min_chars=2, max_chars=3)
    assert reasons(stage, "é", "éé", "💧💧💧", "abcd") == ["too_short", None, None, "too_long"]


def test_stages_are_values_of_the_plan():
    stages = [SelectAdvice(), SelectAdvice(compat=True), SelectAdvice.loose(), KeepProse(), KeepLengths()]
    assert [restore(json.loads(json.dumps(describe(stage))), {}) for stage in stages] == stages
    assert all(describe(a, identity=True) != describe(b, identity=True) for a, b in pairwise(stages))


def test_white_space_of_any_kind_and_length_is_one_space():
    draw = random.Random(3)
    pieces = [*SPACES, "\n", "\n\n", " \n", "\u2003\t", "A", "bc", "É", "水", "'"]
    texts = ["".join(draw.choices(pieces, k=draw.randint(0, 30))) for _ in range(3000)]
    text = pl.Series("text", texts).to_frame()
    plainly = pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    assert text.select(select.one_line(pl.col("text"))).equals(text.select(plainly))


@pytest.mark.parametrize("most", [0, 1, 2, 4])
def test_capital_words_are_looked_for_as_they_are_counted(most):
    draw = random.Random(4)
    pieces = [*SPACES[30:], " ", " ", "\n", "AB", "A", "b", "U.S.", "ÉÀ", "iPHONE", "X-", "9", "ǅ", "Ä", "水"]
    texts = ["".join(draw.choices(pieces, k=draw.randint(0, 30))) for _ in range(3000)]
    text = pl.Series("text", texts).to_frame()
    more = text.select(select.capital_words(pl.col("text")) > most).to_series()
    assert 0 < more.sum() < len(more)
    assert text.select(select.more_capital_words(pl.col("text"), most)).to_series().equals(more)
