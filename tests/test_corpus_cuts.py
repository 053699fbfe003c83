"""However a file is cut into ranges, its rows, their order and their ids are the same."""

import gzip
import json
import random
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reinstruct.corpus.cuts import LARGE, LEAST, cut, one_worker_each, why_whole
from reinstruct.corpus.files import blocks
from reinstruct.corpus.lines import first_byte, line_blocks
from reinstruct.corpus.members import boundary
from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import read_range
from reinstruct.corpus.source import WHOLE, Range
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Rejected

ROWS = [
    b'{"text": "one"}',
    b"",
    b"not json",
    b'{"text": "tw\xc3\xb6", "id": 7}',
    b'{"text": "bad \xff"}',
    b'{"text":',
    b'"three"} ',
    b'{"text": "four", "n": NaN}',
    b'{"text": "five"} {"text": "six"}',
    b'{"text": "a\\u0000b", "url": "u", "license": "MIT"}\r',
]


def source_of(path, content):
    path.write_bytes(content)
    return open_source(str(path), Document)


def pieces(source, places):
    """All records of the first file, read range by range, cut at the places."""
    (file,) = source.files
    ranges = [Range(start, stop) for start, stop in pairwise([*places]) if start < stop] or [WHOLE]
    batches = (batch for within in ranges for batch in read_range(source, file, within))
    return [record for batch in batches for record in batch.flat(Document)]


def whole(source):
    return pieces(source, [])


@pytest.mark.parametrize("content", [b"\n".join(ROWS) + b"\n", b"\n".join(ROWS), b"\n\n" + ROWS[0]])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_lines_cut_at_every_byte_give_the_same_rows(tmp_path, name, content):
    source = source_of(tmp_path / name, content)
    expected = whole(source)
    assert expected
    size = len(content)
    for place in range(1, size):
        assert pieces(source, [0, place, size]) == expected, place
    assert pieces(source, range(size + 1)) == expected


def test_three_cuts_anywhere_give_the_same_rows(tmp_path):
    content = b"\n".join(ROWS * 3)
    source = source_of(tmp_path / "a.jsonl", content)
    expected, draw = whole(source), random.Random(1)
    for _ in range(200):
        places = sorted(draw.choices(range(len(content) + 1), k=3))
        assert pieces(source, [0, *places, len(content)]) == expected, places


def test_lines_cut_at_every_byte_give_the_same_documents(tmp_path):
    content = "\ufeffone\r\n\ntwö\n \nthree".encode()
    (tmp_path / "a.txt").write_bytes(content)
    source = open_source(f"lines:{tmp_path / 'a.txt'}", Document)
    expected = whole(source)
    assert [record.text for record in expected] == ["one", "twö", "three"]
    for place in range(1, len(content)):
        assert pieces(source, [0, place, len(content)]) == expected, place


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_ranges_do_not_depend_on_how_the_bytes_arrive(size):
    content = b"\n".join(ROWS)
    for start in range(0, len(content), 5):
        data = content[first_byte(Range(start, start + 40)) :]
        chunks = (data[at : at + size] for at in range(0, len(data), size))
        lines = [line for block in line_blocks(chunks, Range(start, start + 40)) for line in block.split()]
        offsets = [line.offset for line in lines]
        starts = [at for at in range(len(content)) if at == 0 or content[at - 1 : at] == b"\n"]
        assert offsets == [at for at in starts if start <= at < start + 40]
        assert all(content[line.offset :].startswith(line.raw) for line in lines)


def test_the_fast_road_and_the_slow_one_give_the_same_records(tmp_path):
    rows = []
    for n in range(30):
        rows += [{"text": f"text {n} é", **extra} for extra in ({}, {"id": f"n{n}"}, {"url": None, "id": ""})]
    rows[3]["id"], rows[7]["licence"], rows[8]["license"], rows[9]["source"] = 3, "MIT", "CC0", "s"
    fast = source_of(tmp_path / "fast.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    slow = source_of(tmp_path / "slow.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, {"text": 3}]).encode())
    slowest = [{**row, "odd": float("nan")} for row in rows]
    third = source_of(tmp_path / "third.jsonl", "".join(json.dumps(row) + "\n" for row in slowest).encode())
    assert [batch.table is None for batch in read_range(fast, fast.files[0])] == [False]
    assert [batch.table is None for batch in read_range(slow, slow.files[0])] == [True]
    assert whole(fast) == whole(slow)[:-1] == whole(third)
    names = pa.schema([(name, pa.string()) for name in ("text", "id", "url", "source", "licence", "license")])
    pq.write_table(pa.Table.from_pylist(rows[1::3] + rows[2::3], names), tmp_path / "a.parquet")
    columns = open_source(str(tmp_path / "a.parquet"), Document)
    assert not [batch for batch in read_range(columns, columns.files[0]) if batch.table is None]
    assert sorted(whole(columns), key=str) == sorted(whole(fast)[1::3] + whole(fast)[2::3], key=str)


@pytest.mark.parametrize(
    "content", [b'{"text":\n"a"} {"text": "b"}\n', b'{"text": "a"} {"text": "b"}\n', b'{"text":\n{"text": "a"}\n']
)
def test_a_row_is_a_line_and_nothing_else(tmp_path, content):
    source = source_of(tmp_path / "a.jsonl", b'{"text": "x"}\n' + content)
    assert {record.reason for record in whole(source)[1:] if isinstance(record, Rejected)} == {"not_json"}
    assert [record.text for record in whole(source) if isinstance(record, Document)][:1] == ["x"]


def test_csv_cut_at_every_byte_gives_the_same_rows(tmp_path):
    content = b'id,text,url\r\n1,"one, or ""1""",u\r\n2,two\r\n\r\n3,thr\xffee,\r\n4,f\xc3\xbcnf,v'
    source = source_of(tmp_path / "a.csv", content)
    expected = whole(source)
    assert [getattr(record, "text", "") or record.reason for record in expected] == [
        'one, or "1"',
        "wrong_columns",
        "bad_utf8",
        "fünf",
    ]
    for place in range(1, len(content)):
        assert pieces(source, [0, place, len(content)]) == expected, place


def test_a_csv_whose_quotes_hold_newlines_stays_whole_and_a_bad_cut_is_an_error(tmp_path):
    row = b'1,"a line\nand another"\n'
    source = source_of(tmp_path / "a.csv", b"id,text\n" + row * (3 * LEAST // len(row)))
    (file,) = source.files
    assert cut(source, file, LEAST) == [WHOLE]
    assert why_whole(source, file) == "its quoted fields hold newlines"
    with pytest.raises(CorpusError, match="runs over byte 12, where the file was cut"):
        pieces(source, [0, 12, file.size])


def test_parquet_is_cut_between_row_groups(tmp_path):
    noise = random.Random(0)
    texts = [noise.randbytes(2000).hex() for _ in range(1200)]
    texts[700] = ""
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=50)
    source = open_source(str(tmp_path / "a.parquet"), Document)
    (file,) = source.files
    ranges = cut(source, file, LEAST)
    assert len(ranges) >= 2
    assert [within.start for within in ranges[1:]] == [within.stop for within in ranges[:-1]]
    assert pieces(source, [ranges[0].start, *(within.stop for within in ranges)]) == whole(source)
    assert pieces(source, range(25)) == whole(source)
    assert [record.id for record in whole(source) if isinstance(record, Rejected)] == ["a.parquet:701"]


def test_plain_lines_are_cut_evenly_and_what_cannot_be_cut_says_why(tmp_path):
    row = b'{"text": "' + b"x" * 990 + b'"}\n'
    content = row * (5 * LEAST // len(row))
    source = source_of(tmp_path / "a.jsonl", content)
    (file,) = source.files
    ranges = cut(source, file, LEAST)
    assert len(ranges) == 5
    assert (ranges[0].start, ranges[-1].stop) == (0, file.size)
    assert why_whole(source, file) == ""
    packed = source_of(tmp_path / "b.jsonl.gz", gzip.compress(content, 0))
    assert cut(packed, packed.files[0], LEAST) == [WHOLE]
    assert why_whole(packed, packed.files[0]) == "gzip data has no place to begin in the middle"
    array = source_of(tmp_path / "c.json", b" [" + row.strip() + b"]" + b" " * 3 * LEAST)
    assert cut(array, array.files[0], LEAST) == [WHOLE]
    assert why_whole(array, array.files[0]) == "it holds one JSON array"


def test_from_anywhere_in_an_archive_the_next_record_is_found(tmp_path):
    from tests.test_corpus_web import archive, response

    for packed in (True, False):
        content, places = archive([response(n) for n in range(4)], packed=packed)
        path = tmp_path / ("a.warc.gz" if packed else "a.warc")
        source = source_of(path, content)
        open_at = partial(blocks, source, source.files[0])
        every = sorted({*range(0, len(content), 13), *places, *(place + 1 for place in places), len(content) - 1})
        found = [boundary(open_at, at, compressed=packed) for at in every]
        assert found == [next((place for place in places if place >= at), -1) for at in every]
        expected = whole(source)
        assert len(expected) == 4
        for place in places[1:]:
            assert pieces(source, [0, place, len(content)]) == expected
        assert pieces(source, [*places, len(content)]) == expected


def test_large_files_that_one_worker_must_read_are_counted_by_reason(tmp_path):
    source = source_of(tmp_path / "a.jsonl.gz", gzip.compress(b'{"text": "x"}'))
    large = [replace(source.files[0], name=name, size=LARGE + 1) for name in ("a.jsonl.gz", "b.jsonl.zst", "c.jsonl")]
    found = one_worker_each(replace(source, files=(*source.files, *large)))
    ends = " data has no place to begin in the middle"
    assert found == {f"gzip{ends}": 1, f"zstandard{ends}": 1}
