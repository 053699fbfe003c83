"""Steps made in this process, with models that answer by script."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinstruct.corpus.open import open_source
from reinstruct.llm import LLM, Scripted
from reinstruct.plan import Dataset, Model, Step, read
from reinstruct.store import LocalStore
from tests.in_process import make_rows, rows


def write(path: Path, *table: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return str(path)


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
