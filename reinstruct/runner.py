"""Walk a plan on this machine: steps as soon as what they need is done, their shards in processes of their own.

The rule: the runner keeps nothing that matters. What is done is in the store, so a run that was killed goes on where
the last committed shard ended.
"""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from reinstruct import errors
from reinstruct.commit import Result, close, done_shards, result_of
from reinstruct.container import DIE_WITH_PARENT, verb_of
from reinstruct.emptied import expect_documents
from reinstruct.engines import OFFLINE, VLLM, Engine, Pool
from reinstruct.errors import LLMUnavailable, ShardError
from reinstruct.forkserver import MODULES, ForkServer
from reinstruct.layout import ensure_layout, input_parts
from reinstruct.machine import MODEL_VERBS, Cores, accelerated, cores_for
from reinstruct.plan import Concat, Model, Step, TrainBase, models_in
from reinstruct.planfile import Plan, save, steps_of
from reinstruct.processes import Stop, Worker, environment, executed, package_path
from reinstruct.serving import location, name_of, served_name, urls_of
from reinstruct.standing import StandingWorkers
from reinstruct.store import Store
from reinstruct.train.several import PROCESSES

if TYPE_CHECKING:
    from reinstruct.vllm_server import Replicas

ROWS_PER_SHARD = 20_000
_HEARD_S = 1.0  # after which Ctrl-C is heard: once Polars is loaded, a wait without an end goes on after it
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
    """Runs plans in processes on this machine, on `workers` cores; a failed shard is tried `tries` times.

    Steps that do not need each other run side by side. How many cores a step takes is a matter of the machine alone:
    the number of threads that share a sum changes its last bits, and an interruption must not.
    """

    store: Store
    watcher: Watcher
    workers: int
    servers: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    engine: Engine = field(default=Engine())
    tries: int = 2
    train_processes: int = 0  # of each fine-tuning; 0: what the environment says, else one for each GPU

    @property
    def outside(self) -> dict[str, str]:  # what processes are told of this machine beside their task
        return {PROCESSES: str(self.train_processes)} if self.train_processes else {}

    def run(self, plan: Plan) -> None:
        """Finish every step. Raises what a shard raised, after all its tries."""
        name = save(self.store, plan)
        waiting = [step for step in steps_of(plan).values() if not isinstance(step.action, Concat)]
        urgency = {step.id: number for number, step in enumerate(waiting)}  # plans put what leads to the dataset first
        done: set[str] = set()
        running: dict[Future[None], Step] = {}
        cores, stopped = Cores(self.workers), Stop()
        models = Pool(self.engine, self.store.path("servers"), stopped.is_set)
        # All steps with a model but that of the base are given so many cores, and without a GPU they may be forked.
        forks = ForkServer({**environment(max(1, self.workers // 2)), **self.outside})
        with closing(models), closing(forks), ThreadPoolExecutor(len(waiting) or 1) as pool:
            try:
                while running or (waiting and not stopped.is_set()):
                    # after a failure, steps that were stopped count as done, but nothing may start from them
                    ready = [] if stopped.is_set() else [step for step in waiting if _needed_steps(step) <= done]
                    for step in ready:
                        waiting.remove(step)
                        work = _Work(self, step, name, cores, models, forks, urgency[step.id], stopped)
                        running[pool.submit(work.finish)] = step
                    finished, _ = wait(running, _HEARD_S, FIRST_COMPLETED)
                    for future in finished:
                        done.add(running.pop(future).id)
                        future.result()
            finally:
                stopped.set()


@dataclass
class _Work:
    """One step of a run."""

    runner: LocalRunner
    step: Step
    plan_name: str
    cores: Cores
    models: Pool
    forks: ForkServer
    urgency: int
    stopped: Stop
    shards: tuple[int, int] = (0, 0)  # in all, and left
    started: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def standing(self) -> StandingWorkers:
        return StandingWorkers({**environment(self._cores()), **self.runner.outside}, self.shards[1])

    def finish(self) -> None:
        """Do what is missing of the step and close it."""
        store, step, watcher = self.runner.store, self.step, self.runner.watcher
        result = result_of(store, step.id)
        if result is not None:
            watcher.step_found(step, result)
            expect_documents(step, result)
            return
        layout = ensure_layout(store, step, shards=self._shards(), min_rows=MIN_ROWS.get(verb_of(step), 1))
        missing = sorted(set(range(len(layout.shards))) - set(done_shards(store, step.id)))
        self.shards = (len(layout.shards), len(missing))
        with (
            self._answered(missing) as answered,
            closing(self.standing),
            ThreadPoolExecutor(self.runner.workers) as pool,
        ):
            for shard in [pool.submit(self._run_shard, number, answered) for number in missing]:
                shard.result()
        if self.stopped.is_set():
            return
        result = close(store, step.id)
        _sweep(store, step.id, result)
        if missing:
            watcher.step_finished(step, result)
        else:  # killed between the last commit and the closing
            watcher.step_found(step, result)
        expect_documents(step, result)

    def _tell_start(self) -> None:
        with self.lock:
            if not self.started:
                self.runner.watcher.step_started(self.step, *self.shards)
            self.started = True

    def _shards(self) -> int:
        rows = sum(part.rows for part in input_parts(self.runner.store, self.step))
        # A worker with vLLM in it loads the model: once is enough, unless there are very many rows.
        least = 1 if self.runner.engine.name == OFFLINE and self._local_model() else self.runner.workers
        return max(least, -(-rows // ROWS_PER_SHARD))

    @contextmanager
    def _answered(self, missing: list[int]) -> Generator[Replicas | None]:
        """The vLLM servers of the model the step asks, where the run brings them up: for all shards together.

        While they are in use they have the machine to themselves, or the part of it that is a model's.
        """
        runner, model = self.runner, self._local_model()
        if model is None or not missing or runner.engine.name != VLLM:
            yield None
            return
        with self.cores.taken(max(1, runner.workers // runner.engine.models), self.urgency):
            if self.stopped.is_set():
                yield None
                return
            self._tell_start()
            with self.models.serving(served_name(model), location(model, runner.store)) as servers:
                yield servers

    def _local_model(self) -> Model | None:
        """The model the step asks, if no server was named for it."""
        if verb_of(self.step) != "ask":
            return None
        return next((model for model in models_in(self.step.action) if not urls_of(model, self.runner.servers)), None)

    def _cores(self) -> int:
        return cores_for(self.step, self.runner.workers, accelerated())

    def _run_shard(self, shard: int, servers: Replicas | None) -> None:
        needed = 1 if servers else self._cores()
        for attempt in range(1, self.runner.tries + 1):
            with nullcontext() if servers else self.cores.taken(needed, self.urgency):
                if self.stopped.is_set():
                    return
                self._tell_start()
                if not servers and verb_of(self.step) in MODEL_VERBS:
                    self.models.make_room()
                failure = self._attempt(shard, needed, servers)
            if failure is None:
                self.runner.watcher.shard_finished(self.step, shard)
                return
            if self.stopped.is_set():
                return
            may_pass = isinstance(failure, ShardError) or (servers and isinstance(failure, LLMUnavailable))
            if attempt == self.runner.tries or not may_pass:
                self.stopped.set()
                raise failure

    def _attempt(self, shard: int, threads: int, servers: Replicas | None) -> Exception | None:
        store, step, engine = self.runner.store, self.step, self.runner.engine
        log = store.path(f"steps/{step.id}/logs/{shard:05d}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        named = {**self.runner.servers, **(ready_urls(servers, self._local_model()) if servers else {})}
        inside = engine.name == OFFLINE and self._local_model() is not None
        argv = [verb_of(step), "--store", store.root, "--plan", self.plan_name, "--step", step.id]
        argv += ["--shard", str(shard), "--servers", msgspec.json.encode(named).decode()]
        argv += ["--engine", OFFLINE, "--vllm-flags", shlex.join(engine.flags)] if inside else []
        with log.open("ab") as stderr:
            if verb_of(step) not in MODEL_VERBS:
                started: Worker = self.standing.begin(argv, stderr)
            elif servers or inside or not self._loads_torch():
                python, more = (engine.vllm.python, package_path()) if inside else (sys.executable, {})
                started = executed(
                    python, [*argv, DIE_WITH_PARENT], {**environment(threads), **self.runner.outside, **more}, stderr
                )
            else:
                started = self.forks.fork([*argv, DIE_WITH_PARENT], stderr, MODULES[verb_of(step)])
            with started as process, self.stopped.ends(process):
                last = self._follow(process, shard)
                code = process.wait()
        return _failure(code, last, step, shard, log)

    def _loads_torch(self) -> bool:
        """Whether its processes have a model in them, and so little else that they may be forked."""
        loads = verb_of(self.step) in ("train", "measure") or self._local_model() is not None
        return loads and not isinstance(self.step.action, TrainBase) and not accelerated()

    def _follow(self, process: Worker, shard: int) -> dict[str, Any]:
        """The last line the process said; on the way, its progress."""
        last: dict[str, Any] = {}
        assert process.stdout is not None
        for line in process.stdout:
            try:
                last = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue  # a library's own chatter
            if "tokens" in last:
                self.runner.watcher.shard_moved(self.step, shard, last["done"], last["total"], last["tokens"])
        return last


def ready_urls(servers: Replicas, model: Model | None) -> dict[str, tuple[str, ...]]:
    """The servers under the name of the model they serve; those that died are started anew first."""
    servers.start()
    assert model is not None
    return {name_of(model): tuple(f"{url}#model={servers.name}" for url in servers.urls)}


def _needed_steps(step: Step) -> set[str]:
    """Ids of the steps that must be done first, looking through concatenations."""
    ids: set[str] = set()
    for needed in step.needs:
        ids |= _needed_steps(needed) if isinstance(needed.action, Concat) else {needed.id}
    return ids


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
