"""Steps made in this process, with models that answer by script."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinstruct.commit import close, result_of
from reinstruct.corpus.open import open_source
from reinstruct.layout import ensure_layout
from reinstruct.llm import LLM, Scripted
from reinstruct.plan import Concat, Dataset, Model, Step, read
from reinstruct.store import LocalStore
from reinstruct.worker import run_shard
from tests.test_worker import rows


def write(path: Path, *table: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return str(path)


def make_rows(store: LocalStore, step: Step, open_llm: Callable[[Model], LLM]) -> None:
    """The step and what it reads, in this process. Models are only asked: the steps that would train them are not
    among the inputs of those that ask them.
    """
    for needed in step.inputs:
        make_rows(store, needed, open_llm)
    if isinstance(step.action, Concat) or result_of(store, step.id) is not None:
        return
    for shard in range(len(ensure_layout(store, step, shards=2, min_rows=1).shards)):
        run_shard(store, step, shard, open_llm)
    close(store, step.id)


@dataclass
class World:
    """Files, a store, and models that answer by script, each under its step's name or its URI."""

    folder: Path
    answer: Callable[[str, str], str]  # of a model's name and a prompt
    asked: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def dataset(self, name: str, record_type: type[Any], table: list[dict[str, Any]]) -> Dataset[Any]:
        return read(open_source(write(self.folder / f"{name}.jsonl", *table), record_type), name=name)

    def open(self, model: Model) -> LLM:
        name = model.step.name if model.step else model.uri
        return self.asked.setdefault(name, Scripted(lambda prompt: self.answer(name, prompt)))

    def make(self, step: Step) -> list[Any]:
        make_rows(self.store, step, self.open)
        return rows(self.store, step)
