"""A stored dataset as a gather sees it: columns, read as often as they are needed, never held as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reinstruct.commit import Slice
from reinstruct.errors import RecipeError, ShardError
from reinstruct.records import schema
from reinstruct.store import Store
from reinstruct.suggest import suggestion
from reinstruct.tables import read_slices

if TYPE_CHECKING:
    import polars as pl


class Rows(Protocol):
    """What a gather may read. `scratch` is an empty folder of its own for what does not fit into memory."""

    height: int
    scratch: Path

    def read(self, *fields: str) -> Iterator[pl.DataFrame]:
        """Those columns of all rows, in a stable order, in pieces. RecipeError for a field the records lack."""
        ...


@dataclass(frozen=True)
class StoredRows:
    """The rows of the slices."""

    store: Store
    slices: Sequence[Slice]
    record_type: type[Any]
    scratch: Path

    @property
    def height(self) -> int:
        return sum(piece.rows for piece in self.slices)

    def read(self, *fields: str) -> Iterator[pl.DataFrame]:
        expect_fields(fields, schema(self.record_type).names)
        for chunk in read_slices(self.store, self.slices, self.record_type, fields):
            yield chunk.frame


class Pieces:
    """A stream of frames, taken in lengths of the taker's choice. ShardError where it ends early or late."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames = frames
        self._left: pl.DataFrame | None = None

    def take(self, n: int) -> pl.DataFrame:
        """The next `n` rows."""
        import polars as pl

        taken: list[pl.DataFrame] = []
        while n:
            if self._left is None or not self._left.height:
                self._left = next(self._frames, None)
                if self._left is None:
                    raise ShardError(f"a gather gave no verdict on {n} rows or more")
                continue
            taken.append(self._left.head(n))
            n -= taken[-1].height
            self._left = self._left.slice(taken[-1].height)
        return pl.concat(taken)

    def expect_end(self) -> None:
        """ShardError if there is more."""
        more = sum(frame.height for frame in (self._left, *self._frames) if frame is not None)
        if more:
            raise ShardError(f"a gather gave {more} verdicts more than there are rows")


def expect_fields(wanted: Sequence[str], names: Sequence[str]) -> None:
    """RecipeError if one of the wanted fields is not among the names of a record's."""
    for field in wanted:
        if field not in names:
            raise RecipeError(f"no field {field!r}{suggestion(field, names)}; the records have {', '.join(names)}")
