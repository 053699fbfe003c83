"""Which of several rows to prefer: the first, the longest, or the one with the best score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from reinstruct.errors import RecipeError
from reinstruct.rows import Rows
from reinstruct.suggest import suggestion

_PIECE = 1 << 15  # rows whose verdicts are handed out at once


def worth_of(rows: Rows, keep: str, field: str, wanted: pl.Series) -> pl.DataFrame:
    """`row` and `worth` (the larger, the rather kept) of the rows at the places in `wanted`, in order.

    `keep` is "first" (all are worth the same: ties fall to the first), "longest" (characters of `field`) or the name
    of a score, of which the last counts; a row without it, or with one that is not a number, is worth the least.
    RecipeError where none of all rows has it.
    """
    match keep:
        case "first":
            return pl.DataFrame({"row": wanted.sort()}).with_columns(worth=pl.lit(0.0))
        case "longest":
            fields, worth = [field], pl.col(field).str.len_chars().cast(pl.Float64)
        case name:
            named = pl.element().filter(pl.element().struct.field("name") == name).struct.field("value")
            fields, worth = ["scores"], pl.col("scores").list.eval(named).list.last()
    least = -float("inf")
    found = pick(rows, fields, wanted, [worth.fill_nan(None).fill_null(least).alias("worth")])
    if rows.height and fields == ["scores"] and (found["worth"] == least).all():
        _expect_score(rows, keep)
    return found


def _expect_score(rows: Rows, name: str) -> None:
    """RecipeError if no row has the score: misspelt, it would take the first rows for the best."""
    known: set[str] = set()
    for frame in rows.read("scores"):
        known.update(frame["scores"].explode().struct.field("name").drop_nulls().unique())
        if name in known:
            return
    have = f"they have {', '.join(sorted(known))}" if known else "they have no scores"
    raise RecipeError(f"none of the rows has a score {name!r}{suggestion(name, known)}; {have}")


def pick(rows: Rows, fields: Sequence[str], wanted: pl.Series, values: Sequence[pl.Expr] = ()) -> pl.DataFrame:
    """Those fields, or expressions of them, of the rows in `wanted`, in order, each with its place as `row`."""
    found: list[pl.DataFrame] = []
    start = 0
    places = wanted.sort()
    for frame in rows.read(*fields):
        first, last = places.search_sorted(start), places.search_sorted(start + frame.height)
        here = places.slice(first, last - first)
        taken = frame.select(values or fields).select(pl.all().gather(here - start))
        found.append(taken.insert_column(0, here.alias("row")))
        start += frame.height
    if not found:
        return pl.DataFrame(schema={"row": pl.UInt32, **dict.fromkeys(fields, pl.String)})
    return pl.concat(found, rechunk=True)  # joined to thousands of pieces, a million rows would take 300 MB more


def spread(rows: Rows, found: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The verdicts in `found`, with their `row`, put among as many rows without any as there are; in pieces."""
    found = found.sort("row")
    for start in range(0, max(1, rows.height), _PIECE):
        end = min(rows.height, start + _PIECE)
        first, last = found["row"].search_sorted(start), found["row"].search_sorted(end)
        every = pl.int_range(start, end, dtype=pl.UInt32, eager=True).alias("row").to_frame()
        yield every.join(found.slice(first, last - first), on="row", how="left", maintain_order="left").drop("row")
