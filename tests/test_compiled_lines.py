"""The compiled loop reads JSON lines as the row-by-row road does, or leaves them to it: whatever they hold."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from reinstruct.corpus.fields import columns_of, convert
from reinstruct.corpus.jsonl import parse
from reinstruct.corpus.typed import DocumentLines, text_columns
from reinstruct.records import Document, Drop, from_table

pytestmark = pytest.mark.skipif(text_columns is None, reason="the package was installed without a C compiler")

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
    """Whether the loop read the block; what it read must be what the rows are."""
    table = DocumentLines(columns).table(block)
    if table is not None:
        table.validate(full=True)
        assert list(from_table(table, Document)) == row_by_row(block, columns)
    return table is not None


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    rows=some.lists(ROWS, max_size=4),
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
    compiled, decoded = (DocumentLines(COLUMNS, road).table(block) for road in (text_columns, None))
    assert compiled is not None
    assert decoded is not None
    assert compiled.equals(decoded)


def test_wrong_calls_are_errors():
    assert text_columns is not None
    with pytest.raises(TypeError):
        text_columns(b"{}", (("text",), 5), 1)
    with pytest.raises(ValueError, match="more than 64 names"):
        text_columns(b"{}", (tuple(f"n{n}" for n in range(65)),), 1)
    assert text_columns(b"", (("text",),), 0) is None
