"""Rows of a file to records, in order.

The one rule: a row that cannot be used is turned away with a reason; a file whose many rows all have the wrong shape is
an error, because then the mapping is wrong and not the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from reinstruct.corpus.fields import Columns, columns_of, convert, missing
from reinstruct.corpus.source import WHOLE, Range, Source, SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop, Record, Rejected, from_table
from reinstruct.tables import ROWS, Chunk

SHAPE_ROWS = 100  # so many rows of the wrong shape, and none of the right one before, condemn the file
RAW_CHARS = 500


class Row(NamedTuple):
    """One row as read. `at` says where: its first byte (of the decompressed file), or the count of rows before it; of a
    packed archive a member's first byte, followed by +N for a record before which N unpacked bytes of the member lie.

    `value` is a finished record, a row by column, or why there is neither. `raw` is kept for the report; empty where
    the file has no text of a row (Parquet).
    """

    at: int | str
    raw: bytes
    value: Record | dict[str, Any] | Drop
    unit: str = "byte"


class Batch(NamedTuple):
    """Some rows of a source, in order: good ones as a table or as records, bad ones as Rejected in their place."""

    table: pa.Table | None = None
    records: Sequence[Record | Rejected] = ()

    def split(self, record_type: type[Any], most: int = 0) -> tuple[Chunk, list[Rejected]]:
        """The good rows, `most` at most (0: all), and the bad ones."""
        if self.table is not None:
            return Chunk(record_type, table=self.table.slice(0, most or None)), []
        good = [row for row in self.records if not isinstance(row, Rejected)]
        bad = [row for row in self.records if isinstance(row, Rejected)]
        return Chunk(record_type, rows=good[: most or None]), bad

    def flat(self, record_type: type[Any]) -> Sequence[Record | Rejected]:
        """All rows in order."""
        return self.records if self.table is None else from_table(self.table, record_type)


Block = Sequence[Row] | pa.Table
"""What a reader gives: rows to look at one by one, or a table in which every row is a record of the wanted type."""


def batched(rows: Iterable[Row], size: int = ROWS) -> Iterator[Sequence[Row]]:
    """Rows in blocks of `size`."""
    rows = iter(rows)
    while block := list(islice(rows, size)):
        yield block


def to_batches(blocks: Iterable[Block], source: Source, file: SourceFile, within: Range) -> Iterator[Batch]:
    """Blocks in order as batches.

    Raises CorpusError when the first 100 rows of a file have the wrong shape: not JSON, not objects, a needed column
    absent or of the wrong type; of a source's only file, also when there are fewer and all have.
    """
    shape = _Shape(source, file, within)
    for block in blocks:
        if isinstance(block, pa.Table):
            yield from shape.settled()
            yield Batch(block)
            continue
        records = [record for row in block for record in shape.passed(row)]
        if records:
            yield Batch(records=records)
    yield from shape.ended()


def rejected(name: str, row: Row, drop: Drop) -> Rejected:
    """A bad row of the file called `name`, with the place and the beginning of the row."""
    encode = msgspec.json.encode
    raw = encode(row.value, enc_hook=repr) if isinstance(row.value, dict) and not row.raw else row.raw
    place = f"{row.unit} {row.at}"
    return Rejected(
        id=f"{name}:{row.at}",
        stage="Read",
        reason=drop.reason,
        detail=f"{place}: {drop.detail}" if drop.detail else place,
        record=raw[: 4 * RAW_CHARS].decode(errors="replace")[:RAW_CHARS],
    )


class _Shape:
    """Holds the rows of the wrong shape back until a row shows that the file's shape is right.

    Only the range that begins the file judges: in the middle of one, a hundred bad rows are just that.
    """

    def __init__(self, source: Source, file: SourceFile, within: Range) -> None:
        self._source, self._file, self._within = source, file, within
        self._columns = columns_of(source.record_type, dict(source.columns))
        self._known = within.start > 0
        self._held: list[Rejected] = []
        self._seen: dict[str, None] = {}

    def passed(self, row: Row) -> list[Record | Rejected]:
        """The row as a record or a rejection, after all that waited for it; nothing if it has to wait itself."""
        value = row.value
        outcome = convert(value, self._source.record_type, self._columns) if isinstance(value, dict) else value
        record = rejected(self._file.name, row, outcome) if isinstance(outcome, Drop) else outcome
        if self._known:
            return [record]
        self._seen.update(dict.fromkeys(value if isinstance(value, dict) else ()))
        if not isinstance(record, Rejected) or not _wrong_shape(record.reason):
            return [*self._released(), record]
        self._held.append(record)
        if len(self._held) == SHAPE_ROWS:
            raise self._misshapen()
        return []

    def settled(self) -> Iterator[Batch]:
        """What waited, as the shape is right."""
        if released := self._released():
            yield Batch(records=released)

    def ended(self) -> Iterator[Batch]:
        """What waited until the end: an error if that was the whole source. One short odd file among others is not."""
        if self._held and self._within == WHOLE and len(self._source.files) == 1:
            raise self._misshapen()
        yield from self.settled()

    def _released(self) -> list[Record | Rejected]:
        self._known = True
        held: list[Record | Rejected] = [*self._held]
        self._held.clear()
        return held

    def _misshapen(self) -> CorpusError:
        where, held, present = self._source.uri + self._file.name, self._held, list(self._seen)
        record_type = self._source.record_type
        wanted = missing(record_type, present, self._columns)
        if present and wanted:
            return no_column(where, record_type, wanted, self._columns, present)
        rows = "its only row is" if len(held) == 1 else f"its first {len(held)} rows are all"
        form = ", and a row is one JSON object on one line" if held[0].reason == "not_json" else ""
        return CorpusError(f"{where} cannot be used: {rows} unusable; {held[0].detail} ({held[0].reason}){form}")


def no_column(where: str, record_type: type[Any], wanted: str, columns: Columns, present: list[str]) -> CorpusError:
    """The error for a file without a column for a required field."""
    flag = "--corpus-columns" if record_type is Document else "--seed-columns"
    names = " or ".join(repr(name) for name in columns[wanted])
    return CorpusError(
        f"{where} has no column {names} for the field {wanted!r} of {record_type.__name__}; its columns are "
        f"{', '.join(present)}; if one of them holds it, say which with {flag} {wanted}=COLUMN"
    )


def _wrong_shape(reason: str) -> bool:
    return reason in ("not_json", "not_an_object", "bad_utf8", "wrong_type") or reason.startswith("missing_")
