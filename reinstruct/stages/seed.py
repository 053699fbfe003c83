"""Choose among seed pairs.

The one rule: a pair whose origin says nothing about the matter is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from reinstruct.corpus.trees import SOURCE
from reinstruct.records import Pair
from reinstruct.stage import Filter
from reinstruct.stages.select import first_reason


@dataclass(frozen=True)
class KeepLanguage(Filter[Pair]):
    """Keep pairs of one language (as "en"; empty: all) among those of Open Assistant trees, which state theirs."""

    language: str = "en"

    def reason(self) -> pl.Expr:
        stated = pl.col("source").str.strip_prefix(SOURCE)
        other = pl.col("source").str.starts_with(SOURCE) & (stated != self.language)
        return first_reason([("other_language", other & bool(self.language))])
