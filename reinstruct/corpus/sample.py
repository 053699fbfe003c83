"""A bounded sample of a corpus of any size, from places spread over its files.

The one rule: what is read does not grow with the corpus, and a count is exact or says that it is not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import itemgetter

from reinstruct.corpus.cuts import only_from_start
from reinstruct.corpus.files import blocks, opened
from reinstruct.corpus.members import boundary
from reinstruct.corpus.parquet import row_count, row_group_sizes
from reinstruct.corpus.read import read_range
from reinstruct.corpus.rows import Batch, to_batches
from reinstruct.corpus.source import WHOLE, Range, Source, SourceFile
from reinstruct.corpus.streams import BOM, content_name, decompressed
from reinstruct.corpus.warc import is_compressed, read_blocks
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Rejected, from_table
from reinstruct.repeated import RepeatedIds
from reinstruct.tables import ROWS

SMALL = 32 << 20  # bytes; a corpus up to this size is read whole
PLACES = 16
PLACE_BYTES = 1 << 20
ARCHIVE_SHARE = 8  # a place in an archive is so much smaller: pages are slow to extract
FOOTERS = 64  # Parquet files whose rows are counted; with more of them the rest is estimated
_BLOCK = 16 << 10
_SEARCH = 2 << 20  # bytes that are searched for the next record of an archive
_ENDS = ("truncated_file", "truncated_record", "not_csv")  # what the end of a place looks like


@dataclass
class Sample:
    """Documents of a corpus, `n` of those read, each with the same chance, in the order they came.

    `total` counts the documents of the corpus, `read` the rows that were read, `rejected` those of them that were bad,
    `ids` those of them whose id another text has too.
    """

    n: int
    draw: random.Random
    total: int = 0
    exact: bool = False
    read: int = 0
    bytes_read: int = 0
    rejected: Counter[str] = field(default_factory=Counter[str])
    ids: RepeatedIds = field(default_factory=lambda: RepeatedIds(("id",), ("text",)))
    _kept: list[tuple[int, Document]] = field(default_factory=list[tuple[int, Document]])
    _seen: int = 0

    @property
    def documents(self) -> list[Document]:
        return [document for _, document in sorted(self._kept, key=itemgetter(0))]

    def offer(self, batch: Batch) -> None:
        """Keep some of a batch's documents; only those are made into records (reservoir sampling)."""
        good, _ = batch.split(Document)
        self.ids.add(good.frame)
        for row in range(len(good)):
            slot = self._seen if self._seen < self.n else self.draw.randrange(self._seen + 1)
            if slot < self.n:
                one = good.rows[row] if good.rows is not None else from_table(good.arrow.slice(row, 1), Document)[0]
                self._kept[slot : slot + 1] = [(self._seen, one)]
            self._seen += 1


def take_sample(source: Source, n: int, seed: int = 0, *, small: int = SMALL, place_bytes: int = PLACE_BYTES) -> Sample:
    """Up to `n` documents at random from places spread evenly over the source, the same for the same seed.

    A corpus of up to `small` bytes is read whole, of a larger one 16 pieces of `place_bytes`; of files that are a
    document each, so many as come to `n` or to `small` bytes. CorpusError when there is no document, or one JSON array
    that is too large to read.
    """
    draw = random.Random(seed)
    size = sum(file.size for file in source.files)
    sample = Sample(n, draw)
    if source.kind in ("text", "pydoc"):
        _from_files(source, sample, n, draw, small)
    elif size <= (small // ARCHIVE_SHARE if source.kind == "warc" else small):
        for file in source.files:
            _add(sample, read_range(source, file), file.size)
        sample.total, sample.exact = sample.read, True
    else:
        for file, within, data, weight in _places(source, size, draw, place_bytes):
            batches = read_range(source, file, within, data)
            if source.kind in ("parquet", "arrow"):  # of a row group, which may be large, the beginning
                some = list(islice(batches, 1 + n // (PLACES // 2 * ROWS)))
                batches, weight = iter(some), sum(map(_weight, some))
            elif source.kind == "warc" and within == WHOLE:
                batches, weight = _archive_head(source, file, place_bytes // ARCHIVE_SHARE)
            _add(sample, batches, weight, cut_off=True)
        sample.total, sample.exact = _total(source, size, sample)
    _leave_out_bad(sample)
    if not sample.documents:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sample.rejected.most_common(3))
        why = f"all rows were rejected ({reasons})" if reasons else "it is empty"
        raise CorpusError(f"no document in {source.uri}: {why}")
    return sample


def _weight(batch: Batch) -> int:
    """About how many bytes of the file the batch stands for."""
    if batch.table is not None:
        return batch.table.nbytes
    texts = (row.record if isinstance(row, Rejected) else str(getattr(row, "text", "")) for row in batch.records)
    return sum(len(text.encode(errors="replace")) for text in texts)


def _add(sample: Sample, batches: Iterable[Batch], weight: int, *, cut_off: bool = False) -> None:
    """Rows of one place. What the place's end cut off is no bad row of the corpus."""
    for batch in batches:
        good, bad = batch.split(Document)
        sample.offer(batch)
        reasons = [row.reason for row in bad if not (cut_off and row.reason in _ENDS)]
        sample.rejected.update(reasons)
        sample.read += len(good) + len(reasons)
    sample.bytes_read += weight


def _leave_out_bad(sample: Sample) -> None:
    """Make `total` count documents and no longer rows: exact where no row was bad, or all were read."""
    bad = sum(sample.rejected.values())
    sample.exact = sample.exact and (not bad or sample.read == sample.total)
    sample.total = round(sample.total * (sample.read - bad) / max(1, sample.read))


def _from_files(source: Source, sample: Sample, n: int, draw: random.Random, most: int) -> None:
    """Files that are a document each, or parts of packages that hold some dozens, up to `n` or about `most` bytes."""
    files = list(source.files)
    order = draw.sample(files, len(files))
    for count, file in enumerate(order, start=1):
        _add(sample, read_range(source, file), file.size)
        if (sample.read >= n or sample.bytes_read >= most) and count < len(files):
            break
    else:
        count = len(files)
    sample.exact = count == len(files) or source.kind == "text"
    sample.total = round(sample.read * len(files) / count)


def _places(
    source: Source, size: int, draw: random.Random, place_bytes: int
) -> Iterator[tuple[SourceFile, Range, Iterator[bytes] | None, int]]:
    """(file, range, bytes in its stead, bytes that it stands for) of places at even distances over all bytes."""
    step = size / PLACES
    wanted = [step * number + draw.random() * step for number in range(PLACES)]
    begins = 0
    seen: set[tuple[str, int]] = set()
    for file in source.files:
        for place in (int(at - begins) for at in wanted if begins <= at < begins + file.size):
            found = _place(source, file, place, place_bytes)
            if found and (file.name, found[0].start) not in seen:
                seen.add((file.name, found[0].start))
                yield file, *found
        begins += file.size


def _place(source: Source, file: SourceFile, at: int, size: int) -> tuple[Range, Iterator[bytes] | None, int] | None:
    if source.kind == "arrow":
        return WHOLE, None, file.size
    if source.kind == "parquet":
        return _row_group(source, file, at)
    if source.kind == "warc":
        return _records(source, file, at, size // ARCHIVE_SHARE)
    if only_from_start(source, file):
        count = -(-min(file.size, size) // _BLOCK)
        if count * _BLOCK < file.size:
            _expect_no_array(source, file)
        return WHOLE, islice(blocks(source, file, size=_BLOCK), count), min(file.size, count * _BLOCK)
    start = min(at, max(0, file.size - size))
    return Range(start, min(file.size, start + size)), None, min(file.size, size)


def _records(source: Source, file: SourceFile, at: int, size: int) -> tuple[Range, None, int]:
    """Records of an archive from a byte on; WHOLE where none begins near it, as in one that is packed as one piece."""
    open_at = partial(blocks, source, file, size=_BLOCK)
    find = partial(boundary, open_at, compressed=is_compressed(file.name), most=_SEARCH)
    start = find(at) if at else 0
    stop = find(start + size) if start > 0 else -1
    return (Range(start, stop), None, stop - start) if stop > 0 else (WHOLE, None, file.size)


def _archive_head(source: Source, file: SourceFile, size: int) -> tuple[list[Batch], int]:
    """Pages from the beginning of an archive, up to about `size` bytes of it, and how many bytes were read."""
    taken: list[int] = []

    def open_at(start: int) -> Iterator[bytes]:
        for block in blocks(source, file, start, size=_BLOCK):
            taken.append(len(block))
            yield block

    batches: list[Batch] = []
    for batch in to_batches(read_blocks(open_at, file), source, file, WHOLE):
        batches.append(batch)
        if sum(taken) >= size:
            break
    return batches, min(file.size, sum(taken))


def _expect_no_array(source: Source, file: SourceFile) -> None:
    """CorpusError where a .json file, which may be packed, holds one array: the beginning of it does not parse."""
    if source.kind != "jsonl" or not content_name(file.name).endswith(".json"):
        return
    for chunk in decompressed(blocks(source, file, size=_BLOCK), source.uri + file.name):
        head = chunk.removeprefix(BOM).lstrip() if isinstance(chunk, bytes) else b"damaged"
        if head.startswith(b"["):
            raise CorpusError(
                f"{source.uri}{file.name} holds one JSON array, which cannot be read in part as a corpus of this size "
                "is; write one object per line (.jsonl) instead"
            )
        if head:
            return


def _row_group(source: Source, file: SourceFile, at: int) -> tuple[Range, None, int] | None:
    with opened(source, file) as stream:
        sizes = row_group_sizes(stream, source.uri + file.name)
    passed = 0
    for group, size in enumerate(sizes):
        passed += size
        if passed * file.size >= at * sum(sizes):
            return Range(group, group + 1), None, size
    return None


def _total(source: Source, size: int, sample: Sample) -> tuple[int, bool]:
    """(rows, whether counted): from the footers of Parquet files, else from the rows per byte of what was read."""
    if source.kind != "parquet":
        return round(sample.read * size / max(1, sample.bytes_read)), False
    counted = source.files[:FOOTERS]
    rows = 0
    for file in counted:
        with opened(source, file) as stream:
            rows += row_count(stream, source.uri + file.name)
    return round(rows * size / max(1, sum(file.size for file in counted))), len(counted) == len(source.files)
