"""Which rows share a forward pass.

The one rule: a pass holds whole rows of one optimizer step. So a step is the same with and without packing, and the
plan hangs on the rows' order and lengths alone, not on workers, attempts or what was trained before. No torch in here.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Plan:
    """Row numbers of all forward passes behind one another; each step takes the next `per_step`, of all processes.

    Pass n is `rows[starts[n] : starts[n + 1]]`: twelve bytes a row at most, for there may be many millions.
    """

    rows: array[int]
    starts: array[int]
    per_step: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def passes(self) -> Iterator[list[int]]:
        """One after another."""
        return (self.rows[start:end].tolist() for start, end in pairwise(self.starts))


@dataclass(frozen=True)
class Layout:
    """How rows share a pass: `deal` (rows, all lengths, passes) makes exactly so many, `size` says what one costs.

    Sizes are in tokens computed, padding included. `name` is told in the statistics.
    """

    name: str
    packed: bool
    deal: Callable[[Sequence[int], Sequence[int], int], list[list[int]]]
    size: Callable[[Sequence[int], Sequence[int]], int]


def evenly(rows: Sequence[int], lengths: Sequence[int], passes: int) -> list[list[int]]:
    """Rows dealt to passes of nearly equal tokens: the longest first, each to the emptiest pass (Graham 1969).

    Fewest passes (best fit decreasing) leave one nearly empty, and the other processes wait for the fullest.
    """
    dealt: list[list[int]] = [[] for _ in range(passes)]
    loads = [(0, number) for number in range(passes)]
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        load, number = loads[0]
        dealt[number].append(row)
        heapq.heapreplace(loads, (load + lengths[row], number))
    return dealt


def alike(rows: Sequence[int], lengths: Sequence[int], passes: int) -> list[list[int]]:
    """Rows dealt to passes by length, so that side by side little is padded.

    A bisection finds the smallest size that the largest pass can have; then the largest are halved until there are
    enough.
    """
    ranked = sorted(rows, key=lambda row: (-lengths[row], row))
    least, most = lengths[ranked[0]], lengths[ranked[0]] * len(ranked)
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if len(_cut(ranked, lengths, middle)) <= passes else (middle + 1, most)
    dealt = _cut(ranked, lengths, most)
    while len(dealt) < passes:
        widest = max((part for part in dealt if len(part) > 1), key=lambda part: padded_size(part, lengths))
        at, half = dealt.index(widest), len(widest) // 2
        dealt[at : at + 1] = [widest[:half], widest[half:]]
    return dealt


def packed_size(rows: Sequence[int], lengths: Sequence[int]) -> int:
    """Tokens of rows behind one another."""
    return sum(lengths[row] for row in rows)


def padded_size(rows: Sequence[int], lengths: Sequence[int]) -> int:
    """Tokens of rows side by side, each as long as the longest."""
    return len(rows) * max(lengths[row] for row in rows)


PACKED = Layout("behind one another", True, evenly, packed_size)
PADDED = Layout("side by side", False, alike, padded_size)


def apart(prompts: Sequence[int]) -> Layout:
    """Rows side by side in an encoder and a decoder: prompts, of these lengths, and targets are padded apart."""

    def size(rows: Sequence[int], lengths: Sequence[int]) -> int:
        return len(rows) * (max(prompts[row] for row in rows) + max(lengths[row] - prompts[row] for row in rows))

    return Layout("prompts side by side in the encoder, targets in the decoder; never packed", False, alike, size)


def plan(
    planned: Sequence[int], lengths: Sequence[int], batch: int, capacity: int, *, layout: Layout, processes: int = 1
) -> Plan:
    """Deal the rows of each step of `batch` rows to passes of at most `capacity` tokens, or of one longer row.

    Every step has the same number of passes, a multiple of `processes`: frameworks for several processes want it so.
    `batch` is a multiple of `processes`, too.
    """
    firsts = range(0, len(planned), batch)
    needed = max(_passes_needed(planned[at : at + batch], lengths, capacity, processes, layout) for at in firsts)
    rows, starts = array("i"), array("q", [0])
    for at in firsts:
        for dealt in layout.deal(planned[at : at + batch], lengths, needed):
            rows.extend(dealt)
            starts.append(len(rows))
    return Plan(rows, starts, needed)


def computed(plan: Plan, lengths: Sequence[int], layout: Layout) -> int:
    """Tokens that the plan's passes compute, padding included."""
    return sum(layout.size(rows, lengths) for rows in plan.passes)


def statistics(plan: Plan, lengths: Sequence[int], layout: Layout) -> dict[str, Any]:
    """How many tokens rows have, and how full passes are.

    `efficiency` is the share of tokens among all positions computed, `efficiency_if_padded` what it would be with every
    row padded to the longest. `balance` is the mean pass as a share of the largest.
    """
    tokens = sum(lengths[row] for row in plan.rows)
    sizes = array("q", (layout.size(rows, lengths) for rows in plan.passes))
    rows = len(plan.rows)
    ranked = array("q", np.sort(np.asarray(lengths, np.int64)).tobytes())
    middle = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
    quantiles = {"min": ranked[0], "median": round(middle), "p95": ranked[len(ranked) * 95 // 100]}
    return {
        "packed": layout.packed,
        "layout": layout.name,
        "row_tokens": {**quantiles, "max": ranked[-1]},
        "passes_per_step": plan.per_step,
        "rows_per_pass": round(rows / len(plan), 2),
        "efficiency": round(tokens / sum(sizes), 3),
        "efficiency_if_padded": round(tokens / (rows * ranked[-1]), 3),
        "balance": round(sum(sizes) / (len(sizes) * max(sizes)), 3),
    }


def _passes_needed(rows: Sequence[int], lengths: Sequence[int], capacity: int, processes: int, layout: Layout) -> int:
    least = -(-packed_size(rows, lengths) // capacity)
    passes = min(len(rows), -(-least // processes) * processes)
    while passes < len(rows) and any(
        len(dealt) > 1 and layout.size(dealt, lengths) > capacity for dealt in layout.deal(rows, lengths, passes)
    ):
        passes = min(len(rows), passes + processes)
    return passes


def _cut(ranked: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """Rows, longest first, cut into as few passes of at most `size` tokens as can be."""
    passes: list[list[int]] = []
    for row in ranked:
        if not passes or (len(passes[-1]) + 1) * lengths[passes[-1][0]] > size:
            passes.append([])
        passes[-1].append(row)
    return passes
