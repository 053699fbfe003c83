"""Columnar files, Parquet and Arrow: only the columns that fill a field are read, a batch at a time.

The one rule: what is damaged costs its row group (of Parquet) or what follows it (of Arrow), and one rejection says so.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reinstruct.corpus.fields import columns_of, missing
from reinstruct.corpus.rows import Block, Row, no_column
from reinstruct.corpus.source import WHOLE, Range, Source, SourceFile
from reinstruct.corpus.typed import of_columns
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop
from reinstruct.tables import ROWS

_ARROW_FILE = b"ARROW1"  # how a file with a footer begins; what `save_to_disk` of datasets writes is a bare stream


def parquet_blocks(stream: Any, source: Source, file: SourceFile, within: Range = WHOLE) -> Iterator[Block]:
    """Rows of the row groups in a range; a damaged group ends with one Drop("corrupt_file").

    Raises CorpusError when it is no Parquet file (as a truncated one is not), or lacks a needed or a mapped column.
    """
    with _recognised(source.uri + file.name, "a Parquet file"):
        table = pq.ParquetFile(stream)
    wanted = _wanted(source, file, table.schema_arrow.names)
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    for group in range(within.start, within.stop or len(sizes)):
        batches = table.iter_batches(batch_size=ROWS, row_groups=[group], columns=wanted)
        yield from _blocks(batches, source, sum(sizes[:group]) + 1)


def arrow_blocks(stream: Any, source: Source, file: SourceFile) -> Iterator[Block]:
    """Rows of an Arrow IPC stream (as Hugging Face `save_to_disk` writes) or file. CorpusError as for Parquet."""
    begins = stream.read(len(_ARROW_FILE))
    stream.seek(0)
    with _recognised(source.uri + file.name, "an Arrow file"):
        reader = pa.ipc.open_file(stream) if begins == _ARROW_FILE else pa.ipc.open_stream(stream)
    wanted = _wanted(source, file, reader.schema.names)
    yield from _blocks((batch.select(wanted) for batch in _record_batches(reader)), source, 1)


def row_group_sizes(stream: Any, where: str) -> list[int]:
    """Compressed bytes of each row group. CorpusError when it is no Parquet file."""
    with _recognised(where, "a Parquet file"):
        metadata = pq.ParquetFile(stream).metadata
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    return [sum(group.column(n).total_compressed_size for n in range(group.num_columns)) for group in groups]


def row_count(stream: Any, where: str) -> int:
    """All rows, as the footer says."""
    with _recognised(where, "a Parquet file"):
        return pq.ParquetFile(stream).metadata.num_rows


@contextmanager
def _recognised(where: str, what: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{where} is not {what}, or is cut off: {error}") from error


def _record_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.RecordBatchFileReader):
        yield from (reader.get_batch(n) for n in range(reader.num_record_batches))
    else:
        yield from reader


def _blocks(batches: Iterable[pa.RecordBatch], source: Source, first: int) -> Iterator[Block]:
    """Batches as blocks; `first` counts the first row, from 1."""
    columns = columns_of(source.record_type, dict(source.columns))
    at = first
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                piece = batch.slice(start, ROWS)
                table = of_columns(piece, columns) if source.record_type is Document else None
                yield list(_rows(piece, at)) if table is None else table
                at += piece.num_rows
    except (pa.ArrowException, OSError) as error:
        yield [Row(at, b"", Drop("corrupt_file", f"the rows from here on are lost: {error}"), "row")]


def _wanted(source: Source, file: SourceFile, present: list[str]) -> list[str]:
    where = source.uri + file.name
    columns = columns_of(source.record_type, dict(source.columns))
    if absent := missing(source.record_type, present, columns):
        raise no_column(where, source.record_type, absent, columns, present)
    for name, column in source.columns:
        if column not in present:
            raise CorpusError(f"{where} has no column {column!r} (mapped to {name}); its columns are {present}")
    accepted = {column for names in columns.values() for column in names}
    return [column for column in present if column in accepted]


def _rows(batch: pa.RecordBatch, first: int) -> Iterator[Row]:
    """Rows as dicts. Arrow does not check text when it reads it, so a bad one shows here: then go row by row."""
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError:
        values = [_row(batch.slice(index, 1)) for index in range(batch.num_rows)]
    for index, value in enumerate(values):
        yield Row(first + index, b"", value, "row")


def _row(batch: pa.RecordBatch) -> dict[str, Any] | Drop:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Drop("bad_utf8", str(error))
