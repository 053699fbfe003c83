"""What became of the rows, stage by stage, from the documents to the pairs.

The one rule: the main path is exactly the steps that the dataset is made of and that are made of the corpus.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from reinstruct.commit import Count
from reinstruct.planfile import Plan, StepSpec
from reinstruct.records import Rejected
from reinstruct.report_rows import Run, rejected_examples
from reinstruct.report_text import Clip, clip


@dataclass(frozen=True)
class RejectedRow:
    """One example: what it said of itself, and its texts by field."""

    id: str
    detail: Clip
    texts: tuple[tuple[str, Clip], ...]


@dataclass(frozen=True)
class Reason:
    """Why a stage rejected rows, how many, and a few of them."""

    name: str
    rows: int
    examples: tuple[RejectedRow, ...] = ()


@dataclass(frozen=True)
class StageRow:
    """What one stage did with the rows it read; `written` differs from `kept` where it makes several of one."""

    step: str
    stage: str
    read: int
    kept: int
    written: int
    reasons: tuple[Reason, ...] = ()

    @property
    def rejected(self) -> int:
        return self.read - self.kept


@dataclass(frozen=True)
class Funnel:
    """The stages on the main path and all others, each in the plan's order, and the ends of the path."""

    main: tuple[StageRow, ...]
    others: tuple[StageRow, ...]
    documents: int
    synthetic: int
    seed: int

    @property
    def pairs(self) -> int:
        return self.synthetic + self.seed

    @property
    def widest(self) -> int:
        return max(1, self.pairs, *(max(row.read, row.written) for row in self.main))


def funnel_of(run: Run, *, examples: int = 0) -> Funnel:
    """Counts of the finished steps, with up to `examples` rejected rows for each reason."""
    main, others = stage_rows(run, examples)
    corpus = run.results.get(run.plan.corpus)
    origins = run.count("origin")
    synthetic = origins["synthetic"]
    documents = _documents(corpus.counts, corpus.rows) if corpus else 0
    return Funnel(tuple(main), tuple(others), documents, synthetic, origins.total() - synthetic)


def stage_rows(run: Run, examples: int = 0) -> tuple[list[StageRow], list[StageRow]]:
    """The rows of the finished steps' stages, on the main path and off it, in the plan's order."""
    path = main_path(run.plan)
    main: list[StageRow] = []
    others: list[StageRow] = []
    for spec in run.plan.steps:
        (main if spec.id in path else others).extend(_rows(run, spec, examples))
    return main, others


def main_path(plan: Plan) -> set[str]:
    """Ids of the steps between the corpus and the dataset; where a plan names no corpus, of all before the dataset."""
    inputs = {spec.id: spec.inputs for spec in plan.steps}
    before: set[str] = set()
    stack = [plan.data]
    while stack:
        step_id = stack.pop()
        if step_id not in before:
            before.add(step_id)
            stack.extend(inputs.get(step_id, ()))
    if not plan.corpus:
        return before
    after = {plan.corpus}
    for spec in plan.steps:
        if after.intersection(spec.inputs):
            after.add(spec.id)
    return before & after


def _documents(counts: list[Count], rows: int) -> int:
    return counts[0].read if counts else rows


def _rows(run: Run, spec: StepSpec, examples: int) -> list[StageRow]:
    result = run.results.get(spec.id)
    if result is None:
        return []
    found = rejected_examples(run.store, result, examples) if examples else {}
    return [_row(spec.id, count, found) for count in result.counts]


def _row(step: str, count: Count, found: dict[tuple[str, str], list[Rejected]]) -> StageRow:
    reasons = sorted(count.rejected.items(), key=lambda item: (-item[1], item[0]))
    listed = tuple(
        Reason(name, rows, tuple(rejected_row(row) for row in found.get((count.stage, name), ())))
        for name, rows in reasons
    )
    return StageRow(step, count.stage, count.read, count.kept, count.written, listed)


def rejected_row(rejected: Rejected) -> RejectedRow:
    """The texts of a rejected record; of one that is not a JSON object, the row as it is."""
    try:
        record: Any = json.loads(rejected.record)
    except ValueError:
        record = {"record": rejected.record}
    if not isinstance(record, dict):
        record = {"record": rejected.record}
    named = ("text", "instruction", "input", "output", "prompt", "target", "record")
    texts = [(name, clip(str(record[name]), head=320, most=2000)) for name in named if record.get(name)]
    return RejectedRow(rejected.id, clip(rejected.detail, head=240, most=1000), tuple(texts))
