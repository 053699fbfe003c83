"""What a run on this machine starts its workers with, and what it needs of each.

The rule: a worker that was executed, forked or was standing by is followed, ended and judged alike.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
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
