"""Licences, paragraphs, the split by source, and what a base model is asked."""

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.llm import Reply
from reinstruct.plan import Model
from reinstruct.records import Document, Drop, Pair
from reinstruct.stages.prose import ContinueText, HoldOutSources, KeepLicences, KeepParagraphs, WriteOn, plain


def reasons(licences, *given):
    return pl.DataFrame({"licence": list(given)}).select(KeepLicences(licences).reason()).to_series().to_list()


def prose(text, **settings):
    kept = KeepParagraphs(**settings).apply(Document(id="d", text=text))
    return kept.reason if isinstance(kept, Drop) else kept.text


def test_a_licence_is_kept_for_a_part_of_its_name():
    given = ("Public domain", "CC0-1.0 (US Government public domain)", "MIT", "", "CC-BY-4.0")
    assert reasons(("public domain",), *given) == [None, None, "other_licence", "no_licence", "other_licence"]
    assert reasons(("mit", "by-4"), *given) == ["other_licence"] * 2 + [None, "no_licence", None]
    assert reasons(("C.0",), "CC0") == ["other_licence"]
    assert reasons((), *given) == [None] * 5


def test_paragraphs_are_unwrapped_and_made_plain():
    text = "A river runs from the hills\nto the sea, and “never” stops—so they say.\n\nThe *mills* turn [all day](/x)."
    assert prose(text) == (
        'A river runs from the hills to the sea, and "never" stops - so they say.\nThe mills turn all day.'
    )


def test_items_that_are_sentences_keep_their_lines():
    text = "Before you leave:\n\n- Close the window of the room.\n- Keys\n- Switch the light off,\n  and go."
    assert prose(text) == ("Before you leave:\n- Close the window of the room.\n- Switch the light off, and go.")


@pytest.mark.parametrize(
    "line",
    [
        "x = open(path)",
        "Call the function make_river(n) now.",
        "See https://example.org for all the rest.",
        "| name | length of the river |",
        "Length 3 4 5 6 7 8 9 10 11 12 13.",
        "Река течёт с холмов к морю и не останавливается.",
        "and so it goes without an end",
        "The request is sent to /api/v2/rivers by the client.",
    ],
)
def test_what_is_no_english_sentence_goes(line):
    assert prose(line) == "no_prose"
    assert prose(f"{line}\n\nRivers run to the sea.") == "Rivers run to the sea."


def test_a_heading_stays_where_a_paragraph_follows():
    kept = "Rivers run to the sea."
    assert prose(f"# On rivers\n\n{kept}") == f"On rivers\n{kept}"
    assert prose(f"On rivers\n\nx = 3\n\n{kept}") == kept
    assert prose(f"{kept}\n\nOn mills") == kept
    assert prose(f"No!\n\n{kept}") == f"No!\n{kept}"
    assert prose(f"ON RIVERS\n\n{kept}") == kept
    assert prose(f"A heading of far more words\n\n{kept}", max_heading_words=5) == kept


def test_plain_text_stays_as_it_is():
    text = "It's 'so', they said - 5 * 3 * 2 and snake_case_name stay.\nAs does this."
    assert plain(text) == text


@pytest.mark.parametrize("wrong", [{"min_words": 0}, {"min_prose": 1.5}, {"max_other": -1}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(RecipeError, match=f"KeepParagraphs.{next(iter(wrong))} is"):
        KeepParagraphs(**wrong)


def test_parts_of_a_source_are_on_one_side():
    books = [
        [Document(id=f"{n}.{part}", text="x", source=f"books/{n}.md#{part}") for part in range(3)] for n in range(200)
    ]
    sides = [{HoldOutSources(0.2, "test").apply(part) is part for part in book} for book in books]
    assert all(len(side) == 1 for side in sides)
    assert 20 < sum(True in side for side in sides) < 60
    for book in books:
        for part in book:
            tested = HoldOutSources(0.2, "test").apply(part) is part
            assert (HoldOutSources(0.2, "train").apply(part) is part) is not tested


def test_documents_of_a_named_collection_are_drawn_one_by_one():
    documents = [Document(id=f"{n}", text="x", source="wikipedia") for n in range(200)]
    tested = sum(HoldOutSources(0.2, "test").apply(document) is document for document in documents)
    assert 20 < tested < 60


def test_a_text_is_continued_from_its_first_sentence():
    text = "One river runs. " + "It runs on and on. " * 9
    example = ContinueText(max_chars=60).apply(Document(id="d", text=text))
    assert (example.prompt, example.target) == ("One river runs. ", "It runs on and on. " * 2 + "It runs on and on.")
    assert ContinueText().apply(Document(id="d", text="One river.")) == Drop("one_sentence")


def test_what_a_model_writes_ends_with_a_sentence():
    stage, document = WriteOn(Model("m")), Document(id="d", text="One river runs. It runs on.")
    assert stage.prompt(document) == "One river runs."
    cut = stage.parse(document, Reply(" It ends. And th", finish="length"))
    assert isinstance(cut, Pair)
    assert (cut.instruction, cut.output) == ("One river runs.", "It ends.")
    assert stage.parse(document, Reply(" And so on", finish="stop")).output == "And so on"
    assert stage.parse(document, Reply(" And so", finish="length")).reason == "no_sentence"
