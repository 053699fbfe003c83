"""Parquet files: only the columns that fill a field are read, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from reinstruct.corpus.fields import Columns, columns_of, missing
from reinstruct.corpus.rows import Row, no_column
from reinstruct.corpus.source import Source, SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Drop


def read_rows(stream: BinaryIO, source: Source, file: SourceFile, *, rows: int = 1024) -> Iterator[Row]:
    """Rows of the file. Damage inside ends them with one Drop("corrupt_file").

    Raises CorpusError when it is no Parquet file (as a truncated one is not), or lacks a needed or a mapped column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = source.uri + file.name
    try:
        table = pq.ParquetFile(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{where} is not a Parquet file, or is cut off: {error}") from error
    wanted = _wanted(where, source, table.schema_arrow.names)
    number = 0
    try:
        for batch in table.iter_batches(batch_size=rows, columns=wanted):
            for value in _rows_of(batch):
                number += 1
                yield Row(number, -1, b"", value)
    except (pa.ArrowException, OSError) as error:
        yield Row(number + 1, -1, b"", Drop("corrupt_file", str(error)))


def _wanted(where: str, source: Source, present: list[str]) -> list[str]:
    columns: Columns = columns_of(source.record_type, dict(source.columns))
    if absent := missing(source.record_type, present, columns):
        raise no_column(where, source.record_type, absent, columns, present)
    for name, column in source.columns:
        if column not in present:
            raise CorpusError(f"{where} has no column {column!r} (mapped to {name}); its columns are {present}")
    accepted = {column for names in columns.values() for column in names}
    return [column for column in present if column in accepted]


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | Drop]:
    """Rows as dicts. Arrow does not check text when it reads it, so a bad one shows here: then go row by row."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield Drop("bad_utf8", str(error))
