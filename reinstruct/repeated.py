"""Ids that stand for several texts: a source's own ids may repeat, and then nobody can tell by them which is which.

The one rule: a row that is there twice, text and all, is a duplicate and no repeated id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


class RepeatedIds:
    """Counts them among rows given in any number of frames. Takes 16 bytes of memory a row."""

    def __init__(self, ids: tuple[str, ...], texts: tuple[str, ...]) -> None:
        """`ids` are the columns that together should tell rows apart, `texts` those that say what a row is."""
        self._ids, self._texts = ids, texts
        self._hashes: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        """The next rows."""
        import polars as pl

        self._hashes.append(frame.select(id=pl.struct(self._ids).hash(), text=pl.struct(self._texts).hash()))

    def count(self) -> int:
        """How many different ids have several texts, among all rows so far."""
        import polars as pl

        if not self._hashes:
            return 0
        different = pl.concat(self._hashes).unique()
        return different.filter(pl.col("id").is_duplicated())["id"].n_unique()
