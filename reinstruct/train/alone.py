"""One training at a time in a folder: two that write the same checkpoints would spoil both."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from reinstruct.errors import TrainingError
from reinstruct.train.finished import is_first


@contextmanager
def alone(work: str) -> Generator[None]:
    """Hold the folder `work`, which the first process of a job does for all. TrainingError if another job holds it.

    The system lets go of it when the process ends, however it does.
    """
    if not is_first():
        yield
        return
    path = Path(work) / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"another process is training in {work}") from error
        yield
