"""Stages that look at the whole dataset: exact duplicates and samples.

The one rule: the same rows give the same verdicts, in any run and, for samples, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from reinstruct.draw import draw_int
from reinstruct.records import R
from reinstruct.rows import Rows
from reinstruct.stage import Gather


@dataclass(frozen=True)
class DropDuplicates(Gather[R]):
    """Keep the first of all rows with the same `field`; the others are a "duplicate".

    With `normalise`, case and the amount of white space make no difference.
    """

    field: str = "text"
    normalise: bool = True

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        key = pl.col(self.field)
        if self.normalise:
            key = key.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
        # 128 bits stand for a text: 16 bytes of memory a row, and no two texts of any corpus share them.
        halves = [key.hash(seed).alias(str(seed)) for seed in (0, 1)]
        keys = pl.concat([pl.DataFrame(schema={"0": pl.UInt64, "1": pl.UInt64}), *_each(rows.read(self.field), halves)])
        yield keys.select(reason=unless(pl.struct(pl.all()).is_first_distinct(), "duplicate"))


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


def _each(frames: Iterable[pl.DataFrame], columns: list[pl.Expr]) -> Iterator[pl.DataFrame]:
    return (frame.select(columns) for frame in frames)
