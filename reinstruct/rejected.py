"""Rejected rows in the form in which they are stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from reinstruct.records import Drop, Rejected, schema
from reinstruct.views import as_texts, repeated, text_array, views_of

if TYPE_CHECKING:
    import polars as pl

try:
    from reinstruct._objects import json_objects as json_objects
except ImportError:  # installed where there was no C compiler
    json_objects = None

BEGINNING = 240  # characters of a rejected text that are stored where the input holds the whole
JsonObjects = Callable[[tuple[Any, ...]], tuple[bytearray, bytearray]]


def rejected_row(record: Any, stage: str, drop: Drop) -> Rejected:
    """The stored form of a rejection."""
    return Rejected(
        id=record.id, stage=stage, reason=drop.reason, detail=drop.detail, record=msgspec.json.encode(record).decode()
    )


def split_by_reason(judged: pl.DataFrame, stage: str, *, in_input: bool) -> tuple[pl.DataFrame, pa.Table]:
    """Columns with a `reason` and maybe a `detail` column -> kept rows, and rejected rows in their stored form.

    `in_input`: the rows stand whole in the stage's input, under the same ids; of long texts the beginning is stored.
    """
    is_kept = judged.get_column("reason").is_null()
    kept, dropped = (_rows(judged, which) for which in (is_kept, ~is_kept))
    said = {name: as_texts(_filled(dropped.pop(name))) for name in ("reason", "detail") if name in dropped}
    rows = len(dropped["id"])
    stored = {
        "id": as_texts(dropped["id"]),
        "stage": repeated(stage, rows),
        "detail": repeated("", rows),
        **said,
        "record": as_json(_frame(dropped), BEGINNING if in_input else 0),
    }
    wanted = schema(Rejected)
    return _frame(kept, without=said), pa.Table.from_arrays([stored[name] for name in wanted.names], schema=wanted)


def as_json(rows: pl.DataFrame, most: int, json_objects: JsonObjects | None = json_objects) -> Any:
    """Arrow's array of the rows as JSON objects, with the first `most` characters of all texts but the id; 0: all."""
    import polars as pl

    texts = [column for column in rows.iter_columns() if column.dtype == pl.String and not column.null_count()]
    if json_objects is None or len(texts) < rows.width:
        return _in_columns(rows, most)
    columns = ((text.name, 0 if text.name == "id" else most, *views_of(text)) for text in texts)
    return text_array(*json_objects(tuple(columns)))


# Columns are taken one by one: a query takes longer to plan than such a batch to filter.
def _rows(judged: pl.DataFrame, which: pl.Series) -> dict[str, pl.Series]:
    return {column.name: column.filter(which) for column in judged.iter_columns()}


def _filled(texts: pl.Series) -> pl.Series:
    return texts.fill_null("") if texts.null_count() else texts


def _frame(columns: dict[str, pl.Series], without: Collection[str] = ()) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame([column for name, column in columns.items() if name not in without])


def _in_columns(rows: pl.DataFrame, most: int) -> Any:
    import polars as pl

    texts = [name for name, kind in rows.schema.items() if most and kind == pl.String and name != "id"]
    cut = rows.with_columns(_beginning(pl.col(name), most) for name in texts)
    return as_texts(cut.select(pl.struct(pl.all()).struct.json_encode()).to_series())


def _beginning(text: pl.Expr, most: int) -> pl.Expr:
    import polars as pl

    cut = text.str.slice(0, most)
    return pl.when(cut.str.len_bytes() < text.str.len_bytes()).then(cut + "…").otherwise(cut)
