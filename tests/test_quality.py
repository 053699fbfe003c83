"""The published quality rules, our own for prose, and what explains them."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from reinstruct.cli import app
from reinstruct.errors import CorpusError, RecipeError
from reinstruct.explain import METHODS, explain, read_text
from reinstruct.identity import describe, restore
from reinstruct.records import Document, Drop
from reinstruct.settings import presets_of
from reinstruct.stages.quality import (
    PRESETS,
    C4Quality,
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    preset,
)
from reinstruct.stages.quality_c4 import KeepC4Lines, sentences
from reinstruct.stages.quality_english import CUT
from reinstruct.stages.quality_prose import Prose
from reinstruct.stages.quality_rules import KeepAll, reasons
from reinstruct.stages.quality_words import cut
from reinstruct.stages.text import SelectAdvice

NOUNS = ("river", "mill", "harbour", "orchard", "bridge", "market", "lantern", "ferry", "valley", "tower")
PROSE = """\
The miller closed the sluice before the frost came, and nobody in the village had fresh bread for a week.

Most families kept a sack of rye in the attic. Those who did not went to the neighbours, and were seldom sent away.

On the third day a carter arrived with news of the road. Snow had blocked the pass, he said, but the bridge still held.

So the children were let out of school to clear the lane. They worked until dusk with shovels borrowed from the smithy.

By Sunday the wheel turned again. People say that the first loaf was given to the teacher, who would not eat it alone.
"""
FRENCH = "Le meunier ferma la vanne avant le gel, et personne au village ne reçut de pain pendant la semaine. " * 6
CHINESE = "磨坊主在霜冻前关上了水闸，村里整整一个星期没有面包。" * 12
CODE = "\n".join(f"def area_{n}(width, height):\n    result = width * height\n    return result;" for n in range(20))
LIST = "Pages\n" + "\n".join(f"- Chapter {n}: the {noun} and the town" for n, noun in enumerate(NOUNS * 3))


def lines(n: int) -> str:
    return "".join(f"Line {k} of the mill\n" for k in range(n))


def found(filter_: object, *texts: str) -> list[str | None]:
    return pl.DataFrame({"text": list(texts)}).select(filter_.reason()).to_series().to_list()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ("don't", "do n't"),
        ("(Mr.", "( Mr."),
        ("e.g.,", "e.g. ,"),
        ("miller's", "miller 's"),
        ('bread."', 'bread . "'),
        ("well-known", "well - known"),
        ("10km", "10 km"),
        ("5pm", "5 pm"),
        ("(US):", "( US ):"),  # two marks that are a face together
        ("a/b", "a / b"),
        ("https://example.org/a-b?c=d", "https://example.org/a-b?c=d"),
        ("10.0.0.1/a-b", "10.0.0.1 / a - b"),  # an address of a private network is none
        ("***bold***", "* * * bold * * *"),
        ("wait...what", "wait ... what"),
        ("$1,000.50!", "$ 1,000.50 !"),
        ("U.S.A.", "U.S.A."),
        ("I'd've", "I 'd 've"),
    ],
)
def test_pieces_are_cut_as_the_published_filters_cut_them(piece: str, words: str):
    assert cut(pl.Series([piece]))[0].split(CUT) == words.split()


def test_prose_passes_every_rule_set():
    for name in ("gopher", "c4", "fineweb", "web", "general", "general-other"):
        assert found(preset(name), PROSE) == [None], name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("\n\n".join(["One paragraph again."] * 4), "repeated_paragraphs"),
        ("\n".join([*(f"Line {n} is new." for n in range(5)), *["The same line."] * 5]), "repeated_lines"),
        ("\n".join([*(f"L{n}" for n in range(9)), *["The same line is long."] * 2]), "repeated_line_chars"),
        ("buy now " * 60, "commonest_2_words"),
        (PROSE + PROSE.replace("\n\n", " "), "repeated_5_words"),
    ],
)
def test_repetition_is_named(text: str, reason: str):
    assert found(GopherRepetition(), text) == [reason]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short to say.", "few_words"),
        ("a b c d e f g h " * 20, "short_words"),
        ("internationalisation " * 60, "long_words"),
        (PROSE + " #" * 200, "hashes"),
        (PROSE + " …" * 200, "ellipses"),
        ("\n".join(f"- the {noun} of the town" for noun in NOUNS * 3), "bullet_lines"),
        ("\n".join(f"the {noun} of the town is by the hill..." for noun in NOUNS * 3), "ellipsis_lines"),
        (PROSE + " 20123" * 200, "few_lettered_words"),
        ("river bridge market tower " * 20, "few_stop_words"),
    ],
)
def test_what_is_no_prose_is_named(text: str, reason: str):
    assert found(GopherQuality(), text) == [reason]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE + "\nThey wrote lorem ipsum there.", "filler_text"),
        (PROSE + "\nThey wrote { in every line.", "curly_bracket"),
        (PROSE + "\nOur javascript wrote { there.", None),
        (PROSE + "\nNo full stop { here", None),
        ("One line of it. And two. And three [1]. And so on.", "few_sentences"),
        ("One line of it. And two. And three [1]. And so on. And five!", None),
        ("Mr. Smith came to the mill. So did Dr. Jones, as he said.", "few_sentences"),
    ],
)
def test_c4_judges_by_good_lines(text: str, reason: str | None):
    assert found(C4Quality(), text) == [reason]


def test_c4_lines_are_kept_alone():
    text = "Home | About\nThe mill stands by the river.[12]\nPlease enable javascript now.\nTwo words.\nIt is old..."
    kept = KeepC4Lines().apply(Document(id="d", text=text))
    assert isinstance(kept, Document)
    assert kept.text == "The mill stands by the river."
    assert KeepC4Lines().apply(Document(id="d", text="Home")) == Drop("no_good_lines")


def test_sentences_end_at_marks_and_not_at_abbreviations():
    lines = ['He met Mr. Hill. "Good!" he said.', "One", "What?! No."]
    assert sentences(pl.Series(lines)).to_list() == [3, 1, 2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n ", "no_lines"),
        ("\n".join(f"the {noun} of the town" for noun in NOUNS), "few_ended_lines"),
        ("\n".join(f"The {noun}." for noun in NOUNS), "short_lines"),
        (PROSE + "\n\n" + PROSE[:300], "line_repeats"),
        (PROSE + "\n" * 200, "newlines"),
    ],
)
def test_fineweb_rejects_lists_and_repeats(text: str, reason: str):
    assert found(FineWebQuality(), text) == [reason]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A few words.", "few_words"),
        (CHINESE, "foreign_script"),
        (FRENCH, "wrong_language"),
        (CODE, "code_lines"),
        (LIST, "list_lines"),
        ("\n".join(f"See https://example.org/{noun} for the {noun} of the town." for noun in NOUNS), "link_lines"),
    ],
)
def test_what_a_page_is_comes_first(text: str, reason: str):
    assert found(Prose(), text) == [reason]


def test_prose_of_other_scripts_has_its_own_presets():
    story = CHINESE.replace("磨坊主", "老磨坊主")
    assert found(preset("general-han"), story, PROSE) == [None, "foreign_script"]
    assert found(preset("general-other"), FRENCH, CHINESE, CODE) == [None, None, "code_lines"]


def test_filters_together_say_the_first_reason():
    together = KeepAll((GopherQuality(), C4Quality()))
    assert found(together, PROSE, "Short {.", PROSE + "\nThey wrote { there.") == [None, "few_words", "curly_bracket"]


def test_every_threshold_counts():
    assert found(GopherQuality(min_words=10_000), PROSE) == ["few_words"]
    assert found(GopherRepetition(max_repeated_5=0.9), PROSE + PROSE.replace("\n\n", " ")) == ["repeated_6_words"]
    assert found(C4Quality(min_sentences=1000), PROSE) == ["few_sentences"]
    assert found(Prose(stop_words=(), script=""), FRENCH) == [None]


def test_no_text_gives_no_reason():
    assert reasons([GopherQuality()], pl.Series([], dtype=pl.String))[0].to_list() == []


def test_presets_are_values_of_the_plan():
    for filter_ in PRESETS.values():
        assert restore(describe(filter_), {}) == filter_
    with pytest.raises(RecipeError, match=re.escape("'gofer' (did you mean 'gopher'?)")):
        preset("gofer")


def test_explain_shows_every_rule_and_marks_the_first():
    judged = explain("A few words.")
    assert [rule.reason for rule in judged if rule.first] == ["few_words"]
    assert next(rule.value for rule in judged if rule.reason == "few_words") == 3
    assert not any(rule.broken for rule in explain(PROSE, "web"))
    repeated = {rule.reason: rule.value for rule in explain(PROSE, "gopher")}["repeated_5_words"]
    assert repeated == 0


def test_explain_on_the_command_line(tmp_path: Path):
    page = tmp_path / "page.txt"
    page.write_text(PROSE)
    runner = CliRunner()
    assert "kept by web" in runner.invoke(app, ["explain", str(page), "--rules", "web"]).output
    assert "rejected by general: few_words" in runner.invoke(app, ["explain", "-"], input="A few words.").output
    with pytest.raises(CorpusError, match=r"no file missing\.txt"):
        read_text("missing.txt")


@pytest.mark.parametrize("text", ["word " * 80, "word" * 80, "河水" * 200 + ".x", "nul\0", "one line.\ntwo.x"])
def test_a_text_that_no_file_can_be_named_like_is_itself(text: str):
    assert read_text(text) == text


def test_explained_are_texts_in_utf8_alone_read_as_a_corpus_is(tmp_path: Path):
    page = tmp_path / "page.txt"
    page.write_bytes("\ufeffcafé\r\nau lait".encode())
    assert read_text(str(page)) == "café\nau lait"
    page.write_bytes(b"caf\xe9")
    with pytest.raises(CorpusError, match=r"page\.txt is not UTF-8: byte 3 is 0xe9"):
        read_text(str(page))
    with pytest.raises(CorpusError, match="the text is not UTF-8: byte 3 is 0xe9"):
        read_text("caf\udce9 au lait")  # as a byte of an argument comes that is none
    piped = CliRunner().invoke(app, ["explain", "-"], input=b"caf\xe9 au lait")
    assert "standard input is not UTF-8: byte 3 is 0xe9" in str(piped.exception)


def han(n: int, mark: str = "") -> str:
    return mark + "".join(chr(0x4E00 + (7 * k) % 900) for k in range(n))


@pytest.mark.parametrize(
    ("name", "kept", "rejected", "reason"),
    [
        ("air", "word " * 50, "word " * 49, "few_words"),
        ("air", "word " * 2048, "word " * 2049, "many_words"),
        ("air", "ab " * 60 + "+" * 10 + " ." * 110, "ab " * 60 + "+" * 10 + " ." * 111, "symbols"),
        ("air", lines(18) + lines(2), lines(17) + lines(2), "repeated_lines"),
        ("air", "word " * 60 + "=" * 10, "word " * 60 + "=" * 11, "char_run"),
        ("kun", han(20), han(19), "few_words"),
        ("kun", han(512), han(513), "many_words"),
        ("kun", han(20) + " word" * 20, han(20) + " word" * 21, "few_cjk"),
    ],
)
def test_bounds_on_documents_are_included(name: str, kept: str, rejected: str, reason: str):
    assert found(preset(name), kept, rejected) == [None, reason]


@pytest.mark.slow
@pytest.mark.parametrize("rules", [*PRESETS, *METHODS])
def test_explain_says_what_the_filter_says(rules: str):
    filters = {"reinstruct": SelectAdvice(), "reinstruct-compat": SelectAdvice(compat=True)}
    filters |= {f"reinstruct-{name}": make() for name, make in presets_of(SelectAdvice).items()} | PRESETS
    for text in (PROSE, FRENCH, CHINESE, CODE, LIST, "", "A word."):
        judged = explain(text, rules)
        first = [rule.reason for rule in judged if rule.first]
        assert bool(first) == any(rule.broken for rule in judged)
        if rules in filters:
            assert first == [reason for reason in found(filters[rules], text) if reason]


def test_explain_judges_a_segment_under_its_header():
    body = (
        PROSE + "\nLater a brass plate was put up beside the sluice, with the names of those who had carried the rye."
    )
    judged = {rule.reason: rule for rule in explain(f"Intro.\n\n# FORUM NEWS\n\n{body}", "humpback")}
    assert judged["too_short"].value == len(body)
    assert [name for name, rule in judged.items() if rule.broken] == ["capital_header", "navigation_header"]
    assert judged["capital_header"].first
    assert judged["repetitive"].value == 0
    twice = {rule.reason: rule.broken for rule in explain(f"# News\n\n{body}\n{body}", "humpback")}
    assert twice == {reason: reason == "repetitive" for reason in twice}


def test_explain_compares_no_sentences_of_a_text_that_is_too_long_anyway():
    """A book's, each with each, would take minutes."""
    book = " ".join(f"Mile {n} of the river leads past mill {n} to the town." for n in range(40_000))
    judged = explain(f"# The river\n\n{book}", "humpback")
    assert [(rule.reason, rule.first) for rule in judged if rule.broken] == [("too_long", True)]
    assert (judged[-1].reason, judged[-1].value) == ("repetitive", None)


def test_lines_that_end_a_sentence_are_no_stubs():
    story = "\n".join(f"The {noun} slept." for noun in NOUNS * 3)
    menu = "\n".join(f"The {noun}" for noun in NOUNS * 6)
    assert [rule.value for rule in explain(story) if rule.reason == "stub_lines"] == [pytest.approx(0, abs=0.1)]
    assert found(Prose(), menu) == ["stub_lines"]


def test_numbered_steps_are_no_list():
    steps = "\n".join(f"{n}. Carry the {noun} to the mill and wait for the carter." for n, noun in enumerate(NOUNS))
    entries = steps.replace("carter.", "carter")
    assert found(Prose(min_language=0, min_stop_words=0), steps, entries) == [None, "list_lines"]


def test_a_line_like_code_among_long_ones_does_not_make_code():
    assert found(Prose(), "<br>\n" + PROSE.replace("\n\n", " ") + "\n<hr>") == [None]
    assert found(Prose(min_code_chars=0.0), "<br>\n" + PROSE.replace("\n\n", " ") + "\n<hr>") == ["code_lines"]
