"""Rules as values: a number that is counted in a row, its limit, and a reason. One list both decides and explains.

The one rule: a row is rejected for the first limit it passes, and pays only for what stands before that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import polars as pl

from reinstruct.stages.select import first_reason

Side = Literal["most", "least"]
_NO_ROWS = pl.DataFrame(schema={"row": pl.UInt32, "reason": pl.String})


@dataclass(frozen=True)
class Limit:
    """`value` may be `limit` and no more (side "most") or no less ("least"); a null value breaks nothing.

    What is quicker than counting may be given: `test` says the same as a count beyond the limit. Only where `may` is
    true can a row be beyond it, and where `surely` is true, too, it is; others are counted.
    """

    reason: str
    value: pl.Expr
    side: Side
    limit: float
    counts: str  # what the value is, for people
    test: pl.Expr | None = None
    may: pl.Expr | None = None
    surely: pl.Expr | None = None

    def broken(self) -> pl.Expr:
        if self.test is not None:
            return self.test
        return beyond(self.value, self.side, self.limit)


@dataclass(frozen=True)
class Step:
    """Columns to make or replace for the rows that are left, then limits on them."""

    limits: Sequence[Limit] = ()
    columns: Mapping[str, pl.Expr] = field(default_factory=dict[str, pl.Expr])


def beyond(value: pl.Expr, side: Side, limit: float) -> pl.Expr:
    number = value.cast(pl.Float64).fill_nan(None)  # nothing to count: a rule on emptiness says it
    return number > limit if side == "most" else number < limit


def first_limit(limits: Sequence[Limit]) -> pl.Expr:
    """The reason of the first limit that a row is beyond, else null."""
    return first_reason([(limit.reason, limit.broken()) for limit in limits])


def staged_reason(steps: Sequence[Step]) -> pl.Expr:
    """As `first_limit` of all steps in order on the column "text", but each step sees only what passed those before.

    Most texts fail a cheap limit and never pay for the others.
    """
    judges = [(step.columns, _judges(step.limits)) for step in steps]

    def reasons(texts: pl.Series) -> pl.Series:
        rows, found = texts.alias("text").to_frame().with_row_index("row"), [_NO_ROWS]
        for columns, of_step in judges:
            rows = rows.with_columns(**columns) if columns else rows
            for judge in of_step:
                reason = judge(rows)
                kept = reason.is_null()
                found.append(_where(~kept, [rows["row"], reason]))
                rows = _where(kept, rows.get_columns())
        every = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.UInt32, eager=True)})
        return every.join(pl.concat(found), on="row", how="left", maintain_order="left")["reason"]

    return pl.col("text").map_batches(reasons, return_dtype=pl.String)


def _where(kept: pl.Series, columns: Sequence[pl.Series]) -> pl.DataFrame:
    """Series at once: a query takes longer to plan than such a batch to filter."""
    return pl.DataFrame([column.filter(kept) for column in columns])


Judge = Callable[[pl.DataFrame], pl.Series]  # rows -> why each is rejected; null keeps it


def _judges(limits: Sequence[Limit]) -> list[Judge]:
    groups = [(screened, list(some)) for screened, some in groupby(limits, lambda limit: limit.may is not None)]
    return [judge for screened, some in groups for judge in (map(_screened, some) if screened else [_judged(some)])]


def _judged(limits: Sequence[Limit]) -> Judge:
    reason = first_limit(limits).alias("reason")
    return lambda rows: rows.select(reason).to_series()


def _screened(limit: Limit) -> Judge:
    """Counts only where the quick tests leave it open."""

    def judge(rows: pl.DataFrame) -> pl.Series:
        broken = rows.select(limit.may).to_series()
        uncertain = broken if limit.surely is None else broken & ~rows.select(limit.surely).to_series()
        if uncertain.any():
            counted = rows.filter(uncertain).select(limit.broken()).to_series()
            broken = broken.scatter(uncertain.arg_true(), counted)
        return pl.select(reason=pl.when(broken).then(pl.lit(limit.reason))).to_series()

    return judge
