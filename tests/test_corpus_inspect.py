"""`corpus inspect`: counts are exact or say that they are not, and the same seed shows the same sample."""

import gzip
import json
import random
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from reinstruct.cli import app
from reinstruct.corpus.open import open_source
from reinstruct.corpus.profile import profile
from reinstruct.corpus.sample import PLACES, take_sample
from reinstruct.corpus.source import SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Document


def rows(n, seed=0):
    noise = random.Random(seed)
    texts = [f"{i} " + "The mill stands by the river. " * noise.randrange(2, 40) for i in range(n)]
    return [{"text": text, "url": f"http://x.org/{i}"} for i, text in enumerate(texts)]


def jsonl(n, seed=0):
    return "".join(json.dumps(row) + "\n" for row in rows(n, seed)).encode()


def test_a_small_corpus_is_counted_and_the_sample_is_drawn_by_the_seed(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(500) + b"odd\n" + b'{"text": ""}\n')
    source = open_source(str(tmp_path / "a.jsonl"), Document)
    one, again, other = (take_sample(source, 50, seed) for seed in (1, 1, 2))
    assert (one.total, one.read, one.exact, len(one.documents)) == (500, 502, True, 50)
    assert one.rejected == {"not_json": 1, "empty_text": 1}
    assert one.documents == again.documents != other.documents
    assert [int(document.text.split()[0]) for document in one.documents] == sorted(
        int(document.text.split()[0]) for document in one.documents
    )
    assert len(take_sample(source, 10_000).documents) == 500


@pytest.mark.slow
def test_ids_of_several_texts_are_counted_among_all_that_is_read(tmp_path):
    table = [{"id": str(n % 90), "text": f"{n} times the mill"} for n in range(100)]
    table += [{"id": "7", "text": "7 times the mill"}, {"text": "no id"}, {"text": "no id"}]  # duplicates
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    sample = take_sample(open_source(str(tmp_path / "a.jsonl"), Document), 5)
    assert profile(sample).repeated_ids == sample.ids.count() == 10
    pq.write_table(pa.Table.from_pylist(table[:95]), tmp_path / "b.parquet")
    assert take_sample(open_source(str(tmp_path / "b.parquet"), Document), 5).ids.count() == 5
    pq.write_table(pa.Table.from_pylist(table[:90]), tmp_path / "c.parquet")
    assert take_sample(open_source(str(tmp_path / "c.parquet"), Document), 5).ids.count() == 0


@pytest.mark.parametrize("packed", [True, False])
def test_a_large_corpus_is_estimated_from_places_spread_over_it(tmp_path, packed):
    content = jsonl(1000)
    copies = 4_000_000 // len(content)
    files = []
    for name in ("a", "b", "c"):
        path = tmp_path / (f"{name}.jsonl.gz" if packed else f"{name}.jsonl")
        whole = content * (copies // 3)
        path.write_bytes(gzip.compress(whole, 0) if packed else whole)
        files.append(path)
    found = take_sample(open_source(str(tmp_path), Document), 200, small=100_000, place_bytes=65_536)
    truth = 3 * (copies // 3) * 1000
    assert not found.exact
    assert abs(found.total - truth) < 0.1 * truth
    assert found.bytes_read <= PLACES * 65_536
    assert not found.rejected
    assert len(found.documents) == 200


def test_parquet_rows_are_counted_by_the_footers(tmp_path):
    noise = random.Random(0)
    texts = [noise.randbytes(200).hex() for _ in range(2500)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=100, compression="none")
    source = open_source(str(tmp_path / "a.parquet"), Document)
    found = take_sample(source, 100, small=100_000)
    assert (found.total, found.exact, len(found.documents)) == (2500, True, 100)
    assert found.read < 2500


def test_a_folder_of_documents_is_counted_and_a_part_of_it_read(tmp_path):
    for n in range(30):
        (tmp_path / f"{n}.md").write_text(f"# Notes {n}\n\nwords")
    found = take_sample(open_source(str(tmp_path), Document), 10)
    assert (found.total, found.exact, found.read, len(found.documents)) == (30, True, 10, 10)


def test_of_a_folder_of_large_documents_so_much_is_read_and_no_more(tmp_path):
    for n in range(30):
        (tmp_path / f"{n}.txt").write_text(f"{n} " + "words " * 1000)
    found = take_sample(open_source(str(tmp_path), Document), 10, small=20_000)
    assert (found.total, found.read) == (30, 4)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_an_array_that_could_only_be_read_in_part_is_an_error(tmp_path, name):
    content = b" " * 40_000 + json.dumps(rows(1000)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content, 0) if name.endswith("gz") else content)
    with pytest.raises(CorpusError, match=rf"{name} holds one JSON array, .* write one object per line \(.jsonl\)"):
        take_sample(open_source(str(tmp_path), Document), 10, small=1000, place_bytes=20_000)
    assert take_sample(open_source(str(tmp_path), Document), 10).total == 1000


def test_small_packed_files_of_a_large_corpus_are_read_to_their_ends(tmp_path):
    for n in range(8):
        (tmp_path / f"{n}.jsonl.gz").write_bytes(gzip.compress(jsonl(100, n), 0)[: None if n else -200])
    source = open_source(str(tmp_path), Document)
    found = take_sample(source, 1000, small=1000)
    assert found.read >= 799
    assert found.bytes_read == sum(file.size for file in source.files)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/a.jsonl.gz").write_bytes(gzip.compress(jsonl(5)))
    assert take_sample(open_source(f"{tmp_path}/one", Document), 10, small=100).read == 5


def test_rows_that_come_one_by_one_count_towards_what_was_read(tmp_path):
    texts = [None if n % 50 == 0 else f"{n} " + "words " * 40 for n in range(5000)]
    table = pa.table({"text": texts})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=500)
    found = take_sample(open_source(str(tmp_path), Document), 100, small=1000)
    assert 0.8 * 4900 < found.total < 1.2 * 4900


def test_a_corpus_without_a_document_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": ""}\n')
    source = open_source(str(tmp_path / "a.jsonl"), Document)
    with pytest.raises(CorpusError, match=r"all rows were rejected \(empty_text 1\)"):
        take_sample(source, 10)
    gone = replace(source, files=(SourceFile("b.jsonl", 10, ""),))
    with pytest.raises(CorpusError, match="cannot read"):
        take_sample(gone, 10)


@pytest.mark.slow
def test_a_profile_says_what_rules_reject_and_how_long_documents_are(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(40) + json.dumps({"text": "河水流过小镇。", "license": "MIT"}).encode())
    found = profile(take_sample(open_source(str(tmp_path), Document), 100))
    assert (found.documents, found.looked_at, found.documents_exact) == (41, 41, True)
    assert sum(found.languages.values()) == pytest.approx(1)
    assert found.languages_are in ("languages", "scripts")
    assert found.chars["0%"] == 7
    assert sum(found.histogram.values()) == pytest.approx(1)
    assert next(iter(found.histogram)) == "0"
    assert found.licences == pytest.approx({"none given": 40 / 41, "MIT": 1 / 41})
    assert found.with_url == pytest.approx(40 / 41)
    assert {verdict.rule for verdict in found.rules} >= {"reinstruct", "prose (English)"}
    for verdict in found.rules:
        assert sum(verdict.reasons.values()) == pytest.approx(verdict.rejected)
    assert len(found.samples) == 10
    assert all(len(item["text"]) <= 242 for item in found.samples)


@pytest.mark.slow
def test_the_command_prints_a_page_or_json(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(jsonl(40).replace(b'"text"', b'"body"'))
    shell, path = CliRunner(), str(tmp_path / "a.jsonl")
    shown = shell.invoke(app, ["corpus", "inspect", path, "--columns", "text=body", "--sample", "20"])
    assert shown.exit_code == 0
    for part in ("40 documents (counted); 20 looked at", "What rules would reject", "10 at random", "Lengths"):
        assert part in shown.output
    found = json.loads(shell.invoke(app, ["corpus", "inspect", path, "--columns", "text=body", "--json"]).output)
    assert (found["documents"], found["looked_at"]) == (40, 40)
    refused = shell.invoke(app, ["corpus", "inspect", path, "--columns", "text"])
    assert "--columns is 'text'; accepted: FIELD=COLUMN" in str(refused.exception)
    assert "no column 'text'" in str(shell.invoke(app, ["corpus", "inspect", path]).exception)


def archive_of(folder, count, *, one_member):
    """A WET file of texts whose number is their first word."""
    noise = random.Random(3)
    records = []
    for n in range(count):
        body = f"{n} {noise.randbytes(400).hex()}".encode()
        head = f"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        records.append(head.encode() + body + b"\r\n\r\n")
    pieces = [b"".join(records)] if one_member else records
    (folder / "a.wet.gz").write_bytes(b"".join(gzip.compress(piece, mtime=0) for piece in pieces))
    return open_source(str(folder / "a.wet.gz"), Document)


@pytest.mark.parametrize("one_member", [True, False])
def test_a_large_archive_is_looked_at_however_it_is_packed(tmp_path, one_member):
    source = archive_of(tmp_path, 3000, one_member=one_member)
    found = take_sample(source, 50, small=100_000, place_bytes=16_384 * 8)
    numbers = [int(document.text.split()[0]) for document in found.documents]
    assert len(numbers) == 50
    assert found.bytes_read < source.files[0].size // 2
    assert not found.exact
    assert 1500 < found.total < 6000
    assert (max(numbers) > 1500) != one_member
