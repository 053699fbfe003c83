"""Workers that have torch and transformers loaded from their start: forks of a process that does nothing but load them.

The one rule: the server imports and forks, but never computes. So each fork begins as a fresh process does, with the
same environment and one thread, and is watched, ended and tried again as any other worker.

    python -m reinstruct.forkserver FD    (started by ForkServer; FD is its end of a socket)
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import IO

import msgspec

MODULES = {  # what a verb's worker imports, sooner or later
    "ask": (
        "reinstruct.batching",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
    ),
    "measure": ("reinstruct.train.loss", "transformers.models.auto.modeling_auto"),
    "train": ("reinstruct.train.sft", "transformers.models.auto.modeling_auto"),
}
STREAMS = 3  # standard input, output and error of a fork, in this order
MESSAGE_BYTES = 1 << 17
CODE_BYTES = 2
LOST = -signal.SIGKILL  # the exit code of a fork whose server died before it: nobody else can tell


class ForkServer:
    """The side of whoever wants workers. The server is started with the first one, and anew if it died."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, argv: Sequence[str], stderr: IO[bytes], modules: Sequence[str] = ()) -> Forked:
        """A process that runs `python -m reinstruct.container ARGV` and has these modules imported.

        What a server that is started for it has to say goes to the same `stderr`.
        """
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        ours, theirs = socket.socketpair()
        given = [read_in, write_out, stderr.fileno(), theirs.fileno()]
        try:
            with self._lock:
                self._ask(msgspec.json.encode((modules, argv)), given, stderr)
        finally:
            os.close(read_in)
            os.close(write_out)
            theirs.close()
        return Forked(write_in, read_out, ours)

    def close(self) -> None:
        """End the server; it must have no work."""
        with self._lock:
            if self._control and self._process:
                self._control.close()
                self._process.wait()
            self._control = None

    def _ask(self, message: bytes, files: Sequence[int], stderr: IO[bytes]) -> None:
        """Hand on what is asked for; a worker of a server that cannot even start counts as lost."""
        for _ in range(2):
            self._control = self._control or self._started(stderr)
            with suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._control, [message], files)
                return
            self._control.close()  # of a server that died
            self._control = None

    def _started(self, stderr: IO[bytes]) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "reinstruct.forkserver", str(theirs.fileno())]
        with theirs, open(os.devnull, "r+b") as null:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=null, stdout=null, stderr=stderr, env=self.environment
            )
        return ours


class Forked:
    """A fork, as seen by who asked for it."""

    def __init__(self, stdin: int, stdout: int, ended: socket.socket) -> None:
        self._stdin: int | None = stdin
        self.stdout = os.fdopen(stdout, encoding="utf-8")
        self._ended = ended

    def kill(self) -> None:
        """End it: a worker does not outlive its standard input."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None

    def wait(self) -> int:
        """Its exit code, once it has ended; minus a signal's number if that ended it."""
        told = self._ended.recv(CODE_BYTES)
        return int.from_bytes(told, "big", signed=True) if told else LOST

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.stdout.close()
        self._ended.close()


class _Server:
    """The side that forks."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.running: dict[int, socket.socket] = {}  # pid -> whom to tell how it ended
        self.woken, self._wakes = socket.socketpair()
        for end in (self.woken, self._wakes):
            end.setblocking(False)

    def serve(self) -> list[str] | None:
        """In the server: None, once nobody can ask any more. In each fork: what it is asked for."""
        interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; it comes to the runner, too
        signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(self._wakes.fileno())
        with selectors.DefaultSelector() as selector:
            for readable in (self.control, self.woken):
                selector.register(readable, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self.woken in ready:
                    self._reap()
                if self.control in ready:
                    message, files, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, STREAMS + 1)
                    if not message:
                        return None
                    modules, argv = msgspec.json.decode(message, type=tuple[list[str], list[str]])
                    _load(modules)
                    if self._forked(files):
                        break
        self._forget()
        signal.signal(signal.SIGINT, interrupted)
        return argv

    def _forked(self, files: list[int]) -> bool:
        """Whether this is the fork."""
        pid = os.fork()
        if pid == 0:
            for number, file in enumerate(files[:STREAMS]):
                os.dup2(file, number)
        else:
            self.running[pid] = socket.socket(fileno=os.dup(files[STREAMS]))
        for file in files:
            os.close(file)
        return pid == 0

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while self.woken.recv(MESSAGE_BYTES):
                pass
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with self.running.pop(ended[0]) as told, suppress(BrokenPipeError):
                    told.send(os.waitstatus_to_exitcode(ended[1]).to_bytes(CODE_BYTES, "big", signed=True))

    def _forget(self) -> None:
        """Be as a process that was never a server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for inherited in (self.control, self.woken, self._wakes, *self.running.values()):
            inherited.close()


def _wake(signal_number: int, frame: FrameType | None) -> None:
    """Nothing: that there is something to be called has Python write to the file that wakes the server."""


def _load(modules: Sequence[str]) -> None:
    """Import what has not been yet. What is not installed is told of by the worker, which misses it too."""
    if all(module in sys.modules for module in modules):
        return
    with suppress(ImportError):
        for module in modules:
            importlib.import_module(module)
    gc.freeze()  # a collection in a fork would copy the memory of all of it


def main(argv: list[str]) -> None:
    asked = _Server(socket.socket(fileno=int(argv[0]))).serve()
    if asked is not None:
        from reinstruct.container import main as work

        work(asked)


if __name__ == "__main__":
    main(sys.argv[1:])
