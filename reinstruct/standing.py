"""Workers that go from shard to shard of one step: to start a process costs more than many a shard of rules on text.

The one rule: a process works for one step, as any worker does, so that nothing of a step reaches the next one.

    python -m reinstruct.standing    (started by StandingWorkers, which writes a line to it for each shard)
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import IO

import msgspec

from reinstruct.container import follow, mistakes_told, parsed, work
from reinstruct.worker import Progress

_DONE = "done\n"  # the line after a shard's last one


class StandingWorkers:
    """The side of whoever has shards to be done. There are as many processes as there were shards at once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._idle: list[subprocess.Popen[str]] = []

    def begin(self, argv: Sequence[str], log: IO[bytes]) -> Shift:
        """A process that does what `python -m reinstruct.container ARGV` does, with the log as its standard error."""
        process = self._well() or self._started(log)
        return Shift(process, msgspec.json.encode((argv, log.name)) + b"\n", self._idle)

    def close(self) -> None:
        """End those that are idle, which is all of them once no shard is at work."""
        for process in self._idle:
            assert process.stdin is not None
            process.stdin.close()
        while self._idle:
            with self._idle.pop() as process:
                process.wait()

    def _well(self) -> subprocess.Popen[str] | None:
        """One that is idle, if there is any; those that died meanwhile are forgotten."""
        while self._idle:
            process = self._idle.pop()
            if process.poll() is None:
                return process
            _end(process)
        return None

    def _started(self, log: IO[bytes]) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, "-m", "reinstruct.standing"], subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, env=self.environment, text=True)


class Shift:
    """A process at work on one shard. It is free for another when the context ends, if it is well."""

    def __init__(self, process: subprocess.Popen[str], job: bytes, idle: list[subprocess.Popen[str]]) -> None:
        self._process, self._job, self._idle = process, job, idle
        self._done = False

    @property
    def stdout(self) -> Iterator[str]:
        """What it says of this shard."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == _DONE:
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
            os.write(self._process.stdin.fileno(), self._job)
        return self

    def __exit__(self, *_: object) -> None:
        if self._done:
            self._idle.append(self._process)
        else:
            _end(self._process)


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def main(do: Callable[[Namespace, Progress], None] = work) -> None:
    """Do shard after shard, until standard input ends; a mistake or an error ends the process, as in a container."""
    jobs: SimpleQueue[tuple[list[str], str]] = SimpleQueue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(jobs, at_work), daemon=True).start()
    progress: Progress | None = None
    while True:
        argv, log = jobs.get()
        _log_to(log)
        args = parsed(argv)
        with mistakes_told():
            progress = progress or follow(args.metrics_port)
        progress.restart()
        do(args, progress)
        at_work.clear()
        print(f"\n{_DONE}", end="", flush=True)  # whatever a library may have said without ending its line


def _listen(jobs: SimpleQueue[tuple[list[str], str]], at_work: threading.Event) -> None:
    """Hand on what is asked for. Without anybody to ask, the process ends at once, whatever it is doing."""
    with open(0, "rb", closefd=False) as lines:
        for line in lines:
            at_work.set()
            jobs.put(msgspec.json.decode(line, type=tuple[list[str], str]))
    os._exit(3 if at_work.is_set() else 0)


def _log_to(path: str) -> None:
    """Have standard error, of libraries written in C too, appended to this file."""
    with open(path, "ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    main()
