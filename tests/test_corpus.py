"""Corpus readers on good, odd and damaged input."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from fsspec.implementations.memory import MemoryFileSystem

from reinstruct.corpus.delimited import MAX_FIELD
from reinstruct.corpus.files import HASH_WHOLE
from reinstruct.corpus.jsonl import read_blocks
from reinstruct.corpus.kinds import first_of_each
from reinstruct.corpus.lines import line_blocks
from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import first_records, read_batches
from reinstruct.errors import CorpusError
from reinstruct.identity import describe
from reinstruct.records import Document, Example, Instruction, Pair, Rejected, to_table

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data at {REAL}; set REINSTRUCT_TEST_DATA")
GOOD = b'{"text": "a good row"}\n'


def read_all(path, record_type=Document, rows=1024, **columns):
    source = open_source(str(path), record_type, columns=columns)
    return [record for file in source.files for batch in read_batches(source, file, rows=rows) for record in batch]


def good(records):
    return [record for record in records if not isinstance(record, Rejected)]


def reasons(records):
    return [record.reason for record in records if isinstance(record, Rejected)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else "".join(json.dumps(r) + "\n" for r in content).encode())
    return path


def numbered(n):
    """Rows that do not compress well, so that damage in the middle of the file is damage in the middle of the rows."""
    noise = random.Random(0)
    return [{"id": i, "text": f"{i} {noise.randbytes(40).hex()}"} for i in range(n)]


# What a URI names


def test_one_file_a_folder_and_a_glob_name_files_below_their_root(tmp_path):
    for name in ("b.jsonl", "a.jsonl.gz", "deep/c.ndjson"):
        write(tmp_path / name, gzip.compress(GOOD) if name.endswith("gz") else GOOD)
    names = lambda uri: [file.name for file in open_source(uri, Document).files]  # noqa: E731
    assert names(str(tmp_path)) == ["a.jsonl.gz", "b.jsonl", "deep/c.ndjson"]
    assert names(f"{tmp_path}/*.jsonl*") == ["a.jsonl.gz", "b.jsonl"]
    assert names(f"{tmp_path}/**/*.ndjson") == ["deep/c.ndjson"]
    assert names(str(tmp_path / "b.jsonl")) == names(f"file://{tmp_path}/b.jsonl") == ["b.jsonl"]
    for uri in (str(tmp_path), f"{tmp_path}/*.jsonl*", f"{tmp_path}/**/*.ndjson", f"{tmp_path}/b.jsonl"):
        assert first_records(open_source(uri, Document), 1)[0].text == "a good row"


def test_moving_a_corpus_changes_nothing_and_editing_it_does(tmp_path):
    write(tmp_path / "here/a.jsonl", GOOD)
    before = open_source(str(tmp_path / "here"), Document)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = open_source(str(tmp_path / "there"), Document)
    write(tmp_path / "there/a.jsonl", GOOD.replace(b"good", b"gold"))
    edited = open_source(str(tmp_path / "there"), Document)
    assert before.files == moved.files != edited.files
    assert edited.files[0].size == moved.files[0].size


def test_hidden_and_unknown_files_are_left_alone(tmp_path):
    for name in ("a.jsonl", ".hidden.jsonl", "_delta_log/0.json", ".git/x.txt", "_SUCCESS", "LICENSE"):
        write(tmp_path / name, GOOD)
    assert [file.name for file in open_source(str(tmp_path), Document).files] == ["a.jsonl"]
    assert open_source(str(tmp_path / ".hidden.jsonl"), Document).files


def test_files_of_other_endings_are_told_with_some_of_their_names(tmp_path):
    write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / ".hidden.xyz", GOOD)
    alone = open_source(str(tmp_path), Document)
    assert alone.passed_over == ""
    for number in (1, 2):
        write(tmp_path / f"{number}.xyz", GOOD)
    beside = open_source(str(tmp_path), Document)
    assert beside.passed_over == "2 files of other endings (1.xyz, 2.xyz)"
    assert describe(beside, identity=True) == describe(alone, identity=True)
    for number in (3, 4, 5):
        write(tmp_path / "deep" / f"{number}.xyz", GOOD)
    assert open_source(str(tmp_path), Document).passed_over == (
        "5 files of other endings (1.xyz, 2.xyz, deep/3.xyz and 2 more)"
    )
    assert open_source(f"{tmp_path}/*.jsonl", Document).passed_over == ""


def test_a_file_name_that_is_not_utf8_is_an_error_that_names_it(tmp_path):
    write(tmp_path / os.fsdecode(b"caf\xe9.jsonl"), GOOD)
    with pytest.raises(CorpusError, match=r"'caf\\udce9.jsonl' is no UTF-8 name"):
        open_source(str(tmp_path), Document)


def test_a_name_with_glob_characters_that_exists_is_no_glob(tmp_path):
    write(tmp_path / "data [1]" / "x[2].jsonl", GOOD)
    assert len(read_all(tmp_path / "data [1]")) == len(read_all(tmp_path / "data [1]" / "x[2].jsonl")) == 1


@pytest.mark.parametrize(
    ("make", "uri", "says"),
    [
        ({}, "nothing", "no such file or folder; accepted are .jsonl"),
        ({}, "*.jsonl", "no file matches the pattern"),
        ({}, "", "is an empty folder"),
        ({"a.tar": b"x"}, "", r"no file that can be read \(a.tar\)"),
        ({"a.tar": b"x"}, "a.tar", r"no file that can be read"),
        ({"a.jsonl": b"x", "README.md": b"x"}, "", r"text files \(such as README.md\) and jsonl files"),
        ({"a.jsonl": b"x", "b.parquet": b"x"}, "", r"jsonl files .* and parquet files .*choose with a glob"),
    ],
)
def test_a_uri_without_one_kind_of_readable_file_is_refused(tmp_path, make, uri, says):
    for name, content in make.items():
        write(tmp_path / name, content)
    with pytest.raises(CorpusError, match=says):
        open_source(f"{tmp_path}/{uri}", Document)


def test_a_glob_decides_between_kinds(tmp_path):
    write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / "README.md", b"about the data")
    assert open_source(f"{tmp_path}/*.md", Document).kind == "text"
    assert open_source(f"{tmp_path}/*.jsonl", Document).kind == "jsonl"


@pytest.mark.parametrize("uri", ["nosuchscheme://bucket/x", ""])
def test_unknown_schemes_and_empty_paths_are_refused(uri):
    with pytest.raises(CorpusError, match="accepted are"):
        open_source(uri, Document)


def test_a_bucket_is_read_like_a_folder():
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/corpus-test/part/a.jsonl.gz", gzip.compress(GOOD))
    source = open_source("memory://corpus-test", Document)
    assert [file.name for file in source.files] == ["part/a.jsonl.gz"]
    assert first_records(source, 5)[0].text == "a good row"
    bucket.pipe("/corpus-test/part/a.jsonl.gz", gzip.compress(GOOD * 2))
    assert open_source("memory://corpus-test", Document).files != source.files
    bucket.rm("/corpus-test", recursive=True)


@pytest.mark.parametrize(("name", "record_type"), [("a.txt", Pair), ("a.md", Instruction), ("a.jsonl", Example)])
def test_kinds_that_cannot_give_a_record_type_are_refused(tmp_path, name, record_type):
    with pytest.raises(CorpusError, match=record_type.__name__):
        open_source(str(write(tmp_path / name, GOOD)), record_type)


def test_a_mapping_names_fields_of_the_record(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"content": "words", "link": "http://x"}])
    (record,) = read_all(path, text="content", url="link")
    assert (record.text, record.url) == ("words", "http://x")
    with pytest.raises(CorpusError, match="no field 'body'"):
        open_source(str(path), Document, columns={"body": "content"})
    with pytest.raises(CorpusError, match="has no columns"):
        open_source(str(write(tmp_path / "a.txt", b"x")), Document, columns={"text": "content"})


# JSON lines


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.ndjson.bz2", bz2.compress),
        ("A.JSONL.ZST", zstd.compress),
        ("two-members.jsonl.gz", lambda raw: gzip.compress(raw[:5000]) + gzip.compress(raw[5000:]) + b"\0" * 512),
        ("two-frames.json.zst", lambda raw: b"".join(map(zstd.compress, (raw[:5000], raw[5000:])))),
    ],
)
def test_every_compression_gives_the_same_rows(tmp_path, name, pack):
    rows = numbered(3000)
    raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert [record.text for record in read_all(write(tmp_path / name, pack(raw)))] == [row["text"] for row in rows]


def test_batches_have_the_asked_size_and_the_order_of_the_file(tmp_path):
    source = open_source(str(write(tmp_path / "a.jsonl", numbered(25))), Document)
    batches = list(read_batches(source, source.files[0], rows=10))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert [int(record.id) for batch in batches for record in batch] == list(range(25))


def test_bom_crlf_blank_lines_and_no_last_newline_are_tolerated(tmp_path):
    raw = b'\xef\xbb\xbf{"text": "one"}\r\n\r\n   \n{"text": "two"}\r\n{"text": "three"}'
    assert [record.text for record in read_all(write(tmp_path / "a.jsonl", raw))] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"text": "cut', "not_json"),
        (b'{"text": "a\x00b"}', "not_json"),
        (b"\x00" * 50, "not_json"),
        (b'{"text":' * 100_000, "not_json"),
        (b'["text"]', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"body": "x"}', "missing_text"),
        (b'{"text": 3}', "wrong_type"),
        (b'{"text": ["x"]}', "wrong_type"),
        (b'{"text": NaN}', "wrong_type"),
        (b'{"text": " \\n "}', "empty_text"),
        (b'{"text": null}', "empty_text"),
        (b'{"text": "caf\xe9"}', "bad_utf8"),
        (b'{"text": "\xed\xa0\x80"}', "bad_utf8"),
        (b'{"text": "\\ud800 and more text"}', "bad_utf8"),
        (b'{"text": "more text and \\udc00"}', "bad_utf8"),
    ],
)
def test_a_bad_row_is_rejected_in_its_place_and_the_rest_is_used(tmp_path, row, reason):
    records = read_all(write(tmp_path / "a.jsonl", GOOD + row + b"\n" + GOOD))
    assert [type(record) for record in records] == [Document, Rejected, Document]
    bad = records[1]
    assert (bad.id, bad.stage, bad.reason) == (f"a.jsonl:{len(GOOD)}", "Read", reason)
    assert bad.detail.startswith(f"byte {len(GOOD)}")
    assert len(bad.record) <= 500
    to_table([bad], Rejected)


@pytest.mark.parametrize("odd", [b'"n": NaN', b'"n": 123456789012345678901234567890', b'"n": "\\ud800 unused"'])
def test_odd_values_in_columns_nobody_reads_do_not_cost_the_row(tmp_path, odd):
    (record,) = read_all(write(tmp_path / "a.jsonl", b'{"text": "x", ' + odd + b"}"))
    assert record.text == "x"


def test_nul_characters_written_as_escapes_survive_to_arrow(tmp_path):
    (record,) = read_all(write(tmp_path / "a.jsonl", b'{"text": "a\\u0000b"}'))
    assert to_table([record], Document)["text"].to_pylist() == ["a\0b"]


def test_documents_keep_id_and_origin_and_get_a_stable_id_otherwise(tmp_path):
    rows = [
        {"id": 7, "text": "x", "url": "u", "source": "s", "license": "MIT"},
        {"text": "x", "url": 3},
        {"id": "", "text": "x"},
        {"id": ["a"], "text": "y"},
    ]
    numbered_row, hashed, empty_id, listed_id = read_all(write(tmp_path / "a.jsonl", rows))
    assert numbered_row == Document(id="7", text="x", url="u", source="s", licence="MIT")
    assert hashed == empty_id == Document(id="eaf06c6480b2cd11", text="x")
    assert listed_id.id != hashed.id


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd.compress)])
def test_a_truncated_file_gives_its_rows_up_to_the_cut_and_one_rejection(tmp_path, name, pack):
    packed = pack("".join(json.dumps(row) + "\n" for row in numbered(20_000)).encode())
    records = read_all(write(tmp_path / name, packed[: len(packed) // 2]))
    assert reasons(records) == ["truncated_file"]
    assert f"at byte {len(packed) // 2}" in records[-1].detail
    assert 8000 < len(good(records)) < 12_000


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.bz2", bz2.compress)])
def test_a_corrupt_file_gives_its_rows_up_to_the_damage_and_one_rejection(tmp_path, name, pack):
    packed = bytearray(pack("".join(json.dumps(row) + "\n" for row in numbered(30_000)).encode()))
    middle = len(packed) // 2
    packed[middle : middle + 200] = b"\xff" * 200
    records = read_all(write(tmp_path / name, bytes(packed)))
    damage = next(index for index, record in enumerate(records) if isinstance(record, Rejected))
    assert 6000 < damage < 18_000
    assert [int(record.id) for record in records[:damage]] == list(range(damage))
    # gzip may decode nonsense for a while before it notices: rows of it are rejected one by one.
    assert reasons(records).count("corrupt_file") == 1
    assert records[-1].reason == "corrupt_file"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path, name):
    path = write(tmp_path / name, GOOD * 10)
    with pytest.raises(CorpusError, match=f"{name} is not a"):
        read_all(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_an_empty_file_has_no_rows_and_an_empty_corpus_is_an_error(tmp_path, name):
    path = write(tmp_path / name, b"")
    assert read_all(path) == []
    with pytest.raises(CorpusError, match=f"no records in .*{name}"):
        first_records(open_source(str(path), Document), 3)


def test_first_records_passes_over_bad_rows_and_files(tmp_path):
    write(tmp_path / "a.jsonl", b"")
    write(tmp_path / "b.jsonl", b"{}\n" + GOOD * 5)
    assert len(first_records(open_source(str(tmp_path), Document), 3)) == 3
    with pytest.raises(CorpusError, match=r"the first row was rejected: empty_text \(c.jsonl:0, byte 0\)"):
        first_records(open_source(str(write(tmp_path / "c.jsonl", [{"text": ""}])), Document), 3)


@pytest.mark.parametrize("rows", [3, 100, 250])
def test_a_column_that_no_row_has_is_an_error_that_names_the_others(tmp_path, rows):
    path = write(tmp_path / "a.jsonl", [{"content": "x", "n": 1}] * rows)
    with pytest.raises(CorpusError, match=r"no column 'text' .* are content, n; .*--corpus-columns text=COLUMN"):
        read_all(path)


def test_one_row_with_the_column_saves_the_file(tmp_path):
    records = read_all(
        write(tmp_path / "a.jsonl", [{"content": "x"}] * 99 + [{"text": "x"}] + [{"content": "x"}] * 300)
    )
    assert len(good(records)) == 1
    assert reasons(records) == ["missing_text"] * 399


def test_a_file_of_something_else_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match=r"first 100 rows are all unusable; byte 0.*one JSON object on one"):
        read_all(write(tmp_path / "a.jsonl", b"just some prose\n" * 500))


def test_a_short_odd_file_among_others_costs_its_rows_alone(tmp_path):
    write(tmp_path / "a.jsonl", b"<html>503</html>\n")
    write(tmp_path / "b.jsonl", GOOD)
    assert [getattr(row, "reason", "good") for row in read_all(tmp_path)] == ["not_json", "good"]
    write(tmp_path / "a.jsonl", b"<html>503</html>\n" * 100)
    with pytest.raises(CorpusError, match="first 100 rows are all unusable"):
        read_all(tmp_path)


def test_a_json_file_may_hold_one_array(tmp_path):
    rows = [{"text": "one"}, {"text": 2}, "three", {"text": "four"}]
    for indent in (None, 2):
        path = write(tmp_path / "a.json", b" \n" + json.dumps(rows, indent=indent).encode())
        records = read_all(path)
        assert [record.text for record in good(records)] == ["one", "four"]
        assert [(record.id, record.reason) for record in records[1:3]] == [
            ("a.json:2", "wrong_type"),
            ("a.json:3", "not_an_object"),
        ]


@pytest.mark.parametrize("raw", [b'[{"text": "a"}', b'[{"text": "a"}]\n[{"text": "b"}]'])
def test_a_broken_array_is_an_error(tmp_path, raw):
    with pytest.raises(CorpusError, match=r"a.json begins with '\[' but is no JSON array"):
        read_all(write(tmp_path / "a.json", raw))


def test_arrays_that_are_large_or_damaged_are_errors():
    raw = json.dumps([{"text": "word " * 50}] * 50).encode()
    with pytest.raises(CorpusError, match="over 1,000 bytes"):
        list(read_blocks([raw], "a.json", array_bytes=1000))
    packed = gzip.compress(raw)
    with pytest.raises(CorpusError, match="truncated_file"):
        list(read_blocks([packed[:-20]], "a.json.gz"))


def test_a_very_long_line_costs_linear_time():
    chunk = b"x" * 65_536
    start = time.perf_counter()
    (line,) = line_blocks(chunk for _ in range(1600))  # 100 MB; joining at every chunk would copy 80 GB
    assert len(line.raw) == 1600 * 65_536
    assert time.perf_counter() - start < 5


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD)
    source = open_source(str(path), Document)
    write(path, GOOD * 2)
    with pytest.raises(CorpusError, match="changed since the plan was made"):
        first_records(source, 1)
    path.unlink()
    with pytest.raises(CorpusError, match=r"cannot read .*a.jsonl"):
        first_records(source, 1)


def test_a_file_of_other_content_and_the_same_size_is_refused_and_a_copy_is_not(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD)
    source = open_source(str(path), Document)
    later = path.stat().st_mtime + 100
    os.utime(path, (later, later))
    assert first_records(source, 1)[0].text == "a good row"
    assert describe(open_source(str(path), Document), identity=True) == describe(source, identity=True)
    write(path, GOOD.replace(b"good", b"gold"))
    os.utime(path, (later + 1, later + 1))
    with pytest.raises(CorpusError, match=f"changed since the plan was made, though it has {len(GOOD)} bytes as then"):
        first_records(source, 1)
    assert first_records(open_source(str(path), Document), 1)[0].text == "a gold row"


def test_a_file_too_large_to_hash_is_told_by_its_head_and_tail(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD)
    os.truncate(path, HASH_WHOLE + 1)  # a hole on the disk
    source = open_source(str(path), Document)
    later = path.stat().st_mtime + 100
    os.utime(path, (later, later))
    assert first_records(source, 1)
    with path.open("r+b") as file:
        file.write(GOOD.replace(b"good", b"gold"))
    os.utime(path, (later + 1, later + 1))
    with pytest.raises(CorpusError, match="changed since the plan was made"):
        first_records(source, 1)


class Tagged(MemoryFileSystem):
    """A store that says which version of an object it has."""

    protocol = "tagged"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("tagged:/"))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        told = super().info(path, **kwargs)
        return told | ({"ETag": f'"{hash(self.cat(path))}"'} if told["type"] == "file" else {})


def test_an_object_of_another_version_and_the_same_size_is_refused():
    fsspec.register_implementation("tagged", Tagged, clobber=True)
    bucket = fsspec.filesystem("tagged")
    bucket.pipe("/corpus/a.jsonl", GOOD)
    source = open_source("tagged://corpus/a.jsonl", Document)
    bucket.pipe("/corpus/a.jsonl", GOOD)
    assert first_records(source, 1)
    bucket.pipe("/corpus/a.jsonl", GOOD.replace(b"good", b"gold"))
    with pytest.raises(CorpusError, match="changed since the plan was made, though"):
        first_records(source, 1)
    unmarked = replace(source, files=tuple(replace(file, mark="") for file in source.files))  # of an older plan
    assert first_records(unmarked, 1)


# Seeds


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "i", "input": "n", "output": "o"}, ("i", "n", "o")),
        ({"instruction": "i", "context": "", "response": "o", "category": "qa"}, ("i", "", "o")),
        ({"prompt": "i", "answer": "o"}, ("i", "", "o")),
        ({"question": "i", "completion": "o", "input": None}, ("i", "", "o")),
        ({"instruction": "i", "instances": [{"input": "n", "output": "o"}, {"output": "p"}]}, ("i", "n", "o")),
        ({"messages": [{"role": "user", "content": "i"}, {"role": "assistant", "content": "o"}]}, ("i", "", "o")),
        (
            {
                "prompt": "ignored",
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "i"},
                    {"role": "assistant", "content": "o", "name": "x"},
                ],
            },
            ("s\n\ni", "", "o"),
        ),
    ],
)
def test_pairs_are_read_in_the_forms_that_seeds_come_in(tmp_path, row, expected):
    (pair,) = read_all(write(tmp_path / "a.jsonl", [row]), Pair)
    assert (pair.instruction, pair.input, pair.output) == expected
    assert pair.origin == "seed"
    assert len(pair.id) == 16


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "", "output": "o"}, "empty_instruction"),
        ({"instruction": "i", "output": "  "}, "empty_output"),
        ({"instruction": "i"}, "missing_output"),
        ({"output": "o"}, "missing_instruction"),
        ({"instruction": "i", "input": {"a": 1}, "output": "o"}, "wrong_type"),
        ({"instruction": "i", "instances": []}, "missing_output"),
        ({"instruction": "i", "instances": "x"}, "wrong_type"),
        ({"messages": "hello"}, "wrong_type"),
        ({"messages": [{"role": "user", "content": "i"}]}, "wrong_roles"),
        ({"messages": [{"role": "assistant", "content": "o"}, {"role": "user", "content": "i"}]}, "wrong_roles"),
        ({"messages": [{"role": "user", "content": "i"}, {"role": "assistant", "content": "o"}] * 2}, "extra_turns"),
        ({"messages": [{"role": "user", "content": "i"}, {"role": "assistant", "content": ""}]}, "empty_output"),
    ],
)
def test_unusable_pairs_are_rejected_with_a_reason(tmp_path, row, reason):
    usable = {"instruction": "i", "output": "o"}
    records = read_all(write(tmp_path / "a.jsonl", [usable, row, usable]), Pair)
    assert reasons(records) == [reason]
    assert len(good(records)) == 2


def test_instructions_need_no_output(tmp_path):
    (record,) = read_all(write(tmp_path / "a.jsonl", [{"id": 1, "prompt": "i", "input": "n"}]), Instruction)
    assert record == Instruction(id="1", instruction="i", input="n")


# Parquet


def test_parquet_gives_records_and_rejections_in_order(tmp_path):
    table = pa.table({"id": [1, 2, 3], "text": ["one", None, "three"], "license": ["MIT"] * 3, "other": [[1]] * 3})
    pq.write_table(table, tmp_path / "a.parquet")
    one, bad, three = read_all(tmp_path / "a.parquet", rows=2)
    assert one == Document(id="1", text="one", licence="MIT")
    assert (bad.id, bad.reason, bad.detail) == ("a.parquet:2", "empty_text", "row 2: null")
    assert json.loads(bad.record) == {"id": 2, "text": None, "license": "MIT"}
    assert three.text == "three"


def test_parquet_holds_conversations_too(tmp_path):
    turns = [{"role": "user", "content": "i"}, {"role": "assistant", "content": "o"}]
    pq.write_table(pa.table({"messages": [turns]}), tmp_path / "a.parquet")
    assert read_all(tmp_path / "a.parquet", Pair)[0].output == "o"


def test_parquet_without_the_column_is_an_error(tmp_path):
    pq.write_table(pa.table({"content": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"no column 'text' .* are content; .*text=COLUMN"):
        read_all(tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"no column 'link' \(mapped to url\)"):
        read_all(tmp_path / "a.parquet", text="content", url="link")
    assert read_all(tmp_path / "a.parquet", text="content")[0].text == "x"


def test_invalid_utf8_in_parquet_costs_one_row(tmp_path):
    offsets = pa.array([0, 3, 5, 8], pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"one\xff\xfethr"))
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", use_dictionary=False)
    records = read_all(tmp_path / "a.parquet")
    assert [record.text for record in good(records)] == ["one", "thr"]
    assert reasons(records) == ["bad_utf8"]


def test_damage_inside_parquet_ends_it_with_one_rejection(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [row["text"] for row in numbered(3000)]}), path, row_group_size=1000)
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle - 30_000 : middle] = b"\xff" * 30_000
    records = read_all(write(path, bytes(raw)), rows=500)
    assert len(good(records)) == 2000
    assert reasons(records) == ["corrupt_file"]
    with pytest.raises(CorpusError, match="or is cut off"):
        read_all(write(path, bytes(raw[:middle])))


@pytest.mark.parametrize("make", [pa.ipc.new_stream, pa.ipc.new_file])
def test_a_folder_of_save_to_disk_is_read_and_its_descriptions_are_not(tmp_path, make):
    table = pa.table({"text": ["one", None, "three"], "id": [1, 2, 3]})
    for name in ("train/data-00000-of-00001.arrow", "test/data-00000-of-00001.arrow"):
        (tmp_path / name).parent.mkdir()
        with make(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        (tmp_path / name).with_name("state.json").write_text("{}")
        (tmp_path / name).with_name("dataset_info.json").write_text("{}")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    records = read_all(tmp_path)
    assert [getattr(record, "text", "") or record.reason for record in records] == ["one", "empty_text", "three"] * 2
    (tmp_path / "x.arrow").write_bytes(b"no arrow at all")
    with pytest.raises(CorpusError, match=r"x.arrow is not an Arrow file"):
        read_all(tmp_path / "x.arrow")


def test_a_dataset_on_the_hub_is_read_without_its_card():
    names = ["README.md", "data/train-00000-of-00001.parquet"]
    assert first_of_each(names) == {"text": names[0], "parquet": names[1]}
    assert first_of_each(names, on_hub=True) == {"parquet": names[1]}
    assert first_of_each(["dataset_infos.json", *names], on_hub=True) == {"parquet": names[1]}


def test_descriptions_beside_a_data_set_are_no_rows(tmp_path):
    write(tmp_path / "data/a.jsonl", [{"text": "x"}])
    write(tmp_path / "dataset_infos.json", b'{"default": {"features": {}}}')
    assert [record.text for record in read_all(tmp_path)] == ["x"]


# CSV


@pytest.mark.parametrize(
    ("name", "pack"), [("a.csv", bytes), ("a.csv.gz", gzip.compress), ("a.CSV.ZST", zstd.compress)]
)
def test_csv_rows_may_hold_newlines_and_bad_ones_are_rejected(tmp_path, name, pack):
    content = b'\xef\xbb\xbfid,text\r\n1,"two\nlines"\r\n2\r\n\r\n3,three\r\n4,"never closed\r\n5,five\r\n'
    one, short, three, unclosed, five = read_all(write(tmp_path / name, pack(content)))
    assert (one.id, one.text, three.text, five.text) == ("1", "two\nlines", "three", "five")
    assert (short.reason, short.detail) == ("wrong_columns", "byte 27: 1 fields where the header has 2")
    assert (unclosed.reason, unclosed.id[-3:]) == ("not_csv", ":41")


def test_a_stray_quote_costs_its_own_line_however_far_the_next_one_is(tmp_path):
    filler = b"7," + b"x" * 1_000_000 + b"\n"
    content = b'id,text\n1,one\n2,"stray\n' + filler * (MAX_FIELD // 1_000_000 + 2) + b'3,"quoted"\n4,"stray\n5,five\n'
    records = read_all(write(tmp_path / "a.csv", content))
    assert [record.id for record in good(records)] == ["1", *["7"] * (MAX_FIELD // 1_000_000 + 2), "3", "5"]
    assert [(record.reason, record.record) for record in records if isinstance(record, Rejected)] == [
        ("not_csv", '2,"stray'),
        ("not_csv", '4,"stray'),
    ]


def test_a_row_of_which_the_end_is_lost_is_no_row(tmp_path):
    content = gzip.compress(b'id,text\n1,one\n2,"first\n' + os.urandom(60_000).hex().encode() + b'"\n', mtime=0)
    one, cut = read_all(write(tmp_path / "a.csv.gz", content[: len(content) // 2]))
    assert (one.text, cut.reason, cut.record) == ("one", "truncated_file", '2,"first')


@pytest.mark.parametrize(("name", "mark"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "|")])
def test_other_marks_between_fields_are_recognised(tmp_path, name, mark):
    content = f"id{mark}text\n1{mark}a, b and c\n".encode()
    (record,) = read_all(write(tmp_path / name, content))
    assert (record.id, record.text) == ("1", "a, b and c")


def test_csv_without_the_column_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match=r"no column 'text' .* are id, body; .*text=COLUMN"):
        read_all(write(tmp_path / "a.csv", b"id,body\n1,x\n"))
    assert read_all(write(tmp_path / "a.csv", b"id,body\n1,x\n"), text="body")[0].text == "x"


# Text


def test_a_text_file_is_one_document(tmp_path):
    write(tmp_path / "b/two.md", b"\xef\xbb\xbf# Two\r\n\r\nwords\r\n")
    write(tmp_path / "a.txt", b"one")
    write(tmp_path / "bad.txt", b"fine\nnot \xff fine")
    write(tmp_path / "empty.txt", b" \n")
    one, two, bad, empty = sorted(read_all(tmp_path), key=lambda r: getattr(r, "source", r.id))
    assert (one.text, one.source) == ("one", "a.txt")
    assert (two.text, two.source) == ("# Two\n\nwords\n", "b/two.md")
    assert (bad.id, bad.reason) == ("bad.txt:9", "bad_utf8")
    assert bad.detail == "byte 9: 0xff: invalid start byte"
    assert (empty.id, empty.reason) == ("empty.txt:0", "empty_text")


# Real data


@needs_real_data
def test_the_real_corpus_is_read_whole():
    records = read_all(REAL / "corpus" / "en.jsonl.gz")
    assert len(good(records)) == len(records) == 25_184
    assert all(record.licence for record in records)


@needs_real_data
@pytest.mark.parametrize(("name", "pairs"), [("self_instruct_175.jsonl", 175), ("dolly_151.jsonl", 151)])
def test_real_seeds_are_read_whole(name, pairs):
    assert len(good(read_all(REAL / "seed" / name, Pair))) == pairs
