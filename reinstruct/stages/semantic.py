"""Texts that say the same, by the cosine of their embeddings; and the texts that are farthest from one another.

The one rule: vectors lie in the scratch folder; in memory are those the centres of the clusters are found from, the
centres, a block of cosines and one cluster at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import polars as pl

from reinstruct.embedding import Embedder
from reinstruct.errors import RecipeError, expect
from reinstruct.records import R
from reinstruct.rows import Rows
from reinstruct.stage import Gather
from reinstruct.stages.cluster import k_center, k_means, nearest, starts
from reinstruct.stages.gather import all_kept
from reinstruct.stages.keep import pick, spread, worth_of

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]

_SAMPLE = 1 << 16  # rows the centres are found from


@dataclass(frozen=True)
class DropParaphrases(Gather[R]):
    """Of texts whose embeddings have a cosine of `least` or more, keep one; the others are a "paraphrase".

    Rows are put into clusters of about `cluster` rows by k-means, and compared within their cluster alone: in the order
    of what `keep` prefers ("first", "longest" or the name of a score), each row that is too close to a kept one goes.
    The detail names the closest kept row and the cosine. Source: SemDeDup, Abbas et al. 2023,
    https://arxiv.org/abs/2303.09540; there the threshold is 1 - epsilon. What it should be depends on the model.
    """

    embedder: Embedder
    field: str = "text"
    least: float = 0.95
    keep: str = "first"
    cluster: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        expect(0 < self.least <= 1, "DropParaphrases: least", self.least, "a cosine above 0, at most 1")
        expect(self.cluster >= 2, "DropParaphrases: cluster", self.cluster, "2 or more rows")

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        if not rows.height:
            yield all_kept(0)
            return
        points = embedded(rows, self.embedder, self.field)
        labels = clustered(points, _ids(rows), max(1, rows.height // self.cluster), self.seed)
        every = pl.int_range(rows.height, dtype=pl.UInt32, eager=True)
        worth = worth_of(rows, self.keep, self.field, every).with_columns(label=pl.Series(labels))
        ranked = worth.sort("label", "worth", "row", descending=[False, True, False])
        gone: list[tuple[int, int, float]] = []
        for members in ranked.group_by("label", maintain_order=True).agg("row")["row"]:
            gone.extend(too_close(points, members.to_list(), self.least))
        found = pl.DataFrame(gone, schema={"row": pl.UInt32, "kept": pl.UInt32, "cosine": pl.Float64}, orient="row")
        named = found.join(pick(rows, ["id"], found["kept"].unique()), left_on="kept", right_on="row")
        detail = pl.format("of {}, cosine {}", "id", pl.col("cosine").round(4))
        yield from spread(rows, named.select("row", reason=pl.lit("paraphrase"), detail=detail))


@dataclass(frozen=True)
class SampleDiverse(Gather[R]):
    """Keep `size` rows (0: all), each the farthest from those before it; the others are "not_sampled".

    The first is drawn by `seed`. Takes the memory of all vectors and `size` passes over them. Source: k-center greedy,
    Sener and Savarese 2018, https://arxiv.org/abs/1708.00489.
    """

    embedder: Embedder
    size: int = 0
    seed: int = 0
    field: str = field(default="text")

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        import numpy as np

        if not self.size or self.size >= rows.height:
            yield all_kept(rows.height)
            return
        points = np.asarray(embedded(rows, self.embedder, self.field))
        first = starts(_ids(rows), 1, self.seed)[0]
        costs = np.zeros(len(points))
        costs[first] = -1e-9  # of equal cost all, but it comes first
        chosen = k_center(points, costs.tolist(), self.size)
        left = np.setdiff1d(np.arange(len(points)), chosen)
        reason = pl.lit("not_sampled")
        yield from spread(
            rows, pl.DataFrame({"row": left.tolist()}, schema={"row": pl.UInt32}).with_columns(reason=reason)
        )


def embedded(rows: Rows, embedder: Embedder, field: str) -> Vectors:
    """The unit vectors of all rows [rows, size], mapped from a file in the scratch folder."""
    if find_spec("numpy") is None:
        raise RecipeError('embeddings need numpy: pip install "reinstruct[train]"')
    import numpy as np

    path, size = rows.scratch / "vectors.f32", 0
    with path.open("wb") as file:
        for piece in embedder.vectors(text or "" for frame in rows.read(field) for text in frame[field]):
            size = piece.shape[1]
            file.write(piece.tobytes())
    return np.memmap(path, dtype=np.float32, mode="r", shape=(rows.height, size))


def clustered(points: Vectors, keys: list[str], count: int, seed: int) -> Vectors:
    """The cluster of each point: centres of at most _SAMPLE points, drawn by their keys, then the nearest to each."""
    import numpy as np

    drawn = sorted(starts(keys, _SAMPLE, seed))
    sample = np.asarray(points[drawn])
    labels = k_means(sample, starts([keys[place] for place in drawn], count, seed + 1))
    centres = np.stack([sample[labels == label].mean(axis=0) for label in np.unique(labels)])
    return nearest(points, centres)


def too_close(points: Vectors, members: list[int], least: float) -> list[tuple[int, int, float]]:
    """(row, kept row, cosine) of each of the members, best first, that has the cosine to one kept before it."""
    import numpy as np

    vectors = np.array(points[members])  # a copy, whose first rows become those that are kept
    kept: list[int] = []
    gone: list[tuple[int, int, float]] = []
    for member, vector in zip(members, vectors, strict=True):
        cosines = vectors[: len(kept)] @ vector
        closest = int(np.argmax(cosines)) if kept else -1
        if kept and cosines[closest] >= least:
            gone.append((member, kept[closest], float(cosines[closest])))
        else:
            vectors[len(kept)] = vector
            kept.append(member)
    return gone


def _ids(rows: Rows) -> list[str]:
    return [key for frame in rows.read("id") for key in frame["id"]]
