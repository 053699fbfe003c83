"""What a run on this machine starts its workers with, and what it needs of each.

The rule: a worker that was executed, forked or was standing by is followed, ended and judged alike.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from reinstruct.machine import thread_limits
from reinstruct.train.job import ENVIRONMENT


class Worker(Protocol):
    """A process at work on a shard, as a context. `stdout` is what it says of it, in lines; `wait` its exit code."""

    @property
    def stdout(self) -> Iterable[str] | None: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...

    def __enter__(self) -> Worker: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Stop:
    """The end of a run before its time. It ends the workers that are at work, and at once those that come later."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._lock = threading.Lock()
        self._workers: list[Worker] = []

    def is_set(self) -> bool:
        return self._set.is_set()

    def set(self) -> None:
        with self._lock:
            self._set.set()
            for worker in self._workers:
                worker.kill()

    @contextmanager
    def ends(self, worker: Worker) -> Generator[None]:
        """Within the context the worker is one of those at work."""
        with self._lock:
            self._workers.append(worker)
            if self.is_set():
                worker.kill()
        try:
            yield
        finally:
            with self._lock:
                self._workers.remove(worker)


def executed(
    python: str, argv: Sequence[str], environment: Mapping[str, str], stderr: IO[bytes]
) -> subprocess.Popen[str]:
    """A process for this shard alone."""
    command, pipe = [python, "-m", "reinstruct.container", *argv], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, text=True)


def environment(threads: int) -> dict[str, str]:
    """Of a worker with so many threads."""
    return {**ENVIRONMENT, **os.environ, **thread_limits(threads)}


def package_path() -> dict[str, str]:
    """Environment in which another Python finds this package."""
    found = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, found))}
