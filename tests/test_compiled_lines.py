"""The compiled loop reads JSON lines as the row-by-row road does, or leaves them to it: whatever they hold."""

import json
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from reinstruct.corpus.fields import columns_of, convert
from reinstruct.corpus.jsonl import parse
from reinstruct.corpus.typed import DocumentLines
from reinstruct.records import Document, Drop, from_table

compiled = pytest.importorskip("reinstruct._lines", reason="the package was installed without a C compiler")

ROADS = (compiled.text_columns, compiled.text_columns_anywhere)  # the first is what this processor can
LONG = "a long line behind others " * 20
COLUMNS = columns_of(Document, {})
CHARACTERS = some.one_of(
    some.characters(codec="utf-8"),
    some.sampled_from('aZ \\"/\n\t\r\x00\x1f\x7f\u00a0\u1680\u2003\u2028\u3000\ufeff中か한ไ👍\U0010ffff'),
)
TEXTS = some.text(CHARACTERS, max_size=40)
OTHER = some.recursive(
    some.one_of(some.none(), some.booleans(), some.integers(), some.floats(), TEXTS),
    lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
NAMES = some.sampled_from(["text", "id", "url", "source", "licence", "license", "date", "te\\xt", "é"])
ROWS = some.dictionaries(NAMES, some.one_of(TEXTS, OTHER), max_size=6).map(lambda row: {"text": "x", **row})


def row_by_row(block: bytes, columns=COLUMNS):
    rows = [parse(raw) for raw in block.split(b"\n") if raw.strip()]
    return [row if isinstance(row, Drop) else convert(row, Document, columns) for row in rows]


def expect_same(block: bytes, columns=COLUMNS) -> bool:
    """Whether the loop read the block, which is not blank; what it read must be what the rows are, whatever follows and
    however the block is cut into parts.
    """
    is_read: set[bool] = set()
    last = json.dumps({columns["text"][0]: LONG}).encode()
    for whole in (block, block + b"\n" + last):
        for road, size in product(ROADS, (len(whole), 50, 3)):
            parts = [whole[at : at + size] for at in range(0, len(whole), size)]
            table = DocumentLines(columns, road).table(*parts)
            is_read.add(table is not None)
            if table is not None:
                table.validate(full=True)
                assert list(from_table(table, Document)) == row_by_row(whole, columns)
    assert len(is_read) == 1
    return is_read.pop()


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    rows=some.lists(ROWS, min_size=1, max_size=4),
    raw_unicode=some.booleans(),
    spaces=some.booleans(),
    end=some.sampled_from(["\n", "\r\n", " \t\n\n"]),
)
def test_rows_are_those_of_the_row_by_row_road(rows, raw_unicode, spaces, end):
    separators = (" ,  ", "\t: ") if spaces else (",", ":")
    lines = [json.dumps(row, ensure_ascii=not raw_unicode, separators=separators) + end for row in rows]
    expect_same("".join(lines).encode())


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    row=ROWS,
    at=some.integers(0, 200),
    put=some.one_of(
        some.binary(max_size=3), some.sampled_from([b"\\u12", b"\\ud83d", b"\\udc4d", b"}", b'{"', b"-0", b"1e5"])
    ),
    cut=some.integers(0, 3),
)
@example({"text": "\U0001f44d"}, 12, b"", 6)
def test_damaged_rows_are_left_to_the_row_by_row_road_or_read_alike(row, at, put, cut):
    line = json.dumps(row).encode()
    at %= len(line)
    expect_same(line[:at] + put + line[at + cut :] + b'\n{"text": "y"}\n')


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "x"}',
        ' { "text" : "x" , "n" : [ 1 , -2.5e+3 , { "a" : [ ] , "b" : { } } , true , false , null ] } \r',
        r'{"text": "\ud83d\udc4d \u00e9 \"\\\/\b\f\n\r\t"}',
        '{"text": "中文"}',
        '{"text": "かな", "id": 123456789012345678}',
        '{"text": "x", "license": "MIT", "licence": null}',
        '{"text": "x", "license": "MIT", "licence": "later and better"}',
        '{"licence": "better", "text": "x", "license": "longer than the better one"}',
        '{"text": "x", "id": ""}',
        '{"text": "' + "a" * 1000 + "é" * 33 + '"}',
    ],
)
def test_plain_rows_are_read_by_the_loop(line):
    assert expect_same(f'{line}\n\n{{"text": "second", "url": "u"}}'.encode())


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": 5}',
        b'{"text": ["x"]}',
        b'{"text": null}',
        b'{"url": "u"}',
        b'{"text": " \\u00a0\\u3000\\n"}',
        b'{"text": "x", "text": "y"}',
        b'{"te\\u0078t": "y", "text": "x"}',
        b'{"text": "x"} {"text": "y"}',
        b'{"text": "x",}',
        b'{"text": "x", "n": 01}',
        b'{"text": "x", "n": NaN}',
        b'{"text": "x", "id": -0}',
        b'{"text": "x", "id": 1.5}',
        b'{"text": "x", "id": 1234567890123456789}',
        b'{"text": "x", "url": 5}',
        b'{"text": "\\ud83d"}',
        b'{"text": "\\udc4d\\ud83d"}',
        b'{"text": "\\u12"}',
        b'{"text": "tab\there"}',
        b'{"text": "\xc3"}',
        b'{"text": "\xed\xa0\x80 x"}',
        b'{"text": "\xf4\x90\x80\x80 x"}',
        b'{"text": "\xc0\xafx"}',
        b'{"text": "x", "odd": "\xff"}',
        b'{"text": "x"',
        b'{"text": "x',
        b"[]",
        b'{"text": "x", "deep": ' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_rows_that_need_a_look_are_left_to_the_row_by_row_road(line):
    assert not expect_same(line + b"\n")
    assert not expect_same(b'{"text": "good"}\n' + line)


def test_columns_of_other_names_are_read():
    columns = columns_of(Document, {"text": "body", "url": "body", "id": "key"})
    assert expect_same(b'{"body": "b", "key": 7, "text": "no"}\n{"body": "c"}\n', columns)


def test_the_road_without_a_compiler_gives_the_same():
    block = '{"text": "x é \\n", "url": "u"}\n{"text": "y", "id": 3, "n": [1, {"a": 2}]}\n{"text": "中"}\n'.encode()
    looped, decoded = (DocumentLines(COLUMNS, road).table(block) for road in (compiled.text_columns, None))
    assert looped is not None
    assert decoded is not None
    assert looped.equals(decoded)


def test_what_is_special_may_stand_anywhere():
    """Nothing depends on where blocks and parts begin."""
    pieces = [r"\n", r"\"", r"\\", r"\\\"", r"\u00e9", r"\u2019", r"\ud83d\udc4d", "é", "中", "👍", r"\n\n\u2019\"é"]
    lines = [f'{{"text": "{"x" * size}{piece}yz{piece}"}}' for piece in pieces for size in range(0, 131, 3)]
    assert expect_same("\n".join(lines).encode())


@pytest.mark.parametrize(
    "piece", [b"\x1f", b"\n", b"\xff", b"\xc3", b"\xe2\x80", rb"\x", rb"\u12G4", rb"\ud83d", rb"\ude00"]
)
def test_what_is_not_well_formed_is_seen_anywhere(piece):
    for size in range(0, 131, 5):
        assert not expect_same(b'{"text": "' + b"x" * size + piece + b'y"}\n')


def test_many_rows_and_long_ones_are_read():
    lines = [json.dumps({"text": f"{n} {'y' * (n % 700)}", "id": n, "url": "u" * (n % 5)}) for n in range(3000)]
    assert expect_same("\n".join(lines).encode())


def test_wrong_calls_are_errors():
    text_columns = compiled.text_columns
    with pytest.raises(TypeError):
        text_columns((b"{}",), (("text",), 5), 1)
    with pytest.raises(TypeError):
        text_columns(b"{}", (("text",),), 1)
    with pytest.raises(TypeError):
        text_columns((b"{}", 5), (("text",),), 1)
    with pytest.raises(ValueError, match="more than 64 names"):
        text_columns((b"{}",), (tuple(f"n{n}" for n in range(65)),), 1)
    for parts in ((), (b"",), (b"", b"")):
        assert text_columns(parts, (("text",),), 0) is None
    assert text_columns((b"{}",), (), 0) is None
