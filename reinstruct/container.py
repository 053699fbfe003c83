"""What every container and every local process runs: one verb, told by flags or by a Kubeflow executor input.

    python -m reinstruct.container map --store URI --plan NAME --step ID [--shard N]
    python -m reinstruct.container map --executor-input JSON

The verb says which kind of step is expected (read, map, ask, gather, train, measure) or `publish`. Without a shard the
whole step is run and closed. The last line printed is the result as JSON; the exit code is 2 for a deliberate error.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct, field

from reinstruct.commit import Result, close, result_of
from reinstruct.emptied import expect_documents
from reinstruct.engines import TRANSFORMERS, Engine
from reinstruct.errors import RecipeError, ReinstructError
from reinstruct.layout import ensure_layout
from reinstruct.plan import GatherAll, Map, MeasureLoss, Model, Read, Step, Train, TrainBase
from reinstruct.planfile import Plan, load, steps_of
from reinstruct.serving import open_llm
from reinstruct.stage import Ask
from reinstruct.store import Store, open_store
from reinstruct.worker import Progress, run_shard

VERBS = ("read", "map", "ask", "gather", "train", "measure", "publish")
DIE_WITH_PARENT = "--die-with-parent"


class Task(Struct, kw_only=True, forbid_unknown_fields=True):
    """What one container is told. `servers` maps a model's name ("" = every model) to the URLs that serve it; `folder`
    of the store is what a plan is published in. Models without a server are answered for by `engine`.
    """

    store: str
    plan: str
    step: str = ""
    shard: int = -1
    folder: str = ""
    servers: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    engine: str = TRANSFORMERS
    vllm_flags: str = ""


def verb_of(step: Step) -> str:
    """Which kind of container runs the step."""
    match step.action:
        case Read():
            return "read"
        case Map(stages=stages):
            return "ask" if any(isinstance(stage, Ask) for stage in stages) else "map"
        case GatherAll():
            return "gather"
        case Train() | TrainBase():
            return "train"
        case MeasureLoss():
            return "measure"
        case _:
            raise RecipeError(f"step {step.id} needs no container")


def run_task(verb: str, task: Task, progress: Progress | None = None) -> dict[str, Any]:
    """Do what the task says; what it made, in numbers."""
    store = open_store(task.store)
    plan = load(store, task.plan)
    if verb == "publish":
        from reinstruct.publish import publish

        return publish(store, plan, task.folder)
    step = _step(plan, task.step, verb)
    engine = Engine(task.engine, tuple(shlex.split(task.vllm_flags)))

    def opened(model: Model) -> Any:
        return open_llm(model, store, task.servers, engine)

    if task.shard >= 0:
        done = run_shard(store, step, task.shard, opened, progress)
        return {"step": step.id, "shard": task.shard, "committed": done is not None}
    result = result_of(store, step.id) or _whole_step(store, step, opened, progress)
    expect_documents(step, result)
    return {"step": step.id, "rows": result.rows, "uri": f"{store.root}/steps/{step.id}"}


def _whole_step(store: Store, step: Step, opened: Any, progress: Progress | None) -> Result:
    layout = ensure_layout(store, step, shards=1, min_rows=1)
    for shard in range(len(layout.shards)):
        run_shard(store, step, shard, opened, progress)
    return close(store, step.id)


def _step(plan: Plan, step_id: str, verb: str) -> Step:
    steps = steps_of(plan)
    if step_id not in steps:
        raise RecipeError(f"no step {step_id!r} in plan {plan.id}; there are: {', '.join(steps)}")
    if verb_of(steps[step_id]) != verb:
        raise RecipeError(f"step {step_id} is run by the verb {verb_of(steps[step_id])!r}, not {verb!r}")
    return steps[step_id]


def task_from_executor_input(text: str) -> Task:
    """The task in a Kubeflow executor input: its parameter values, by the names of Task's fields."""
    values: dict[str, Any] = msgspec.json.decode(text).get("inputs", {}).get("parameterValues", {})
    if isinstance(values.get("servers"), str):
        values["servers"] = msgspec.json.decode(values["servers"] or "{}")
    return msgspec.convert(values, Task, strict=False)


def write_executor_output(text: str, made: dict[str, Any]) -> None:
    """Answer Kubeflow: the output artifact `made` is a small JSON manifest, its metadata the numbers in it."""
    outputs: dict[str, Any] = msgspec.json.decode(text)["outputs"]
    artifact: dict[str, Any] = outputs["artifacts"]["made"]["artifacts"][0]
    manifest = local_path(artifact["uri"])
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_bytes(msgspec.json.encode(made))
    plain = {key: value for key, value in made.items() if isinstance(value, (str, int, float))}
    artifact["metadata"] = {**cast(dict[str, Any], artifact.get("metadata") or {}), **plain}
    answer = {"parameterValues": {}, "artifacts": {"made": {"artifacts": [artifact]}}}
    target = Path(outputs["outputFile"])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.encode(answer))


def local_path(uri: str) -> Path:
    """Where Kubeflow's launcher expects the local copy of an artifact (gs://b/k -> /gcs/b/k)."""
    for scheme, folder in (("gs://", "/gcs/"), ("s3://", "/s3/"), ("minio://", "/minio/")):
        if uri.startswith(scheme):
            return Path(folder + uri[len(scheme) :])
    return Path(uri)


def die_with_parent() -> None:
    """End this process when the other end of standard input closes, so that a killed runner leaves no orphans."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def print_progress(progress: Progress, last: list[float]) -> None:
    """One JSON line to standard output, a few times a second at most."""
    if time.monotonic() - last[0] > 0.2:
        last[0] = time.monotonic()
        line = {"done": progress.done, "total": progress.total, "tokens": progress.tokens}
        print(msgspec.json.encode(line).decode(), flush=True)


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m reinstruct.container", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--executor-input", default="", help="Kubeflow's executor input, instead of the flags below")
    parser.add_argument("--store", default="", help="URI of the store")
    parser.add_argument("--plan", default="", help="name of the plan in the store")
    parser.add_argument("--step", default="", help="id of the step")
    parser.add_argument("--shard", type=int, default=-1, help="one shard only")
    parser.add_argument("--servers", default="{}", help="JSON: model name -> URLs that serve it")
    parser.add_argument(
        "--metrics-port",
        default=os.environ.get("REINSTRUCT_METRICS_PORT", ""),
        help="PORT or HOST:PORT to answer Prometheus at; REINSTRUCT_METRICS_PORT says the same",
    )
    parser.add_argument("--engine", default=TRANSFORMERS, help="what answers for models without a server")
    parser.add_argument("--vllm-flags", default="", help="vLLM's own flags, quoted as in a shell")
    parser.add_argument(DIE_WITH_PARENT, action="store_true", help="end when standard input closes")
    return parser.parse_args(argv)


def follow(metrics_port: str = "") -> Progress:
    """The progress of what this process does, told on standard output and, at a port, to Prometheus."""
    last = [0.0]
    progress = Progress(tell=lambda progress: print_progress(progress, last))
    if metrics_port:
        from reinstruct.metrics import serve_metrics

        serve_metrics(metrics_port, progress)
    return progress


@contextmanager
def mistakes_told() -> Generator[None]:
    """End the process with code 2 after a deliberate error, and that error as its last line."""
    try:
        yield
    except (ReinstructError, msgspec.ValidationError) as error:
        print(msgspec.json.encode({"error": str(error), "kind": type(error).__name__}).decode(), flush=True)
        sys.exit(2)


def work(args: argparse.Namespace, progress: Progress) -> None:
    """Do what was asked for; the result is the last line."""
    with mistakes_told():
        if args.executor_input:
            made = run_task(args.verb, task_from_executor_input(args.executor_input), progress)
            write_executor_output(args.executor_input, made)
        else:
            made = run_task(args.verb, task_from_flags(args), progress)
    print(msgspec.json.encode(made).decode(), flush=True)


def task_from_flags(args: argparse.Namespace) -> Task:
    servers = msgspec.json.decode(args.servers, type=dict[str, tuple[str, ...]])
    given = {name: getattr(args, name) for name in ("store", "plan", "step", "shard", "engine", "vllm_flags")}
    return Task(**given, servers=servers)


def main(argv: list[str] | None = None) -> None:
    args = parsed(sys.argv[1:] if argv is None else argv)
    if args.die_with_parent:
        die_with_parent()
    with mistakes_told():
        progress = follow(args.metrics_port)
    work(args, progress)


if __name__ == "__main__":
    main()
