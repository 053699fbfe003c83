"""Lines that are too long to hold: rejected wherever they stand, while what stands around them is read."""

import gzip
import itertools
import random
import tracemalloc
from itertools import pairwise

import pytest

from reinstruct.corpus import delimited, jsonl
from reinstruct.corpus.lines import SHOWN, TOO_LONG, Line, first_byte, line_blocks
from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import read_range
from reinstruct.corpus.source import WHOLE, Range
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop

MOST = 24  # bytes of a line
LINES = [
    b'{"text": "one"}',
    b"x" * MOST,
    b"y" * (MOST + 1),
    b"",
    b"z" * 90,
    b"w" * 200,
    b'{"text": "two"}',
    b'{"text": "' + b"v" * 40 + b'"}',
]
CSV = b"id,text\n1,one\n2," + b"x" * 40 + b'\n\n3,"three"\n' + b"y" * 90 + b"\n4,four\n5," + b"z" * 30


def arriving(content, size, within=WHOLE):
    """The bytes of a range as they come from a file, in pieces, and on to the end of the file."""
    begin = first_byte(within)
    return (content[at : at + size] for at in range(begin, len(content), size))


def cut_at(places):
    return [Range(start, stop) for start, stop in pairwise(places) if start < stop]


def lines_of(content, size=1000, ranges=(WHOLE,), most=MOST):
    found = (line_blocks(arriving(content, size, within), within, most) for within in ranges)
    return [line for some in found for block in some for line in block.split()]


def rows_of(read_blocks, content, name, size=1000, ranges=(WHOLE,), **given):
    found = (read_blocks(arriving(content, size, within), name, within=within, most=MOST, **given) for within in ranges)
    return [row for some in found for block in some for row in block]


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("size", [1, 3, 24, 25, 26, 1000])
@pytest.mark.parametrize("order", [LINES, LINES[::-1], LINES[4:6], LINES[2:3]], ids=len)
def test_each_line_is_whole_or_too_long_however_the_bytes_arrive(order, size, end):
    content = b"\n".join(order) + end
    expected, offset = [], 0
    for raw in order:
        is_long = len(raw) > MOST
        damage = Drop(TOO_LONG, f"a line of over {MOST} bytes") if is_long else None
        expected.append(Line(offset, raw[:MOST] if is_long else raw, damage))
        offset += len(raw) + 1
    assert lines_of(content, size) == expected


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 7, 1000])
def test_lines_that_are_too_long_stand_in_one_range_wherever_the_file_is_cut(size):
    content = b"\n".join(LINES)
    expected = rows_of(jsonl.read_blocks, content, "a.jsonl")
    assert [row.value.reason for row in expected if isinstance(row.value, Drop)] == [
        "not_json",
        *[TOO_LONG] * 4,
    ]
    for place in range(1, len(content)):
        ranges = cut_at([0, place, len(content)])
        assert rows_of(jsonl.read_blocks, content, "a.jsonl", size, ranges) == expected, place
    for first, second in itertools.combinations(range(1, len(content), 7), 2):
        ranges = cut_at([0, first, second, len(content)])
        assert rows_of(jsonl.read_blocks, content, "a.jsonl", size, ranges) == expected, (first, second)
    every_byte = cut_at(range(len(content) + 1))
    assert rows_of(jsonl.read_blocks, content, "a.jsonl", size, every_byte) == expected


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rows_of_csv_with_such_a_line_are_rejected_wherever_the_file_is_cut(size):
    expected = rows_of(delimited.read_blocks, CSV, "a.csv")
    assert [row.value.reason if isinstance(row.value, Drop) else row.value["text"] for row in expected] == [
        "one",
        TOO_LONG,
        "three",
        TOO_LONG,
        "four",
        TOO_LONG,
    ]
    assert [CSV[row.at :].startswith(row.raw[:2]) for row in expected] == [True] * 6
    for place in range(8, len(CSV)):
        found = rows_of(delimited.read_blocks, CSV, "a.csv", size, [Range(0, place)])
        found += rows_of(delimited.read_blocks, CSV, "a.csv", size, [Range(place, len(CSV))], header=b"id,text")
        assert found == expected, place


def test_a_line_that_is_too_long_ends_the_csv_row_it_lies_in():
    content = b'id,text\n1,"begun\n' + b"x" * 40 + b'\n2,two\n3,"three\nlines"\n'
    begun, two, three = rows_of(delimited.read_blocks, content, "a.csv")
    assert (begun.at, begun.raw, begun.value.reason) == (8, b'1,"begun\n' + b"x" * MOST, TOO_LONG)
    assert [row.value["text"] for row in (two, three)] == ["two", "three\nlines"]


def test_a_csv_that_begins_with_such_a_line_is_an_error():
    with pytest.raises(CorpusError, match="does not begin with the names of its columns, but with a line of over 24"):
        rows_of(delimited.read_blocks, b"x" * 40 + b"\n1,one\n", "a.csv")


def test_damage_behind_the_beginning_of_such_a_line_is_told_too():
    content = gzip.compress(b'{"text": "one"}\n' + b"x" * 100_000 + random.Random(0).randbytes(9000).hex().encode())
    found = rows_of(jsonl.read_blocks, content[:-40], "a.jsonl.gz")
    assert [row.value.reason if isinstance(row.value, Drop) else row.value["text"] for row in found] == [
        "one",
        TOO_LONG,
        "truncated_file",
    ]
    assert found[1].at < found[2].at


def test_a_file_without_newlines_takes_no_more_memory_than_a_line_may():
    most, chunk = 4 << 20, b"x" * (1 << 20)
    chunks = itertools.chain(itertools.repeat(chunk, 300), [b"\nshort\n"])
    tracemalloc.start()
    found = [line for block in line_blocks(chunks, most=most) for line in block.split()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(line.offset, len(line.raw)) for line in found] == [(0, SHOWN), (300 << 20 | 1, 5)]
    assert peak < 4 * most


def test_a_range_without_a_line_reads_no_further_than_its_end():
    chunk, taken = b"x" * 1000, []
    chunks = (taken.append(1) or chunk for _ in range(100))
    assert list(line_blocks(chunks, Range(5000, 9000))) == []
    assert len(taken) <= 5


@pytest.mark.slow
def test_the_rest_of_a_corpus_with_such_a_line_is_used(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n')
        file.seek(300 << 20, 1)  # a hole on the disk: that many zeros
        file.write(b'\n{"text": "after"}\n')
    source = open_source(str(path), Document)
    found = [record for batch in read_range(source, source.files[0]) for record in batch.flat(Document)]
    before, lost, after = found
    assert (before.text, after.text) == ("before", "after")
    assert (lost.reason, lost.id) == (TOO_LONG, "a.jsonl:19")
    assert lost.detail == "byte 19: a line of over 268,435,456 bytes"
    halves = (Range(0, 200 << 20), Range(200 << 20, source.files[0].size))
    batches = [batch for within in halves for batch in read_range(source, source.files[0], within)]
    assert [record for batch in batches for record in batch.flat(Document)] == found
