"""How long a training takes: the number of its steps, the rows of each, and the rows held out from it.

The one rule: what is trained on follows from ids, settings and seed. No torch in here.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from reinstruct.draw import draw
from reinstruct.errors import TrainingError
from reinstruct.identity import describe, digest
from reinstruct.train.settings import Sft
from reinstruct.train.tokens import TokenRows


@dataclass(frozen=True)
class Schedule:
    """`steps` optimizer steps of `batch` rows each."""

    steps: int
    batch: int
    settings: Sft


def plan(settings: Sft, rows: TokenRows, trained: Sequence[int], processes: int = 1) -> Schedule:
    """Steps and batch for these rows. TrainingError if no row has a weight above 0.

    A batch above a quarter of the rows becomes the largest power of two below that, so that it still splits evenly;
    then it is made a multiple of the processes. Steps are rounded up: every row is seen at least `epochs` times.
    """
    origins = rows.origins
    count = sum(settings.weight_of(origins[row]) for row in trained)
    if not count:
        raise TrainingError(f"no row to train on: weights is {', '.join(settings.weights)}")
    cap = max(1, int(count) // 4)
    batch = settings.batch_size if settings.batch_size <= cap else 1 << (cap.bit_length() - 1)
    batch = max(processes, batch // processes * processes)
    return Schedule(math.ceil(count * settings.epochs / batch), batch, settings)


def order(rows: TokenRows, trained: Sequence[int], schedule: Schedule) -> array[int]:
    """The rows of all steps, in order: one epoch after another, each drawn by its number and the seed."""
    planned, wanted = array("i"), schedule.batch * schedule.steps
    for epoch in _epochs(rows, trained, schedule.settings):
        planned.extend(epoch[: wanted - len(planned)])
        if len(planned) == wanted:
            break
    return planned


def split(rows: TokenRows, share: float, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """(rows to train on, rows held out). Copies of a row (ids "a", "a#2") stay together.

    TrainingError if a share is asked for and either is empty.
    """
    if not share:
        return range(len(rows)), range(0)
    kept, out = array("i"), array("i")
    for row, id in enumerate(rows.ids):
        (out if draw(seed, "held out", id.partition("#")[0]) < share else kept).append(row)
    if not kept or not out:
        raise TrainingError(
            f"held_out is {share}: of {len(rows)} rows it leaves {len(kept)} to train on, {len(out)} out"
        )
    return kept, out


def fingerprint(schedule: Schedule, rows: TokenRows, held_out: Sequence[int]) -> str:
    """Tells one training's checkpoints from another's: by all that changes its weights, and nothing else.

    Settings from JSON and from Python are the same: an epoch of 3 is one of 3.0.
    """
    told = msgspec.convert(msgspec.to_builtins(schedule), Schedule)
    return digest([describe(told, identity=True), rows.digest(), list(held_out)])


def _epochs(rows: TokenRows, trained: Sequence[int], settings: Sft) -> Iterator[array[int]]:
    lengths, origins = np.asarray(rows.lengths), rows.origins
    weights = {origin: settings.weight_of(origin) for origin in set(origins)}
    epoch = 0
    while True:
        rng = random.Random(f"{settings.seed}:{epoch}")
        shown = array("i", (row for row in trained for _ in range(_times(weights[origins[row]], rng))))
        if settings.order != "given":
            rng.shuffle(shown)
        if settings.order == "shortest":
            shown = array("i", np.asarray(shown)[np.argsort(lengths[shown], kind="stable")].tobytes())
        yield shown
        epoch += 1


def _times(weight: float, rng: random.Random) -> int:
    """`weight` on average, rounded up or down by chance."""
    whole = int(weight)
    return whole + (rng.random() < weight - whole if weight > whole else 0)
