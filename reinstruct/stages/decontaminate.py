"""Reject what shares a run of words with a test set, and say which words and which item.

The one rule: what is compared are words as `shingles` has them, so that case, punctuation and layout hide no leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import polars as pl

from reinstruct.errors import expect
from reinstruct.records import R
from reinstruct.stage import Filter
from reinstruct.stages.leak_sets import TestSets
from reinstruct.stages.shingles import shingles
from reinstruct.stages.spaced import words

_SLOTS = 16  # of the first look, per run of words in the test sets: one in 16 that is in none passes it
_VERDICT = pl.Struct({"reason": pl.String, "detail": pl.String})


@dataclass(frozen=True)
class DropLeaks(Filter[R]):
    """Reject as "contaminated" a record of which one of `fields` shares `run` consecutive words with a test item.

    Item texts of fewer words, but at least `least`, must be the whole field; shorter ones ("yes", a category) count for
    nothing. The detail names file and row, and quotes the words the two have in common, to their end.

    Source: the 13 words are GPT-3's (Brown et al. 2020, appendix C, https://arxiv.org/abs/2005.14165).
    """

    items: TestSets
    fields: tuple[str, ...] = ("text",)
    run: int = 13
    least: int = 6

    def __post_init__(self) -> None:
        expect(self.run >= 1, "DropLeaks: run", self.run, "1 or more words")
        expect(bool(self.fields), "DropLeaks: fields", self.fields, "the names of one text field or more")

    def reason(self) -> pl.Expr:
        """A struct of `reason` and `detail`."""
        return pl.struct(self.fields).map_batches(self._verdicts, return_dtype=_VERDICT)

    def _verdicts(self, records: pl.Series) -> pl.Series:
        found = _Leaks.of(self.items, self.run, self.least)
        details: list[str | None] = [None] * len(records)
        for name in self.fields:
            texts = records.struct.field(name)
            for row in found.rows(texts):
                details[row] = details[row] or found.quoted(texts[row])
        frame = pl.DataFrame({"detail": details}, schema={"detail": pl.String})
        reason = pl.when(pl.col("detail").is_not_null()).then(pl.lit("contaminated")).alias("reason")
        return frame.select(pl.struct(reason, "detail")).to_series()


class _Leaks:
    """The runs of words of test items, to look others up in."""

    def __init__(self, items: TestSets, run: int, least: int) -> None:
        self._run = run
        texts, self._places = zip(*items.texts(), strict=True) if items.uris else ((), ())
        column = pl.Series(texts, dtype=pl.String)
        long = shingles(column, 1).group_by("row").len().filter(pl.col("len") >= min(least, run))
        keys = shingles(column, run).join(long, on="row", how="semi").sort("key", "row")
        keys = keys.unique("key", keep="first", maintain_order=True)
        self._keys, self._items = keys["key"], keys["row"]
        size = max(1, len(keys) * _SLOTS)
        self._maybe = pl.repeat(value=False, n=size, eager=True).scatter((self._keys % size).cast(pl.UInt32), True)

    @staticmethod
    @cache
    def of(items: TestSets, run: int, least: int) -> _Leaks:
        return _Leaks(items, run, least)

    def _hits(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The keys among those of the items, with a column `item`."""
        slots = (keys["key"] % len(self._maybe)).cast(pl.UInt32)
        likely = keys.filter(self._maybe.gather(slots))
        if not len(self._keys) or not likely.height:
            return likely.clear().with_columns(item=pl.lit(0, dtype=pl.UInt32))
        at = self._keys.search_sorted(likely["key"]).clip(upper_bound=len(self._keys) - 1)
        return likely.with_columns(item=self._items.gather(at)).filter(self._keys.gather(at) == likely["key"])

    def rows(self, texts: pl.Series) -> list[int]:
        """The places of texts that share a run with an item."""
        return self._hits(shingles(texts, self._run))["row"].unique().sort().to_list()

    def quoted(self, text: str) -> str:
        """The item the text shares its first run with, and all words that follow in both."""
        keys = shingles(pl.Series([text]), self._run).with_row_index("place")
        hits = self._hits(keys)
        first = hits["place"][0]
        apart = hits.filter(pl.col("place") != pl.int_range(pl.len()) + first)
        following = hits.height - apart.height
        said = words(text)[first : first + following - 1 + self._run]
        return f"{self._places[hits['item'][0]]}: {' '.join(said)}"
