"""Group texts that are alike and prune each group. The one rule: the outcome depends on the rows alone, never on their
order: rows are put in the order of their ids first, and ties fall to the smaller id.

Texts become points without a model: hashed character trigrams, weighted by how rare they are. That tells topics and
wording apart in any language, not paraphrases from one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from reinstruct.draw import draw_int
from reinstruct.errors import RecipeError
from reinstruct.records import Pair
from reinstruct.stage import Gather

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from reinstruct.rows import Rows

    Points = np.ndarray[Any, np.dtype[np.float32]]

_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # large odd numbers that mix the bits of a trigram
_NEAR = 64 << 20  # bytes of what points and centres have in common, held at once
_ROUNDS = 25  # of k-means; it settles in fewer on the sets it is meant for


@dataclass(frozen=True)
class PruneClusters(Gather[Pair]):
    """Cluster the pairs by the text in `field`, and in each cluster reject the worst `share` as "pruned".

    The worst are those with a high `distance` (a score of the pair, 0 to 1, higher is worse). `by="k-center"` weighs it
    against what a pair adds to its cluster: pairs are kept one by one, first the one of least distance, then always the
    one for which (how far from all kept ones) times (1 - distance) is largest; those never reached go.
    `by="distance"` takes the largest distances as they are. Pairs without the score count as distance 1.

    There are `clusters`, or fewer, so that one has `least` pairs on average and a share of it is at least one pair.
    Shares are rounded down. Source: Cycle-Instruct's filter (200 clusters of the real texts, 5 %); k-center greedy is
    that of Sener and Savarese 2018, https://arxiv.org/abs/1708.00489.
    """

    version: ClassVar[int] = 2
    share: float = 0.05
    clusters: int = 200
    distance: str = "cycle_distance"
    by: str = "k-center"  # k-center | distance
    field: str = "document"
    least: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise RecipeError(f"PruneClusters: share is {self.share}; accepted: 0 or more and below 1")
        if self.clusters < 1 or self.least < 1:
            raise RecipeError(f"PruneClusters: clusters is {self.clusters}, least {self.least}; accepted: 1 or more")
        if self.by not in ("k-center", "distance"):
            raise RecipeError(f"PruneClusters: by is {self.by!r}; accepted: k-center or distance")

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        import polars as pl

        from reinstruct.stages.gather import all_kept, unless

        if find_spec("numpy") is None:
            raise RecipeError('PruneClusters needs numpy: pip install "reinstruct[train]"')
        if not self.share or not rows.height:
            yield all_kept(rows.height)
            return
        records = pl.concat(list(rows.read("id", self.field, "scores")))
        # A corpus may give several rows one id: they are told apart by their places, and in order by all that counts.
        rated = records.with_row_index("row").with_columns(pl.Series("distance", self._distances(records)))
        ordered = rated.sort("id", self.field, "distance", "row")
        worst = self._worst(*(ordered[name].to_list() for name in ("id", self.field, "distance")))
        gone = ordered["row"].gather(worst)
        yield records.select(reason=unless(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(gone.implode()), "pruned"))

    def _worst(self, keys: list[str], texts: list[str], distances: list[float]) -> list[int]:
        """The places of those to prune."""
        import numpy as np

        points = trigram_points(texts)
        count = max(1, min(self.clusters, len(keys) // self.least))
        labels = k_means(points, starts(keys, count, self.seed))
        worst: list[int] = []
        for label in range(count):
            members = np.flatnonzero(labels == label)
            kept = len(members) - int(len(members) * self.share)
            costs = [distances[member] for member in members]
            ranked = k_center(points[members], costs) if self.by == "k-center" else by_cost(costs)
            worst.extend(int(members[place]) for place in ranked[kept:])
        return worst

    def _distances(self, records: pl.DataFrame) -> list[float]:
        named = ([s["value"] for s in scores if s["name"] == self.distance] for scores in records["scores"].to_list())
        return [found[-1] if found else 1.0 for found in named]


def trigram_points(texts: Sequence[str], size: int = 1024) -> Points:
    """One unit vector per text, [texts, size]: signed, damped counts of its character trigrams, weighted by rarity.

    The hashing trick of Weinberger et al. 2009 (https://arxiv.org/abs/0902.2206); case and white space do not count.
    """
    import numpy as np

    counts = np.zeros((len(texts), size), dtype=np.float32)
    for row, text in enumerate(texts):
        keys = _trigrams(text)
        signs = 1.0 - 2.0 * ((keys >> np.uint64(40)) & np.uint64(1)).astype(np.float32)
        counts[row] = np.bincount((keys % np.uint64(size)).astype(np.int64), weights=signs, minlength=size)
    rarity = np.log((1 + len(texts)) / (1 + np.count_nonzero(counts, axis=0))) + 1
    points = np.sign(counts) * np.log1p(np.abs(counts)) * rarity.astype(np.float32)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(lengths > 0, lengths, 1)


def starts(keys: Sequence[str], count: int, seed: int) -> list[int]:
    """The places of `count` keys drawn by `seed`: those with the smallest hashes."""
    drawn = sorted(range(len(keys)), key=lambda place: (draw_int("cluster", seed, keys[place]), keys[place]))
    return drawn[:count]


def k_means(points: Points, first: Sequence[int]) -> np.ndarray[Any, Any]:
    """The cluster of each point, [points]: Lloyd's algorithm from the points at `first`. An emptied cluster keeps its
    centre; a point between two centres takes the first.
    """
    import numpy as np

    centres = points[list(first)]
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        found = nearest(points, centres)
        if np.array_equal(found, labels):
            break
        labels = found
        for label in np.unique(labels):
            centres[label] = points[labels == label].mean(axis=0)
    return labels


def nearest(points: Points, centres: Points) -> np.ndarray[Any, Any]:
    """The place of the centre nearest to each point, [points]; the first of several. Beside the points, which may be
    mapped from a file, in memory are `_NEAR` bytes of products.
    """
    import numpy as np

    squares, size = (centres**2).sum(axis=1), max(1, _NEAR // centres[:, 0].nbytes)
    near = np.empty((min(size, len(points)), len(centres)), dtype=centres.dtype)
    places = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), size):
        block = np.matmul(points[start : start + size], centres.T, out=near[: len(points) - start])
        block *= -2  # |p - c|² without |p|², which is the same for every centre
        block += squares
        places[start : start + size] = np.argmin(block, axis=1)
    return places


def k_center(points: Points, costs: Sequence[float], count: int | None = None) -> list[int]:
    """Places from the first worth keeping to the last, or `count` of them: each time the point that is farthest from
    all before it, its distance weighted by 1 - cost. The first is the one of least cost; ties fall to the earlier.
    """
    import numpy as np

    worth = 1 - np.asarray(costs, dtype=np.float64)
    ranked = [int(np.argmax(worth))] if len(worth) else []
    squares = (points**2).sum(axis=1)
    gap = np.full(len(worth), np.inf)
    taken = np.zeros(len(worth), dtype=bool)
    while len(ranked) < min(len(worth), len(worth) if count is None else count):
        taken[ranked[-1]] = True
        squared = squares + squares[ranked[-1]] - 2 * (points @ points[ranked[-1]])
        gap = np.minimum(gap, np.sqrt(np.maximum(squared, 0)))
        ranked.append(int(np.argmax(np.where(taken, -np.inf, gap * worth))))
    return ranked


def by_cost(costs: Sequence[float]) -> list[int]:
    """Places from the least cost to the largest; ties fall to the earlier place."""
    return sorted(range(len(costs)), key=lambda place: (costs[place], place))


def _trigrams(text: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A 64-bit key for each trigram of the text; the ends count as white space."""
    import numpy as np

    tidy = " ".join(("", *text.lower().split(), ""))
    codes = np.frombuffer(tidy.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    keys = sum(codes[at : len(codes) - 2 + at] * np.uint64(odd) for at, odd in enumerate(_ODD))
    mixed = np.asarray(keys, dtype=np.uint64)
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(_ODD[0]) >> np.uint64(8)
