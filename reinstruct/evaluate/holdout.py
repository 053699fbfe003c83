"""Keep some pairs from every model, to measure them on. The rule: the draw depends on a pair's content alone, so no
copy of a held-out pair is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

from reinstruct.draw import draw
from reinstruct.records import Drop, Pair
from reinstruct.stage import Transform


@dataclass(frozen=True)
class HoldOut(Transform[Pair, Pair]):
    """One side of a split: about `share` of the pairs are the "test" side, the others "train"."""

    share: float
    side: str
    seed: int = 0

    def apply(self, record: Pair) -> Pair | Drop:
        tested = draw(self.seed, "hold-out", record.instruction, record.input, record.output) < self.share
        wanted = tested == (self.side == "test")
        return record if wanted else Drop("held_out" if tested else "for_training")
