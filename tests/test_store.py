"""The store's contract: whole blobs, create-only records, results that name only what is committed."""

import threading
from pathlib import Path

import pytest

from reinstruct.commit import Count, Done, Layout, close, commit, done_shards, result_of
from reinstruct.errors import AlreadyCommitted, ShardError, StoreError
from reinstruct.records import Document
from reinstruct.store import LocalStore, open_store
from reinstruct.tables import Chunk, PartWriter, read_parts


def test_blobs_come_back(tmp_path: Path):
    store = open_store(f"file://{tmp_path}/bucket")
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")
    assert store.get("a/b.json") == b"two"
    assert store.get("a/c.json") is None
    assert store.names("a") == ["a/b.json"]
    assert store.names("nothing") == []


def test_only_one_of_many_creates_wins(tmp_path: Path):
    store = LocalStore(tmp_path)
    won: list[int] = []
    barrier = threading.Barrier(8)

    def create(number: int) -> None:
        barrier.wait()
        try:
            store.create("done/0.json", str(number).encode())
            won.append(number)
        except AlreadyCommitted:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("done/0.json") == str(won[0]).encode()
    assert store.names("done") == ["done/0.json"], "no temporary file is left or listed"


def test_a_listing_survives_folders_that_go_meanwhile(tmp_path: Path):
    """A trainer lists its checkpoints while another process retires old ones."""
    store, ended = LocalStore(tmp_path), threading.Event()
    store.put("checkpoints/kept/manifest.json", b"{}")

    def come_and_go() -> None:
        while not ended.is_set():
            for number in range(20):
                store.path(f"checkpoints/old-{number}/ranks").mkdir(parents=True)
            for number in range(20):
                store.delete(f"checkpoints/old-{number}")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(300):
            assert store.names("checkpoints") == ["checkpoints/kept/manifest.json"]
    finally:
        ended.set()
        other.join()


def test_unknown_schemes_are_named():
    with pytest.raises(StoreError, match="ftp://x"):
        open_store("ftp://x")


def test_a_full_disk_or_forbidden_folder_is_a_store_error(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        LocalStore(tmp_path).put("file/below.json", b"")


def part(store: LocalStore, name: str, texts: list[str]):
    with PartWriter(store, name, Document) as writer:
        writer.write_records([Document(id=str(n), text=text) for n, text in enumerate(texts)])
    return writer.parts()


def test_parts_stream_back_in_order_and_in_slices(tmp_path: Path):
    from reinstruct.commit import Slice
    from reinstruct.tables import read_slices

    store = LocalStore(tmp_path)
    (written,) = part(store, "p.parquet", [f"text {n}" for n in range(5000)])
    assert written.rows == 5000
    whole = [record.text for chunk in read_parts(store, [written], Document) for record in chunk.records]
    assert whole == [f"text {n}" for n in range(5000)]
    some = read_slices(store, [Slice("p.parquet", 1000, 1500)], Document)
    assert [record.text for chunk in some for record in chunk.records] == whole[1000:2500]
    one = read_slices(store, [Slice("p.parquet", 1000, 1500), Slice("p.parquet", 4999, 1)], Document, ["text"])
    assert [text for chunk in one for text in chunk.frame["text"]] == [*whole[1000:2500], whole[4999]]


def test_a_part_ends_after_so_many_rows_and_the_next_one_begins(tmp_path: Path):
    store = LocalStore(tmp_path)
    rows = [Document(id=str(n), text=f"text {n}") for n in range(5000)]
    with PartWriter(store, "p.parquet", Document, most_rows=2000) as writer:
        for start in range(0, len(rows), 500):
            writer.write_records(rows[start : start + 500])
    parts = writer.parts()
    assert [(part.name, part.rows) for part in parts] == [("p.parquet", 3000), ("p-1.parquet", 2000)]
    assert [record for chunk in read_parts(store, parts, Document) for record in chunk.records] == rows
    assert [store.sealed(part.name) for part in parts] == [(part.bytes, part.sha256) for part in parts]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path):
    store = LocalStore(tmp_path)

    def fail_half_way() -> None:
        with PartWriter(store, "p.parquet", Document, most_rows=1000) as writer:
            for _ in range(3):
                writer.write_records([Document(id="1", text="x")] * 3000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_without_rows_writes_nothing(tmp_path: Path):
    store = LocalStore(tmp_path)
    assert part(store, "p.parquet", []) == []
    assert not list(tmp_path.iterdir())


def test_lost_and_damaged_parts_are_named(tmp_path: Path):
    store = LocalStore(tmp_path)
    (written,) = part(store, "p.parquet", ["x"])
    store.put("p.parquet", b"PAR1 not really")
    with pytest.raises(StoreError, match=r"p\.parquet is damaged"):
        list(read_parts(store, [written], Document))
    store.delete("p.parquet")
    with pytest.raises(StoreError, match="has lost"):
        list(read_parts(store, [written], Document))


def test_a_chunk_converts_both_ways():
    rows = [Document(id="1", text="a\ud7ffü😀"), Document(id="2", text="", source="s")]
    assert Chunk(Document, table=Chunk(Document, rows=rows).arrow).records == rows


def test_every_row_must_be_accounted_for():
    with pytest.raises(ShardError, match="1 are neither"):
        Count("Stage", read=3, kept=1, written=1, rejected={"short": 1}).check(expands=False)
    with pytest.raises(ShardError, match="does not say it expands"):
        Count("Stage", read=1, kept=1, written=2).check(expands=False)
    Count("Stage", read=1, kept=1, written=2).check(expands=True)


def test_a_step_is_finished_when_every_shard_is_committed(tmp_path: Path):
    import msgspec

    store = LocalStore(tmp_path)
    store.create("steps/s/layout.json", msgspec.json.encode(Layout([[], []])))
    commit(store, Done(step="s", shard=1, attempt="a", owner="o"))
    with pytest.raises(StoreError, match="1 shards are committed"):
        close(store, "s")
    assert result_of(store, "s") is None
    commit(store, Done(step="s", shard=0, attempt="b", owner="o", counts=[Count("X", 2, 1, 1, {"r": 1})]))
    with pytest.raises(AlreadyCommitted):
        commit(store, Done(step="s", shard=0, attempt="c", owner="o"))
    assert [done.attempt for done in close(store, "s").shards] == ["b", "a"]
    assert done_shards(store, "s")[0].attempt == "b"
    result = result_of(store, "s")
    assert result is not None
    assert result.counts[0].rejected == {"r": 1}
