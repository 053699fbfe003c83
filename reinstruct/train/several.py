"""One training by several processes of this machine, started through torchrun and followed from outside.

The one rule: it is the job of one process, whose model differs by rounding alone; the processes end with whoever
started them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from reinstruct import errors
from reinstruct.errors import ShardError, expect
from reinstruct.machine import thread_limits

if TYPE_CHECKING:
    from reinstruct.train.job import AnyJob, Progress

PROCESSES = "REINSTRUCT_TRAIN_PROCESSES"
COMMAND = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def processes_here(environment: Mapping[str, str] = os.environ) -> int:
    """As many as `environment` says, else one for each GPU. RecipeError for what is no number."""
    given = environment.get(PROCESSES) or "0"
    expect(given.isdecimal(), PROCESSES, given, "a whole number, 0 for one process a GPU")
    if int(given):
        return int(given)
    import torch

    return max(1, torch.cuda.device_count())


def run_by(processes: int, job: AnyJob, progress: Progress | None = None) -> dict[str, Any]:
    """As `job.run`, by so many processes. ShardError where they end without a word, as when one is killed."""
    path = Path(job.work) / "job.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(job))
    command = [*COMMAND, "--nproc-per-node", str(processes), "-m", "reinstruct.train"]
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1) // processes
    environment = {**os.environ, **thread_limits(max(1, threads))}
    words: dict[str, Any] = {}
    with subprocess.Popen(
        [*command, "--config", str(path), "--die-with-parent"],
        stdin=subprocess.PIPE,  # the processes end when it closes
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as torchrun:
        assert torchrun.stdout is not None
        for line in torchrun.stdout:
            try:
                said = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue  # a library's own chatter
            words = words or (said if "error" in said else {})  # the first is the cause of all others
            if progress and "total" in said:
                progress(said["done"], said["total"])
    if words:
        kind: type[Exception] = getattr(errors, str(words.get("kind")), ShardError)
        raise kind(str(words["error"]))
    if torchrun.returncode:
        raise ShardError(f"a training by {processes} processes ended with code {torchrun.returncode}")
    return msgspec.json.decode((Path(job.out) / "metrics.json").read_bytes(), type=dict[str, Any])
