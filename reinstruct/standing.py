"""Workers that go from shard to shard of one step: to start a process costs more than many a shard of rules on text.

The one rule: a process works for one step, as any worker does, so that nothing of a step reaches the next one.

    python -m reinstruct.standing    (started by StandingWorkers, which writes a line to it for each shard)
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import IO

import msgspec
from msgspec import Struct

from reinstruct.container import follow, mistakes_told, parsed, work
from reinstruct.worker import Progress


class StandingWorkers:
    """The side of whoever has so many shards to be done. There are as many processes as there are shards at once."""

    def __init__(self, environment: Mapping[str, str], shards: int) -> None:
        self.environment = environment
        self._left = shards  # not begun
        self._idle: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()

    def begin(self, argv: Sequence[str], log: IO[bytes]) -> Shift:
        """A process that does what `python -m reinstruct.container ARGV` does, with the log as its standard error."""
        with self._lock:
            self._left -= 1
            process = self._well() or self._started(log)
        return Shift(self, process, argv, log.name)

    def end(self, process: subprocess.Popen[str], *, well: bool) -> None:
        """Keep a process that is well for another shard, if there will be one; memory is for those at work."""
        with self._lock:
            kept = well and len(self._idle) < self._left
            if kept:
                self._idle.append(process)
        if not kept:
            with process:  # which ends where its standard input does
                if not well:
                    process.kill()

    def close(self) -> None:
        """End those that are idle, which is all of them once no shard is at work."""
        while self._idle:
            with self._idle.pop():
                pass

    def _well(self) -> subprocess.Popen[str] | None:
        """One that is idle, if there is any; those that died meanwhile are forgotten."""
        while self._idle:
            process = self._idle.pop()
            if process.poll() is None:
                return process
            with process:
                pass
        return None

    def _started(self, log: IO[bytes]) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, "-m", "reinstruct.standing"], subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=self.environment, text=True)


class Job(Struct):
    """One shard: what a container is told by flags, the file of its standard error, and the line that says it is done.

    Each has a line of its own, which no library prints.
    """

    argv: Sequence[str]
    log: str
    done: str


_JOBS = msgspec.json.Decoder(Job)


class Shift:
    """A process at work on one shard. It is free for another when the context ends, if it is well."""

    def __init__(self, workers: StandingWorkers, process: subprocess.Popen[str], argv: Sequence[str], log: str) -> None:
        self._workers, self._process = workers, process
        self._job = Job(argv, log, f"done {uuid.uuid4().hex}")
        self._done = False

    @property
    def stdout(self) -> Iterator[str]:
        """What it says of this shard."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.rstrip("\n") == self._job.done:
                self._done = True
                return
            yield line

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        """As an exit code: 0 for a shard that is done, else that of the process."""
        return 0 if self._done else self._process.wait()

    def __enter__(self) -> Shift:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # of one that died while it was idle, which its exit code tells
            os.write(self._process.stdin.fileno(), msgspec.json.encode(self._job) + b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.end(self._process, well=self._done)


def main(do: Callable[[Namespace, Progress], None] = work) -> None:
    """Do shard after shard, until standard input ends; a mistake or an error ends the process, as in a container."""
    jobs: SimpleQueue[Job] = SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(jobs, at_work), daemon=True).start()
    progress: Progress | None = None
    while True:
        job = jobs.get()
        _log_to(job.log)
        args = parsed(list(job.argv))
        with mistakes_told():
            progress = progress or follow(args.metrics_port)
        do(args, progress)
        progress.restart()
        at_work.clear()
        print(f"\n{job.done}", flush=True)  # whatever a library may have said without ending its line


def _listen(jobs: SimpleQueue[Job], at_work: threading.Event) -> None:
    """Hand on what is asked for. Without anybody to ask, the process ends at once, whatever it is doing."""
    with open(0, "rb", closefd=False) as lines:
        for line in lines:
            at_work.set()
            jobs.put(_JOBS.decode(line))
    os._exit(3 if at_work.is_set() else 0)


def _log_to(path: str) -> None:
    """Have standard error, of libraries written in C too, appended to this file."""
    with open(path, "ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main()
