"""How the processes of one job wait while one of them works long: tokenises, or looks through checkpoints.

The one rule: such a wait lasts as long as the other is alive. A collective ends after minutes, however busy the other
is; the store in which the processes met has no such limit, and each of them says there that it is alive.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import TracebackType

from accelerate import PartialState
from torch.distributed import distributed_c10d as c10d

from reinstruct.errors import ReinstructError, TrainingError
from reinstruct.train.outside import RESUMES

BEAT_S = 5.0
SILENT_S = 120.0  # as long as libraries may hold up a process's threads, and longer
LOOK_S = 0.2

_jobs = itertools.count()  # of this process; all processes of a job do the same jobs, one after another


class Turns:
    """Process `rank` of `processes`, in a store that all of them see; alone it waits for nobody.

    `leader` is the first process of the same machine. In the block of this object the process says every `beat_s`
    seconds that it is alive. Whoever waits for it gets a TrainingError when it was silent for `silent_s` seconds, or as
    soon as an error ended its block.
    """

    def __init__(
        self,
        store: c10d.Store | None = None,
        rank: int = 0,
        processes: int = 1,
        leader: int = 0,
        *,
        beat_s: float = BEAT_S,
        silent_s: float = SILENT_S,
    ) -> None:
        self._store = store
        self.rank = rank
        self.processes = processes
        self.leader = leader
        self._beat_s = beat_s
        self._silent_s = silent_s
        self._number = 0
        self._over = threading.Event()

    @classmethod
    def of(cls, state: PartialState) -> Turns:
        """Those of the processes that torchrun made."""
        if state.num_processes == 1:
            return cls()
        met = c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]; torch has no other name for it
        store = c10d.PrefixStore(f"reinstruct/{next(_jobs)}", met)
        rank = state.process_index
        return cls(store, rank, state.num_processes, rank - state.local_process_index)

    def __enter__(self) -> Turns:
        threading.Thread(target=self._beat, name="beats", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if error is not None:
            with suppress(RuntimeError):  # the store may be what is gone
                said = str(error) if isinstance(error, ReinstructError) else f"{type(error).__name__}: {error}"
                self._say("failed", said)

    @contextmanager
    def in_turn(self) -> Generator[None]:
        """The block is run by the first process, then by the first of every other machine, then by all others.

        So what the first one leaves on a disk is found by all who see it, and made once on every other machine.
        """
        name = self._next()
        if self.rank:
            self._wait_for(self.leader if self.rank != self.leader else 0, name)
        yield
        self._say(name, "")

    def told(self, make: Callable[[], str]) -> str:
        """What the first process makes, in all of them, as soon as all have come for it."""
        name, came = self._next(), self._next()
        made = make() if self.rank == 0 else ""
        if self._store is None:
            return made
        if self.rank == 0:
            self._say(name, made)
        made = self._wait_for(0, name)
        self._say(came, "")
        for rank in range(self.processes):
            self._wait_for(rank, came)
        return made

    def _next(self) -> str:
        self._number += 1
        return str(self._number)

    def _say(self, name: str, value: str) -> None:
        if self._store is not None:
            self._store.set(f"{self.rank}/{name}", value)

    def _beat(self) -> None:
        with suppress(RuntimeError):  # a store that is gone needs no beats: whoever waits finds out by itself
            while self._store is not None and not self._over.is_set():
                self._store.add(f"{self.rank}/beats", 1)
                self._over.wait(self._beat_s)

    def _wait_for(self, rank: int, name: str) -> str:
        assert self._store is not None
        beats, heard = -1, time.monotonic()
        try:
            while not self._store.check([f"{rank}/{name}"]):
                if self._store.check([f"{rank}/failed"]):
                    why = self._store.get(f"{rank}/failed").decode()
                    raise TrainingError(f"process {rank} of this training failed: {why}")
                now = self._store.add(f"{rank}/beats", 0)
                if now != beats:
                    beats, heard = now, time.monotonic()
                elif time.monotonic() - heard > self._silent_s:
                    raise _gone(rank, f"silent for {self._silent_s:.0f} seconds")
                time.sleep(LOOK_S)
            return self._store.get(f"{rank}/{name}").decode()
        except RuntimeError as error:
            raise _gone(rank, str(error).strip().partition("\n")[0]) from error


def _gone(rank: int, how: str) -> TrainingError:
    return TrainingError(f"process {rank} of this training is gone or out of reach ({how}); {RESUMES}")
