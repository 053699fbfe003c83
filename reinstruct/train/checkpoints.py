"""Checkpoints of one job, and the finished folder: what a kill at any moment leaves behind is known to be whole or not.

The one rule: a checkpoint counts once its mark is there, and the mark is written last; `out` appears by one rename.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

MARK = "complete"


def mark(checkpoint: Path) -> None:
    """Declare a checkpoint whole."""
    (checkpoint / MARK).touch()


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint `checkpoint-STEP` in a folder."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / MARK).exists()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def prepare(folder: Path, fingerprint: str) -> Path | None:
    """Make the folder ready and return the checkpoint to go on from.

    Checkpoints of another job (told by its fingerprint) and half-written ones are removed.
    """
    stamp = folder / "fingerprint"
    if stamp.exists() and stamp.read_text() != fingerprint:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(fingerprint)
    for path in folder.glob("checkpoint-*"):
        if not (path / MARK).exists():
            shutil.rmtree(path)
    return newest(folder)


@contextmanager
def building(out: Path) -> Generator[Path]:
    """A folder beside `out` that takes its place when the block ends well. Only rank 0 makes and moves it."""
    partial = out.parent / f".{out.name}.partial"
    if is_first():
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    yield partial
    if is_first():
        shutil.rmtree(out, ignore_errors=True)
        os.replace(partial, out)


def is_first() -> bool:
    """Whether this process is the one that writes; torchrun numbers processes in RANK."""
    return os.environ.get("RANK", "0") == "0"
