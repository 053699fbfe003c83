"""Rejected rows in the form in which they are stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from reinstruct.records import Drop, Rejected
from reinstruct.views import series, text_array, views_of

if TYPE_CHECKING:
    import polars as pl

try:
    from reinstruct._objects import json_objects as json_objects
except ImportError:  # installed where there was no C compiler
    json_objects = None

BEGINNING = 300  # characters of a rejected text that are stored where the input holds the whole
JsonObjects = Callable[[tuple[Any, ...]], tuple[bytearray, bytearray]]


def rejected_row(record: Any, stage: str, drop: Drop) -> Rejected:
    """The stored form of a rejection."""
    return Rejected(
        id=record.id, stage=stage, reason=drop.reason, detail=drop.detail, record=msgspec.json.encode(record).decode()
    )


def split_by_reason(frame: pl.DataFrame, stage: str, *, in_input: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns with a `reason` and maybe a `detail` column -> kept rows, and rejected rows in their stored form.

    `in_input`: the rows stand whole in the stage's input, under the same ids; of long texts the beginning is stored.
    """
    import polars as pl

    said = [name for name in ("reason", "detail") if name in frame.columns]
    is_kept = frame["reason"].is_null()
    kept = frame.filter(is_kept).drop(said)
    dropped = frame.filter(~is_kept)
    rejected = dropped.select(
        id="id",
        stage=pl.lit(stage),
        reason="reason",
        detail=pl.col("detail").fill_null("") if "detail" in said else pl.lit(""),
        record=as_json(dropped.drop(said), BEGINNING if in_input else 0),
    )
    return kept, rejected


def as_json(rows: pl.DataFrame, most: int, json_objects: JsonObjects | None = json_objects) -> pl.Series:
    """Each row as a JSON object, with the first `most` characters of its texts, but for the id, or all of them if 0."""
    import polars as pl

    if json_objects is None or not all(
        rows[name].dtype == pl.String and not rows[name].null_count() for name in rows.columns
    ):
        return _in_columns(rows, most)
    columns = ((name, 0 if name == "id" else most, *views_of(rows[name])) for name in rows.columns)
    return series(text_array(*json_objects(tuple(columns))))


def _in_columns(rows: pl.DataFrame, most: int) -> pl.Series:
    import polars as pl

    texts = [name for name, kind in rows.schema.items() if most and kind == pl.String and name != "id"]
    cut = rows.with_columns(_beginning(pl.col(name), most) for name in texts)
    return cut.select(pl.struct(pl.all()).struct.json_encode()).to_series()


def _beginning(text: pl.Expr, most: int) -> pl.Expr:
    import polars as pl

    cut = text.str.slice(0, most)
    return pl.when(cut.str.len_bytes() < text.str.len_bytes()).then(cut + "…").otherwise(cut)
