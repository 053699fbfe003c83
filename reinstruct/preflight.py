"""Before a run: would a model be left with nothing to learn from?

The rule: only as much of the inputs is read as settles it, and no model is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, cast

from reinstruct.corpus.read import read_batches
from reinstruct.errors import RecipeError
from reinstruct.plan import Concat, Map, MeasureLoss, Read, Step, Train, TrainBase, walk
from reinstruct.planfile import Plan, steps_of
from reinstruct.records import Drop, Rejected
from reinstruct.stage import Transform
from reinstruct.train.settings import LEAST_CHARACTERS


def check_data(plan: Plan) -> None:
    """Read the inputs as far as needed to know that no model is left without rows. RecipeError where one would be.

    Told are steps that only sources and transforms lead to; what filters and models keep, nobody knows before.
    """
    for step in steps_of(plan).values():
        if isinstance(step.action, TrainBase):
            _expect_text(step.inputs[0])
        elif isinstance(step.action, (Train, MeasureLoss)):
            lost: Counter[str] = Counter()
            rows = _foreseen(step.inputs[0], lost)
            if rows is not None and next(rows, None) is None:
                raise RecipeError(_no_rows(step, lost))


def _expect_text(corpus: Step) -> None:
    characters = 0
    foreseen = _foreseen(corpus, Counter())
    if foreseen is None:  # filters choose the text
        return
    for document in foreseen:
        characters += len(document.text)
        if characters >= LEAST_CHARACTERS:
            return
    raise RecipeError(
        f"the corpus holds {characters:,} characters, but a base model from scratch needs {LEAST_CHARACTERS:,}: "
        "give more text (or a larger --limit), or an existing model as --base"
    )


def _foreseen(step: Step, lost: Counter[str]) -> Iterator[Any] | None:
    """The rows a step will make, lazily; None where that takes a filter, a model or the whole dataset to tell."""
    inputs = [_foreseen(needed, lost) for needed in step.inputs]
    known = [rows for rows in inputs if rows is not None]
    if len(known) < len(inputs):
        return None
    match step.action:
        case Read(source=source, limit=limit):
            batches = (batch for file in source.files for batch in read_batches(source, file, rows=32))
            rows = (row for row in chain.from_iterable(batches) if not isinstance(row, Rejected))
            return islice(rows, limit or None)
        case Concat():
            return chain.from_iterable(known)
        case Map(stages=stages) if all(isinstance(stage, Transform) for stage in stages):
            rows = known[0]
            for stage in stages:
                rows = _transformed(stage, rows, lost)
            return rows
        case _:
            return None


def _transformed(stage: Transform[Any, Any], rows: Iterable[Any], lost: Counter[str]) -> Iterator[Any]:
    for row in rows:
        made = stage.apply(row)
        if isinstance(made, Drop):
            lost[made.reason] += 1
        else:
            yield from cast(list[Any], made) if isinstance(made, list) else [made]


def _no_rows(step: Step, lost: Counter[str]) -> str:
    what = "measure" if isinstance(step.action, MeasureLoss) else "learn from"
    sources = ", ".join(source.name for source in walk(step.inputs[0]) if isinstance(source.action, Read))
    reasons = ", ".join(f"{reason} {n}" for reason, n in lost.most_common())
    by_split = lost.keys() & {"held_out", "for_training"}
    hint = "; give more pairs, another share as --held-out, or 0 to measure nothing" if by_split else ""
    return f"{step.name} has nothing to {what}: every row of {sources} is turned away ({reasons}){hint}"
