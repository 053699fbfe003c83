"""Walk a plan on this machine: steps in order, the shards of a step in processes of their own.

The rule: the runner keeps nothing that matters. What is done is in the store, so a run that was killed goes on where
the last committed shard ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from reinstruct import errors
from reinstruct.commit import Result, close, done_shards, result_of
from reinstruct.container import verb_of
from reinstruct.errors import RecipeError, ShardError
from reinstruct.layout import ensure_layout
from reinstruct.plan import Concat, Map, MeasureLoss, Model, Step, Train, TrainBase, models_in
from reinstruct.planfile import Plan, save, steps_of
from reinstruct.serving import Servers, open_served, urls_of
from reinstruct.store import Store
from reinstruct.suggest import suggestion
from reinstruct.train.job import expect_libraries

ROWS_PER_SHARD = 20_000
MIN_ROWS = {"map": 2_000, "ask": 32}  # below twice this, a second process costs more than it saves


class Watcher(Protocol):
    """Told how a run goes."""

    def step_found(self, step: Step, result: Result) -> None: ...
    def step_started(self, step: Step, shards: int, left: int) -> None: ...
    def shard_moved(self, step: Step, shard: int, done: int, total: int, tokens: int) -> None: ...
    def shard_finished(self, step: Step, shard: int) -> None: ...
    def step_finished(self, step: Step, result: Result) -> None: ...


class Runner(Protocol):
    """Anything that can carry out a plan."""

    def run(self, plan: Plan) -> None: ...


@dataclass
class LocalRunner:
    """Runs plans in processes on this machine, `workers` shards at a time; a failed shard is tried `tries` times."""

    store: Store
    watcher: Watcher
    workers: int
    servers: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    tries: int = 2

    def run(self, plan: Plan) -> None:
        """Finish every step. Raises what a shard raised, after all its tries."""
        name = save(self.store, plan)
        for step in steps_of(plan).values():
            if isinstance(step.action, Concat):
                continue
            result = result_of(self.store, step.id)
            if result is not None:
                self.watcher.step_found(step, result)
            else:
                self._run_step(step, name)

    def _run_step(self, step: Step, plan_name: str) -> None:
        verb = verb_of(step)
        layout = ensure_layout(self.store, step, shards=self._shards(step), min_rows=MIN_ROWS.get(verb, 1))
        missing = sorted(set(range(len(layout.shards))) - set(done_shards(self.store, step.id)))
        self.watcher.step_started(step, len(layout.shards), len(missing))
        with ThreadPoolExecutor(self.workers) as pool:
            stopped = threading.Event()
            # Of the layout, not of what is missing: how many threads share a sum must not change by an interruption.
            at_once = min(self.workers, len(layout.shards)) or 1
            shards = [pool.submit(self._run_shard, step, verb, plan_name, n, at_once, stopped) for n in missing]
            try:
                finished, _ = wait(shards, return_when=FIRST_EXCEPTION)
                for shard in finished:
                    shard.result()
            finally:
                stopped.set()
        result = close(self.store, step.id)
        _sweep(self.store, step.id, result)
        self.watcher.step_finished(step, result)

    def _shards(self, step: Step) -> int:
        rows = sum(result.rows for needed in step.inputs if (result := result_of(self.store, needed.id)))
        return max(self.workers, -(-rows // ROWS_PER_SHARD))

    def _run_shard(
        self, step: Step, verb: str, plan_name: str, shard: int, at_once: int, stopped: threading.Event
    ) -> None:
        for attempt in range(1, self.tries + 1):
            if stopped.is_set():
                return
            failure = self._attempt(step, verb, plan_name, shard, at_once, stopped)
            if failure is None:
                self.watcher.shard_finished(step, shard)
                return
            if attempt == self.tries or not isinstance(failure, ShardError):
                raise failure

    def _attempt(
        self, step: Step, verb: str, plan_name: str, shard: int, at_once: int, stopped: threading.Event
    ) -> Exception | None:
        log = self.store.path(f"steps/{step.id}/logs/{shard:05d}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "reinstruct.container", verb, "--die-with-parent", "--store", self.store.root]
        argv += ["--plan", plan_name, "--step", step.id, "--shard", str(shard)]
        argv += ["--servers", msgspec.json.encode(self.servers).decode()]
        threads = max(1, cores() // at_once)
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "POLARS_MAX_THREADS": str(threads)}
        with (
            log.open("ab") as stderr,
            subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env, text=True
            ) as process,
        ):
            last = self._follow(process, step, shard, stopped)
        return _failure(process.returncode, last, step, shard, log)

    def _follow(
        self, process: subprocess.Popen[str], step: Step, shard: int, stopped: threading.Event
    ) -> dict[str, Any]:
        last: dict[str, Any] = {}
        assert process.stdout is not None
        for line in process.stdout:
            if stopped.is_set():
                process.kill()
            try:
                last = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue  # a library's own chatter
            if "tokens" in last:
                self.watcher.shard_moved(step, shard, last["done"], last["total"], last["tokens"])
        return last


def cores() -> int:
    """Cores this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_models(plan: Plan, servers: Servers) -> None:
    """Before anything is spent: every server answers and is of use, and what runs here can be run here."""
    asked = {model.step.name if model.step else model.uri for model in _asked_models(plan)}
    for name, urls in servers.items():
        if name and name not in asked:
            raise RecipeError(f"no model {name!r} is asked{suggestion(name, asked)}; asked are: {', '.join(asked)}")
        open_served(urls).check()
    trains = any(isinstance(step.action, (Train, TrainBase, MeasureLoss)) for step in steps_of(plan).values())
    if trains or any(not urls_of(model, servers) for model in _asked_models(plan)):
        expect_libraries()


def _asked_models(plan: Plan) -> list[Model]:
    return [
        model for step in steps_of(plan).values() if isinstance(step.action, Map) for model in models_in(step.action)
    ]


def _failure(code: int, last: dict[str, Any], step: Step, shard: int, log: Path) -> Exception | None:
    if code == 0:
        return None
    where = f"step {step.name}, shard {shard}"
    if "error" in last:
        kind: type[Exception] = getattr(errors, str(last.get("kind")), ShardError)
        return kind(f"{where}: {last['error']}")
    lines = log.read_text(errors="replace").strip().splitlines()
    return ShardError(f"{where}: the process ended with code {code} ({lines[-1] if lines else 'no output'}); see {log}")


def _sweep(store: Store, step_id: str, result: Result) -> None:
    """Remove what killed attempts left: nothing names it, and nobody else is at work on a closed step."""
    kept = {part.name for part in (*result.parts, *result.rejected)}
    kept |= {part.name for done in result.shards for part in done.files}
    for folder in ("parts", "rejected", "model"):
        for name in store.names(f"steps/{step_id}/{folder}"):
            if name not in kept:
                store.delete(name)
    store.delete(f"steps/{step_id}/work")
