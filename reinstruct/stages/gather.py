"""Stages that look at the whole dataset: exact duplicates and samples.

The one rule: the same rows give the same verdicts, in any run and, for samples, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from reinstruct.draw import draw_int
from reinstruct.records import R
from reinstruct.rows import Rows
from reinstruct.stage import Gather
from reinstruct.stages.keep import spread
from reinstruct.stages.select import one_line
from reinstruct.stages.spill import partitions


@dataclass(frozen=True)
class DropDuplicates(Gather[R]):
    """Keep the first of all rows with the same `field`; the others are a "duplicate".

    With `normalise`, case and the amount of white space make no difference.
    """

    field: str = "text"
    normalise: bool = True

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        # 128 bits stand for a text: no two texts of any corpus share them.
        gone = [pl.DataFrame(schema={"row": pl.UInt32})]
        for part in partitions(self._keys(rows), rows.scratch, rows.height):
            gone.append(part.filter(~pl.struct("key", "other").is_first_distinct()).select("row"))
        yield from spread(rows, pl.concat(gone).with_columns(reason=pl.lit("duplicate")))

    def _keys(self, rows: Rows) -> Iterator[pl.DataFrame]:
        """Of all rows: `key` and `other`, 64 bits each, and `row`."""
        text = one_line(pl.col(self.field)) if self.normalise else pl.col(self.field)
        start = 0
        for frame in rows.read(self.field):
            told = frame.select(text).to_series()
            row = pl.int_range(start, start + frame.height, dtype=pl.UInt32, eager=True)
            yield pl.DataFrame({"key": told.hash(0), "other": told.hash(1), "row": row})
            start += frame.height


@dataclass(frozen=True)
class Sample(Gather[R]):
    """Keep `size` rows (0: all) drawn by `seed`, in the order given; the others are "not_sampled".

    Drawn are the rows with the smallest hashes of (seed, id): a larger sample holds every smaller one.
    """

    size: int = 0
    seed: int = 0

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        if not self.size or self.size >= rows.height:
            yield all_kept(rows.height)
            return
        # Polars' own hash may change with its version; a sample may not.
        keys = (key for frame in rows.read("id") for key in frame["id"])
        draws = pl.Series("draw", (draw_int("sample", self.seed, key) for key in keys), dtype=pl.UInt64)
        yield draws.to_frame().select(reason=unless(pl.col("draw").rank("ordinal") <= self.size, "not_sampled"))


def all_kept(height: int) -> pl.DataFrame:
    """The verdicts where every row stays."""
    return pl.DataFrame({"reason": pl.Series([None], dtype=pl.String).new_from_index(0, height)})


def unless(kept: pl.Expr, reason: str) -> pl.Expr:
    """Null where kept, else the reason."""
    return pl.when(kept).then(pl.lit(None, dtype=pl.String)).otherwise(pl.lit(reason))
