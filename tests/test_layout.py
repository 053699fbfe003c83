"""Sources are cut into shards that together read every row once, whatever their number."""

import gzip
import io
import json
import random

import pytest

from reinstruct.commit import Slice, close
from reinstruct.corpus.cuts import LEAST
from reinstruct.corpus.open import open_source
from reinstruct.corpus.stdin import ending, spooled
from reinstruct.errors import CorpusError
from reinstruct.layout import ensure_layout, output_parts
from reinstruct.plan import read
from reinstruct.records import Document, Rejected
from reinstruct.store import LocalStore
from reinstruct.tables import read_parts
from reinstruct.worker import run_shard

GOOD = b'{"text": "a good row"}\n'


def rows(n, width=400):
    noise = random.Random(n)
    return b"".join(
        json.dumps({"text": f"{i} {noise.randbytes(width).hex()}"}).encode() + b"\n" if i % 50 else b"odd\n"
        for i in range(n)
    )


def run(folder, step, shards):
    """(ids of the documents, ids of the rejected rows, number of shards) of a read step done with that many shards."""
    store = LocalStore(folder)
    layout = ensure_layout(store, step, shards=shards, min_rows=1)
    for shard in range(len(layout.shards)):
        assert run_shard(store, step, shard, lambda model: pytest.fail("no model")) is not None
    result = close(store, step.id)
    kept = [record.id for chunk in read_parts(store, output_parts(store, step), Document) for record in chunk.records]
    bad = [record.id for chunk in read_parts(store, result.rejected, Rejected) for record in chunk.records]
    return kept, bad, len(layout.shards)


@pytest.mark.slow
def test_one_large_file_makes_many_shards_and_the_same_rows(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(rows(6000))
    step = read(open_source(str(tmp_path / "a.jsonl"), Document)).step
    kept, bad, shards = run(tmp_path / "one", step, 1)
    assert (len(kept), len(bad), shards) == (5880, 120, 1)
    assert run(tmp_path / "two", step, 2) == (kept, bad, 2)
    assert run(tmp_path / "many", step, 9) == (kept, bad, 5)  # of a megabyte at least


@pytest.mark.slow
def test_small_files_share_shards_and_large_ones_are_cut(tmp_path):
    for name in ("a", "b", "d", "e"):
        (tmp_path / f"{name}.jsonl").write_bytes(rows(20))
    (tmp_path / "c.jsonl").write_bytes(rows(6000))
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(rows(6000), 1))
    step = read(open_source(str(tmp_path), Document)).step
    layout = ensure_layout(LocalStore(tmp_path / "store"), step, shards=6, min_rows=1)
    names = [[piece.part[0] for piece in shard] for shard in layout.shards]
    assert names == [["a", "b"], *[["c"]] * 4, ["d", "e", "f"]]
    assert layout.shards[0] == [Slice("a.jsonl"), Slice("b.jsonl")]
    assert run(tmp_path / "store", step, 6)[:2] == run(tmp_path / "other", step, 1)[:2]


def test_a_limit_reads_in_file_order_and_exactly(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(rows(6000))
    source = open_source(str(tmp_path / "a.jsonl"), Document)
    every, _, _ = run(tmp_path / "all", read(source).step, 4)
    for limit in (1, 1000, 2345):
        kept, _, shards = run(tmp_path / f"limit-{limit}", read(source, limit=limit).step, 4)
        assert (kept, shards) == (every[:limit], 1)


def test_the_number_of_shards_is_no_part_of_the_identity(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(rows(6000))
    assert (tmp_path / "a.jsonl").stat().st_size > 4 * LEAST
    step = read(open_source(str(tmp_path / "a.jsonl"), Document)).step
    ensure_layout(LocalStore(tmp_path / "one"), step, shards=1, min_rows=1)
    assert read(open_source(str(tmp_path / "a.jsonl"), Document)).step.id == step.id


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'{"text": "a"}\n', ".jsonl"),
        (b'\xef\xbb\xbf [{"text": "a"}]', ".json"),
        (gzip.compress(b'{"text": "a"}\n', mtime=0), ".jsonl.gz"),
        (b"PAR1...", ".parquet"),
        (b"WARC/1.0\r\n", ".warc"),
        (gzip.compress(b"WARC/1.0\r\n", mtime=0), ".warc.gz"),
        (b"<!DOCTYPE html><p>", ".html"),
        (b"some words", ".txt"),
        (b'id,"text"\r\n1,x\r\n', ".csv"),
        (b"id\ttext\n", ".tsv"),
        (b"Rivers, text and all\n", ".txt"),
        (gzip.compress(b"text;id\n", mtime=0), ".csv.gz"),
    ],
    ids=[
        "lines",
        "json",
        "packed-lines",
        "parquet",
        "warc",
        "packed-warc",
        "html",
        "text",
        "csv",
        "tsv",
        "prose",
        "packed-csv",
    ],
)
def test_standard_input_is_recognised_by_its_beginning(content, name):
    assert ending(content) == name


def test_standard_input_is_a_corpus_named_by_its_content(tmp_path):
    paths = [spooled(io.BytesIO(content), tmp_path) for content in (GOOD, GOOD, GOOD * 2)]
    assert paths[0] == paths[1] != paths[2]
    assert sorted(tmp_path.iterdir()) == sorted({paths[0], paths[2]})
    assert open_source(str(paths[0]), Document).files == open_source(str(paths[1]), Document).files
    with pytest.raises(CorpusError, match="but it is empty"):
        spooled(io.BytesIO(b""), tmp_path)
    with pytest.raises(CorpusError, match=r"is \.gz and holds \.txt, which is read unpacked only"):
        spooled(io.BytesIO(gzip.compress(b"some words")), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
