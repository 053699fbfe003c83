"""Rows in the store: Parquet parts in row groups of a thousand, read and written as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reinstruct.commit import Part, Slice
from reinstruct.errors import StoreError
from reinstruct.records import from_table, schema, to_table
from reinstruct.store import Store
from reinstruct.views import as_stored

if TYPE_CHECKING:
    import polars as pl

ROWS = 1024  # of a chunk and of a row group, at most
PART_ROWS = 1 << 17  # of a part: what is told of each row group is held until it ends, some 10 kB
CHUNK_BYTES = 1 << 19  # in a chunk that is read, but for the longest of rows
_READ_BYTES = 1 << 16  # of a file at once, rather than all of a row group
_PAGE_BYTES = 1 << 18  # of a page, which writers and readers hold several times
_PAGE_STEP = 64  # rows after which a writer looks whether a page is full
_FEWEST = 64  # rows of a chunk, unless there are no more


@dataclass(frozen=True)
class Chunk:
    """Some rows, as columns for filters and as records for everything else, converted only when asked for."""

    record_type: type[Any]
    table: pa.Table | None = None
    rows: Sequence[Any] | None = None

    @cached_property
    def arrow(self) -> pa.Table:
        return self.table if self.table is not None else to_table(self.rows or (), self.record_type)

    @cached_property
    def frame(self) -> pl.DataFrame:
        import polars as pl

        frame = pl.from_arrow(self.arrow)
        assert isinstance(frame, pl.DataFrame)
        return frame

    @cached_property
    def records(self) -> Sequence[Any]:
        return self.rows if self.rows is not None else from_table(self.arrow, self.record_type)

    def __len__(self) -> int:
        return len(self.rows) if self.rows is not None else self.arrow.num_rows


def of_frame(frame: pl.DataFrame, record_type: type[Any]) -> Chunk:
    """Columns back to a chunk with the record type's own Arrow schema."""
    wanted = schema(record_type)
    columns = [as_stored(frame.get_column(field.name).to_arrow(), field.type) for field in wanted]
    return Chunk(record_type, table=pa.Table.from_arrays(columns, schema=wanted))


def joined(chunks: Iterable[Chunk], rows: int, size: int) -> Iterator[Chunk]:
    """The chunks in order, put together until one has so many rows or bytes (of Arrow); nothing is copied."""
    held: list[Chunk] = []
    rows_held = bytes_held = 0
    for chunk in chunks:
        if held and held[0].record_type is not chunk.record_type:
            yield _one(held)
            held, rows_held, bytes_held = [], 0, 0
        held.append(chunk)
        rows_held += len(chunk)
        bytes_held += chunk.arrow.nbytes
        if rows_held >= rows or bytes_held >= size:
            yield _one(held)
            held, rows_held, bytes_held = [], 0, 0
    if held:
        yield _one(held)


def _one(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    return Chunk(chunks[0].record_type, table=pa.concat_tables([chunk.arrow for chunk in chunks]))


def read_slices(
    store: Store, slices: Iterable[Slice], record_type: type[Any], columns: Sequence[str] | None = None
) -> Iterator[Chunk]:
    """The rows of the slices in order, in chunks of at most ROWS; of `columns`, or all of them."""
    for piece in slices:
        with _opened(store, piece.part) as parquet:
            yield from _rows_between(parquet, piece, record_type, columns)


def read_parts(store: Store, parts: Iterable[Part], record_type: type[Any]) -> Iterator[Chunk]:
    """All rows of the parts, in order."""
    return read_slices(store, (Slice(part.name, 0, part.rows) for part in parts), record_type)


class PartWriter:
    """Writes parts of an attempt, the first of this name; nothing is created until there is a row.

    Use as a context, then `parts`. A part ends after `most_rows`, with the chunk that reaches them.
    """

    def __init__(self, store: Store, name: str, record_type: type[Any], most_rows: int = PART_ROWS) -> None:
        self.rows = 0
        self._store = store
        self._name = name
        self._most_rows = most_rows
        self._schema = schema(record_type)
        self._record_type = record_type
        self._begun: list[tuple[str, int]] = []  # names of parts, and the rows written before each
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.Table] = []

    def write(self, chunk: Chunk) -> None:
        self._pending.append(chunk.arrow)
        self.rows += len(chunk)
        if sum(table.num_rows for table in self._pending) >= ROWS:
            self._flush()

    def write_records(self, records: Sequence[Any]) -> None:
        if records:
            self.write(Chunk(self._record_type, rows=records))

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if kind is None:
            self._flush()
        self._close()
        if kind is not None:
            for name, _ in self._begun:
                self._store.delete(name)

    def parts(self) -> list[Part]:
        """The finished parts, none where no row came."""
        borders = [*(before for _, before in self._begun), self.rows]
        rows = [end - start for start, end in pairwise(borders)]
        return [Part(name, *self._store.sealed(name), n) for (name, _), n in zip(self._begun, rows, strict=True)]

    def _flush(self) -> None:
        tables, self._pending = [table for table in self._pending if table.num_rows], []
        if not tables:
            return
        table = pa.concat_tables(tables)
        before = self.rows - table.num_rows
        if self._writer is None or before - self._begun[-1][1] >= self._most_rows:
            self._close()
            self._begin(before)
        assert self._writer is not None
        self._writer.write_table(table, row_group_size=ROWS)

    def _begin(self, before: int) -> None:
        stem, dot, ending = self._name.rpartition(".")
        name = f"{stem}-{len(self._begun)}{dot}{ending}" if self._begun else self._name
        path = self._store.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._begun.append((name, before))
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,  # of whole texts, which nobody asks for
            data_page_size=_PAGE_BYTES,
            write_batch_size=_PAGE_STEP,
        )

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _opened(store: Store, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(store.path(name), buffer_size=_READ_BYTES)
    except FileNotFoundError as error:
        raise StoreError(f"{store.root} has lost {name}, which a done record names") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{store.root}/{name} is damaged: {error}") from error


def _rows_between(
    parquet: pq.ParquetFile, piece: Slice, record_type: type[Any], columns: Sequence[str] | None
) -> Iterator[Chunk]:
    end, position = piece.start + piece.rows, 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if position < end and piece.start < position + rows:
            at = position
            size = _chunk_rows(parquet.metadata.row_group(group))
            for batch in parquet.iter_batches(size, [group], list(columns) if columns else None, use_threads=False):
                first, last = max(piece.start, at), min(end, at + batch.num_rows)
                if first < last:
                    yield Chunk(record_type, table=pa.Table.from_batches([batch.slice(first - at, last - first)]))
                at += batch.num_rows
        position += rows


def _chunk_rows(group: pq.RowGroupMetaData) -> int:
    """How many of a group's rows are read at once: of long texts fewer, as memory goes by bytes and not by rows."""
    return min(ROWS, max(_FEWEST, CHUNK_BYTES * group.num_rows // max(1, group.total_byte_size)))
