"""Steps made in this process, without a runner."""

from __future__ import annotations

from collections.abc import Callable

from reinstruct.commit import close, result_of
from reinstruct.layout import ensure_layout, output_parts
from reinstruct.llm import LLM
from reinstruct.plan import Concat, Model, Step, Train
from reinstruct.records import Rejected
from reinstruct.store import LocalStore
from reinstruct.tables import read_parts
from reinstruct.worker import run_shard


def no_model(model: Model) -> LLM:
    raise AssertionError(f"{model.id} is not needed")


def make_rows(store: LocalStore, step: Step, open_llm: Callable[[Model], LLM] = no_model, shards: int = 2) -> None:
    """The step and what it reads, shard by shard. Models are only asked, never trained."""
    for needed in step.inputs:
        make_rows(store, needed, open_llm, shards)
    if isinstance(step.action, (Concat, Train)) or result_of(store, step.id) is not None:
        return
    for shard in range(len(ensure_layout(store, step, shards=shards, min_rows=1).shards)):
        run_shard(store, step, shard, open_llm)
    close(store, step.id)


def rows(store: LocalStore, step: Step) -> list:
    return [r for chunk in read_parts(store, output_parts(store, step), step.record_type) for r in chunk.records]


def rejected(store: LocalStore, step: Step) -> list[Rejected]:
    result = result_of(store, step.id)
    assert result is not None
    return [r for chunk in read_parts(store, result.rejected, Rejected) for r in chunk.records]
