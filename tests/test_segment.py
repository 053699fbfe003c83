"""Documents are cut at their headers and nothing is lost; each rule on segments is kept once and broken once."""

from dataclasses import replace

import pytest

from reinstruct.records import Document, Drop
from reinstruct.stages.segment import (
    DropRepetitive,
    KeepWithinContext,
    Segment,
    SegmentRules,
    SplitAtHeaders,
)
from reinstruct.tables import Chunk


def cut(text: str, **settings) -> list[tuple[str, str]]:
    found = SplitAtHeaders(**settings).apply(Document(id="d", text=text))
    assert isinstance(found, list)
    assert [segment.id for segment in found] == sorted({segment.id for segment in found})
    return [(segment.header, segment.text) for segment in found]


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("# One\na\n\n## Two ##\nb", [("One", "a"), ("Two", "b")]),
        ("before\n\n# One\na", [("", "before"), ("One", "a")]),
        ("One\n===\na\n\nTwo\n---\nb", [("One", "a"), ("Two", "b")]),
        ("# Empty\n# One\na", [("Empty", ""), ("One", "a")]),
        ("#\nno title", [("", "no title")]),
        ("#hashtag\na", [("", "#hashtag\na")]),
        ("a\n\n---\n\nb", [("", "a\n\n---\n\nb")]),
        ("- item\n---\nb", [("", "- item\n---\nb")]),
        ("| a | b |\n---\nc", [("", "| a | b |\n---\nc")]),
        ("# One\n```sh\n# comment\n```\nb", [("One", "```sh\n# comment\n```\nb")]),
        ("~~~\n```\n# comment\n~~~\n# One\na", [("", "~~~\n```\n# comment\n~~~"), ("One", "a")]),
        ("---\ntitle: x\n---\n# One\na", [("", "---\ntitle: x\n---"), ("One", "a")]),
        ("no header at all", [("", "no header at all")]),
        ("# One\r\na\r\n", [("One", "a")]),
        (
            "<head><title>T</title><style>h1 {}</style></head><body>top<h1>One <i>big</i></h1><p>a &amp; b</p>"
            "<nav>menu</nav><h2>Two</h2>c<br>d<script>no()</script></body>",
            [("", "top"), ("One big", "a & b"), ("Two", "c\nd")],
        ),
        ("<h1>Open", [("Open", "")]),
        ("# One\nWrite `<h1>Title</h1>` in\n# Two\nb", [("One", "Write `<h1>Title</h1>` in"), ("Two", "b")]),
        ("# One\n```\n<div><p><h1>T</h1>\n```\n# Two\nb", [("One", "```\n<div><p><h1>T</h1>\n```"), ("Two", "b")]),
        ("Put `<script>` and `<h2>` first.\n\nThen", [("", "Put `<script>` and `<h2>` first.\n\nThen")]),
        (
            "<p align=center>x</p><p>y</p><h1>Z</h1>\n\n## Use\nb",
            [("", "<p align=center>x</p><p>y</p><h1>Z</h1>"), ("Use", "b")],
        ),
        ("<h1>One</h1>a `<script>` b<h2>Two</h2>c", [("One", "a `<script>` b"), ("Two", "c")]),
        ("<h1>One</h1><pre># a</pre>b<nav>c<h2>Two</h2>d", [("One", "# a\nb c"), ("Two", "d")]),
        (
            "<body>a<script>no()</script><h1>One</h1><p>b<style>c<h2>Two</h2>d",
            [("", "a"), ("One", "b c"), ("Two", "d")],
        ),
        ("<body><!-- no --><h1>One</h1>b<!-- c", [("One", "b c")]),
        ("<div>\n------\n<h1>One</h1><p>a</p>", [("", "------"), ("One", "a")]),
    ],
)
def test_headers_of_markdown_and_html(text, segments):
    assert cut(text) == segments


@pytest.mark.parametrize("part", ["<a ", "<nav ", "<code", "<pre>", "<!--", "```\n"])
def test_marks_without_an_end_are_read_once(part):
    """Read to the end of the text from each, some would take minutes."""
    assert cut("<body>Words. " + part * 40_000)


def test_deeper_headers_stay_in_the_text():
    assert cut("# One\na\n## Two\nb", max_level=1) == [("One", "a\nTwo\nb")]
    assert cut("<h1>One</h1>a<h3>Three</h3>b", max_level=2) == [("One", "a\nThree\nb")]


def test_no_word_of_a_document_is_lost():
    text = "intro\n# A\none\n```\n# two\n```\nB\n===\n- three\n---\nfour\n## \nfive\n~~~\nunclosed\n# six"
    pieces = " ".join(f"{header} {body}" for header, body in cut(text))
    for word in ("intro", "A", "one", "two", "B", "three", "four", "five", "unclosed", "six"):
        assert word in pieces.replace("#", " ").split()


def test_segments_know_where_they_come_from():
    document = Document(id="d", text="# A\nx", url="u", source="s", licence="l")
    (segment,) = SplitAtHeaders().apply(document)
    assert segment == Segment(id="d.1", text="x", header="A", url="u", source="s", licence="l")
    assert SplitAtHeaders().apply(Document(id="d", text=" \n ")) == Drop("empty_document")


GOOD = Segment(id="s", header="How to swim", text="x" * 600)


def reasons(stage, *records) -> list[str | None]:
    return Chunk(type(records[0]), rows=list(records)).frame.select(stage.reason()).to_series().to_list()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"text": "x" * 599}, "too_short"),
        ({"text": "水" * 600}, None),
        ({"text": "x" * 3000}, None),
        ({"text": "x" * 3001}, "too_long"),
        ({"header": " "}, "no_header"),
        ({"header": "HOW TO SWIM"}, "capital_header"),
        ({"header": "1. 2."}, None),
        ({"header": "游泳"}, None),
        ({"header": "User Forums"}, "navigation_header"),
        ({"header": "Quick Links"}, "navigation_header"),
        ({"header": "Advertisement"}, "navigation_header"),
        ({"header": "Get our free newsletter"}, "navigation_header"),
    ],
)
def test_each_rule_on_a_segment(changed, reason):
    fields = {"id": "s", "header": GOOD.header, "text": GOOD.text, **changed}
    assert reasons(SegmentRules(), Segment(**fields)) == [reason]


def test_the_rules_are_settings():
    plain = Segment(id="s", text=GOOD.text)
    assert reasons(SegmentRules(), plain) == ["no_header"]
    assert reasons(SegmentRules.plain(), plain) == [None]
    loud = Segment(id="s", header="SWIM", text="x")
    assert reasons(replace(SegmentRules(), min_chars=1, allow_capitals=True), loud) == [None]
    forum = Segment(id="s", header="Forum", text=GOOD.text)
    assert reasons(SegmentRules(navigation=()), forum) == [None]
    assert reasons(SegmentRules(navigation=("Swim",)), GOOD) == ["navigation_header"]


SENTENCE = "Take the blue boat across the lake before the sun goes down."


def repetitive(text: str, **settings) -> bool:
    found = DropRepetitive(**settings).apply(Segment(id="s", text=text, url="u"))
    if isinstance(found, Drop):
        assert found.reason == "repetitive"
        return True
    assert found == Document(id="s", text=text, url="u")
    return False


def test_a_sentence_said_twice_is_noticed():
    other = "Nobody knows how deep the water is in the middle of it."
    assert not repetitive(f"{SENTENCE} {other}")
    assert repetitive(f"{SENTENCE} {other} {SENTENCE}")
    assert repetitive(f"{SENTENCE}\n{SENTENCE.upper()}")
    assert not repetitive("Go on. Go on. Go on.")
    assert repetitive("Go on. Go on.", min_words=2)
    assert repetitive("坐船过蓝色的湖。坐船过蓝色的湖。")
    assert repetitive("用Python在湖上坐船。我们用Python在湖上坐船。"), "words of two scripts are told apart"


def test_how_much_may_be_alike_is_a_setting():
    one, two = "a b c d e f g h", "a b c d e f x y"  # of 6 + 6 trigrams 4 are shared: 4 of 8
    assert not repetitive(f"{one}. {two}.")
    assert repetitive(f"{one}. {two}.", max_jaccard=0.49)
    assert not repetitive(f"{one}. {two}.", max_jaccard=0.49, ngram=6)


def test_documents_near_the_context_are_dropped_whole():
    stage = KeepWithinContext(context_tokens=100, reserved_tokens=20, chars_per_token=2.5, min_chars=10)
    assert stage.max_chars == 200
    documents = [Document(id=str(n), text="x" * n) for n in (9, 10, 200, 201)]
    assert reasons(stage, *documents) == ["too_short", None, None, "near_context"]
    assert KeepWithinContext().max_chars == 12288
