"""Rows of a file to records, in order.

The one rule: a row that cannot be used is turned away with a reason; a file whose rows all have the wrong shape is an
error, because then the mapping is wrong and not the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from reinstruct.corpus.fields import Columns, columns_of, convert, missing
from reinstruct.corpus.source import Source, SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop, Record, Rejected

SHAPE_ROWS = 100  # so many rows of the wrong shape, and none of the right one before, condemn the file
RAW_CHARS = 500


class Row(NamedTuple):
    """One row as read. `where` counts lines or rows from 1; `offset` is in bytes, -1 if unknown.

    `raw` is kept for the report; empty where the file has no text of a row (Parquet).
    """

    where: int
    offset: int
    raw: bytes
    value: dict[str, Any] | Drop


def to_records(rows: Iterable[Row], source: Source, file: SourceFile) -> Iterator[Record | Rejected]:
    """Rows in order as records or Rejected.

    Raises CorpusError when the first 100 rows, or all if there are fewer, have the wrong shape: not JSON, not objects,
    a needed column absent or of the wrong type.
    """
    columns = columns_of(source.record_type, dict(source.columns))
    held: list[Rejected] = []
    seen: dict[str, None] = {}
    shape_known = False
    for row in rows:
        outcome = row.value if isinstance(row.value, Drop) else convert(row.value, source.record_type, columns)
        record = rejected(file.name, row, outcome) if isinstance(outcome, Drop) else outcome
        if shape_known:
            yield record
            continue
        seen.update(dict.fromkeys(row.value if isinstance(row.value, dict) else ()))
        if isinstance(record, Rejected) and _wrong_shape(record.reason):
            held.append(record)
            if len(held) == SHAPE_ROWS:
                raise _misshapen(source, file, columns, held, list(seen))
            continue
        shape_known = True
        yield from held
        yield record
    if held and not shape_known:
        raise _misshapen(source, file, columns, held, list(seen))


def rejected(name: str, row: Row, drop: Drop) -> Rejected:
    """A bad row of the file called `name`, with the place and the beginning of the row."""
    raw = msgspec.json.encode(row.value, enc_hook=repr) if isinstance(row.value, dict) and not row.raw else row.raw
    place = f"row {row.where}" if row.offset < 0 else f"line {row.where}, byte {row.offset}"
    return Rejected(
        id=f"{name}:{row.where}",
        stage="Read",
        reason=drop.reason,
        detail=f"{place}: {drop.detail}" if drop.detail else place,
        record=raw[: 4 * RAW_CHARS].decode(errors="replace")[:RAW_CHARS],
    )


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


def _misshapen(
    source: Source, file: SourceFile, columns: Columns, held: list[Rejected], present: list[str]
) -> CorpusError:
    where = source.uri + file.name
    wanted = missing(source.record_type, present, columns)
    if present and wanted:
        return no_column(where, source.record_type, wanted, columns, present)
    rows = "its only row is" if len(held) == 1 else f"its first {len(held)} rows are all"
    form = ", and a row is one JSON object on one line" if held[0].reason == "not_json" else ""
    return CorpusError(f"{where} cannot be used: {rows} unusable; {held[0].detail} ({held[0].reason}){form}")
