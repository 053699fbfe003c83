"""A rule on a text's quality: a number, a limit, and a reason. Filters made of such rules share what they count.

The one rule: a filter's reason is its first rule that is broken, in the order it lists them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from reinstruct.records import R
from reinstruct.stage import Filter
from reinstruct.stages.quality_page import Page, batches
from reinstruct.stages.select import first_reason


@dataclass(frozen=True)
class Rule:
    """`value` may be `limit` and no more (side "most") or no less ("least"); a null value breaks nothing."""

    reason: str
    side: Literal["most", "least"]
    limit: float
    counts: str  # what the value is, for people

    def broken(self) -> pl.Expr:
        value = pl.col(self.reason).cast(pl.Float64).fill_nan(None)  # nothing to count: the rule on emptiness says it
        return value > self.limit if self.side == "most" else value < self.limit


@dataclass(frozen=True)
class QualityFilter(Filter[R]):
    """Base of filters made of rules. A subclass gives rules, and a column of values for each, named by its reason."""

    @abstractmethod
    def rules(self) -> list[Rule]: ...

    @abstractmethod
    def values(self, page: Page) -> pl.DataFrame: ...

    def reason(self) -> pl.Expr:
        return pl.col("text").map_batches(lambda texts: reasons([self], texts)[0], return_dtype=pl.String)

    def verdicts(self, page: Page) -> pl.Series:
        """The reason of each text, null for those kept."""
        return self.values(page).select(first_reason((r.reason, r.broken()) for r in self.rules())).to_series()


@dataclass(frozen=True)
class KeepAll(Filter[R]):
    """Keep rows that all `filters` keep; the reason is of the first that does not. Counts are made once for all."""

    filters: tuple[QualityFilter[R], ...] = ()

    def reason(self) -> pl.Expr:
        return pl.col("text").map_batches(self._reasons, return_dtype=pl.String)

    def _reasons(self, texts: pl.Series) -> pl.Series:
        found = [column.alias(str(number)) for number, column in enumerate(reasons(self.filters, texts))]
        return pl.DataFrame(found).select(pl.coalesce(pl.all())).to_series()


def reasons(filters: Sequence[QualityFilter[R]], texts: pl.Series) -> list[pl.Series]:
    """What each filter says of each text: the first reason, or null."""
    columns: list[list[pl.Series]] = [[] for _ in filters]
    for batch in batches(texts):
        page = Page(batch)
        for column, quality in zip(columns, filters, strict=True):
            column.append(quality.verdicts(page).cast(pl.String).alias("reason"))
    empty = pl.Series("reason", [], dtype=pl.String)
    return [pl.concat(column) if column else empty for column in columns]
