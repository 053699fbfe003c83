"""Checkpoints written while the training goes on.

The one rule: whole weights keep the training waiting only while they are copied in memory; adapters and shards, which
transformers writes, until they are written, too. At most one checkpoint is being made durable; one that fails ends the
training at its next step, with the cause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors.torch import save_file

from reinstruct.train.checkpoints import Checkpoints
from reinstruct.train.outside import told

WEIGHTS, OPTIMIZER, SCHEDULER = "model.safetensors", "optimizer.pt", "scheduler.pt"  # where transformers looks for them


class Saving:
    """Writes the checkpoints of process `rank` beside its training.

    `lost_s` are the seconds that the training stood still for all of them, `held_s` for the last one, and `writing_s`
    those that writing took beside it.
    """

    def __init__(self, checkpoints: Checkpoints, rank: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.checkpoints = checkpoints
        self.rank = rank
        self.written = 0
        self.clock = clock
        self.lost_s = 0.0
        self.held_s = 0.0
        self.writing_s = 0.0
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._running: Future[None] | None = None
        self._writes: list[Callable[[], None]] = []

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()  # a checkpoint under way is worth the wait, also after an error

    @property
    def idle(self) -> bool:
        return self._running is None or self._running.done()

    def wait(self) -> None:
        """Until the checkpoint under way is durable. TrainingError if it cannot be written."""
        if self._running:
            self._running.result()

    def check(self) -> None:
        """TrainingError if the last checkpoint could not be written."""
        if self.idle:
            self.wait()

    @contextmanager
    def checkpoint(self, step: int, best: int | None) -> Generator[None]:
        """In this block the state of `step` is copied and written; then all of it is made durable beside the training.

        `best` is the step that would be kept as best.
        """
        began = self.clock()
        with told(self.checkpoints.folder(step)):
            self.wait()
            self.checkpoints.folder(step).mkdir(parents=True, exist_ok=True)
            yield
        writes, self._writes = self._writes, []
        self._running = self._thread.submit(self._write, step, best, writes)
        self.held_s = self.clock() - began
        self.lost_s += self.held_s

    def figures(self) -> dict[str, Any]:
        return {"written": self.written, "lost_s": round(self.lost_s, 3), "writing_s": round(self.writing_s, 3)}

    def later(self, write: Callable[[], None]) -> None:
        """Have something written beside the training."""
        self._writes.append(write)

    def _write(self, step: int, best: int | None, writes: list[Callable[[], None]]) -> None:
        began = self.clock()
        with told(self.checkpoints.folder(step)):
            for write in writes:
                write()
            if self.checkpoints.commit(step, self.rank, best):
                self.checkpoints.retire()
        self.written += 1
        self.writing_s += self.clock() - began


def write_weights(model: Any, folder: Path, saving: Saving) -> None:
    """Copy a model's weights now and have them written later. Tied weights are one."""
    weights = {name: copied(weight) for name, weight in model.named_parameters()}
    weights |= {name: copied(buffer) for name, buffer in _stored_buffers(model)}
    saving.later(lambda: save_file(weights, folder / WEIGHTS, {"format": "pt"}))


def write_optimizer(optimizer: Any, folder: Path, saving: Saving) -> None:
    """As `write_weights`, for what an optimizer remembers of every weight."""
    state = copied(optimizer.state_dict())

    def write() -> None:
        with (folder / OPTIMIZER).open("wb", buffering=0) as file:  # a file of Python, which tells why it cannot grow
            torch.save(state, file)

    saving.later(write)


def copied(value: Any) -> Any:
    """A value whose tensors, however deep, are copies in memory of the CPU."""
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
    if isinstance(value, Mapping):
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [copied(each) for each in value]
    return value


def _stored_buffers(model: Any) -> list[tuple[str, Any]]:
    stored = model.state_dict().keys()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in stored]
