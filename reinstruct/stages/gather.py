"""Stages that look at the whole dataset: exact duplicates and samples.

The one rule: the same rows give the same verdicts, in any run and, for samples, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from reinstruct.draw import draw_int
from reinstruct.errors import RecipeError
from reinstruct.records import R
from reinstruct.stage import Gather


@dataclass(frozen=True)
class DropDuplicates(Gather[R, R]):
    """Keep the first of all rows with the same `field`; the others are a "duplicate".

    With `normalise`, case and the amount of white space make no difference.
    """

    field: str = "text"
    normalise: bool = True

    def combine(self, records: pl.DataFrame) -> pl.DataFrame:
        if self.field not in records.columns:
            raise RecipeError(f"DropDuplicates: no field {self.field!r}; the records have {', '.join(records.columns)}")
        key = pl.col(self.field)
        if self.normalise:
            key = key.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
        return records.with_columns(reason=_unless(key.is_first_distinct(), "duplicate"))


@dataclass(frozen=True)
class Sample(Gather[R, R]):
    """Keep `size` rows (0: all) drawn by `seed`, in the order given; the others are "not_sampled".

    Drawn are the rows with the smallest hashes of (seed, id): a larger sample holds every smaller one.
    """

    size: int = 0
    seed: int = 0

    def combine(self, records: pl.DataFrame) -> pl.DataFrame:
        if not self.size or self.size >= records.height:
            return records.with_columns(reason=pl.lit(None, dtype=pl.String))
        # Polars' own hash may change with its version; a sample may not.
        draws = pl.Series([draw_int("sample", self.seed, key) for key in records["id"]], dtype=pl.UInt64)
        return records.with_columns(reason=_unless(draws.rank("ordinal") <= self.size, "not_sampled"))


def _unless(kept: pl.Expr | pl.Series, reason: str) -> pl.Expr:
    return pl.when(kept).then(pl.lit(None, dtype=pl.String)).otherwise(pl.lit(reason))
