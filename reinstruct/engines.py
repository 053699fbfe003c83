"""Which engine answers for models that no server was named for, and the servers a run brings up for that.

The rule: the engine is a matter of the machine. It never enters an identity, so a run may go on with another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reinstruct.errors import LLMError, expect
from reinstruct.suggest import suggestion
from reinstruct.vllm_launch import MEMORY, Serving, Vllm, devices, devices_per_server, find_vllm

if TYPE_CHECKING:
    from reinstruct.vllm_server import Replicas

TRANSFORMERS, VLLM, OFFLINE = ENGINES = ("transformers", "vllm", "vllm-offline")
LOOK_S = 1.0  # between two looks at a server that is in use
WORKER_NEEDS = ("msgspec", "polars", "pyarrow", "fsspec")  # of a Python that runs vLLM inside a worker


@dataclass(frozen=True)
class Engine:
    """An engine: transformers in the workers, vLLM servers that the run starts, or vLLM in the workers (offline).

    `flags` are vLLM's own. So many `models` are served at a time; one at a time is sure to fit into memory. `python`
    has vLLM; empty: as `find_vllm` finds it.
    """

    name: str = TRANSFORMERS
    flags: tuple[str, ...] = ()
    models: int = 1
    python: str = ""

    def __post_init__(self) -> None:
        expect(self.name in ENGINES, "--engine", self.name, ", ".join(ENGINES) + suggestion(self.name, ENGINES))
        expect(self.models >= 1, "--models-at-once", self.models, "1 or more")
        usable = self.name != TRANSFORMERS or not self.flags
        expect(usable, "--vllm-flags", " ".join(self.flags), f"nothing, or --engine {VLLM} or {OFFLINE} as well")

    @cached_property
    def vllm(self) -> Vllm:
        """The vLLM there is; RecipeError where there is none."""
        return find_vllm(self.python, needs=WORKER_NEEDS if self.name == OFFLINE else ())

    def check(self) -> None:
        """RecipeError where vLLM is needed and there is none."""
        assert self.name == TRANSFORMERS or self.vllm


class Pool:
    """The vLLM servers of a run. A model's server stays up until its place is needed: it may soon be asked again.

    `log_folder` gets the servers' logs. Once `stopped` says so, no server is waited for any more.
    """

    def __init__(self, engine: Engine, log_folder: Path, stopped: Callable[[], bool]) -> None:
        self._engine = engine
        self._folder = log_folder
        self._stopped = stopped
        self._slots: list[Replicas | None] = [None] * engine.models
        self._users: dict[str, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def serving(self, name: str, model: str) -> Generator[Replicas]:
        """Servers of the weights at `model`, ready, under `name`. Waits while all places are taken by other models."""
        with self._changed:
            servers = self._changed.wait_for(lambda: self._place(name, model))
            assert servers is not None
            self._users[name] = self._users.get(name, 0) + 1
        over = threading.Event()
        try:
            servers.start()
            threading.Thread(target=_keep_up, args=(servers, over), daemon=True).start()
            yield servers
        finally:
            over.set()
            with self._changed:
                self._users[name] -= 1
                self._changed.notify_all()

    def make_room(self) -> None:
        """End the servers nobody uses: something else is to have the memory."""
        with self._changed:
            for slot, servers in enumerate(self._slots):
                if servers and not self._users.get(servers.name):
                    servers.close()
                    self._slots[slot] = None

    def close(self) -> None:
        """End all servers."""
        for servers in self._slots:
            if servers:
                servers.close()
        self._slots = [None] * len(self._slots)

    def _place(self, name: str, model: str) -> Replicas | None:
        """The model's servers, new ones in a free place or in that of idle ones; None if there is none."""
        for servers in self._slots:
            if servers and servers.name == name and not servers.is_closed:
                return servers
        free = [n for n, servers in enumerate(self._slots) if not servers or not self._users.get(servers.name)]
        if not free:
            return None
        slot = min(free, key=lambda n: self._slots[n] is not None)
        if idle := self._slots[slot]:
            idle.close()
        servers = self._slots[slot] = self._new(name, model, slot)
        return servers

    def _new(self, name: str, model: str, slot: int) -> Replicas:
        from reinstruct.vllm_server import Replicas

        every, at_once, flags = devices(), self._engine.models, self._engine.flags
        own = every[slot::at_once] or every[slot % len(every) :][:1] if every else []
        if every and len(every) < at_once:
            flags = ("--gpu-memory-utilization", f"{MEMORY * len(every) / at_once:.2f}", *flags)
        count = max(1, len(own) // devices_per_server(flags))
        serving = Serving(model, name, flags=flags)
        return Replicas(self._engine.vllm, serving, self._folder, devices=own, count=count, stopped=self._stopped)


def _keep_up(servers: Replicas, over: threading.Event) -> None:
    """Start anew what dies; give up where that fails: whoever needs the server next is told why."""
    with suppress(LLMError):
        while not over.wait(LOOK_S):
            servers.start()
