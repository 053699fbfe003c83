"""What this machine has, and who may use it when.

The rule: how many cores a step takes is a matter of the machine alone, never of what else is running.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from reinstruct.container import verb_of
from reinstruct.plan import Step, TrainBase

MODEL_VERBS = ("train", "measure", "ask")


class Cores:
    """A budget of cores. Whoever needs several waits until they are free together; the most urgent is served first."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: list[int] = []
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, n: int, urgency: int) -> Generator[None]:
        """Hold `n` cores. Smaller `urgency` goes first."""
        with self._changed:
            self._waiting.append(urgency)
            self._changed.wait_for(lambda: self._free >= n and urgency == min(self._waiting))
            self._waiting.remove(urgency)
            self._free -= n
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += n
                self._changed.notify_all()


def cores_for(step: Step, cores: int, accelerated: bool) -> int:
    """Cores one shard of the step takes. Two models must not share an accelerator."""
    verb = verb_of(step)
    if verb not in MODEL_VERBS:
        return 1
    alone = accelerated or isinstance(step.action, TrainBase)  # nothing else can go on before there is a base
    return cores if alone else max(1, cores // 2)


def accelerated() -> bool:
    """Whether this machine has a GPU that torch may use. Told without torch, which the runner does not load."""
    devices = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # of CUDA, of ROCm, of either under Windows
    return sys.platform == "darwin" or any(Path(device).exists() for device in devices)


def thread_limits(threads: int) -> dict[str, str]:
    """Environment of a process that may use so many threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")}


def cores() -> int:
    """Cores this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
