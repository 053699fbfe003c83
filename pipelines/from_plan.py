"""Compile any plan to a Kubeflow pipeline: one task per step that needs a container, then one that publishes.

The rule: the pipeline holds no settings of its own. A task names a step of the plan saved in the store
(`planfile.save`, before the pipeline is submitted), and steps the store already has finished cost nothing.

Annotations are read by kfp when a pipeline is defined: no `from __future__ import annotations` in this package.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from kfp import compiler, dsl

from components import TRAINER, WORKER
from components.ask import ask_model
from components.gather import gather_records
from components.map import map_records
from components.measure import measure_loss
from components.publish import publish_dataset
from components.read import read_records
from components.train import train_model
from reinstruct.container import verb_of
from reinstruct.errors import RecipeError
from reinstruct.plan import Concat, Step, models_in
from reinstruct.planfile import Plan, steps_of
from reinstruct.serving import Servers, urls_of

COMPONENTS = {
    "read": read_records,
    "map": map_records,
    "ask": ask_model,
    "gather": gather_records,
    "train": train_model,
    "measure": measure_loss,
}


@dataclass(frozen=True)
class Images:
    """Image references. `trainer` has torch beside everything in `worker`."""

    worker: str = WORKER
    trainer: str = TRAINER


def compile_plan(
    plan: Plan,
    *,
    store: str,
    path: Path,
    images: Images = Images(),
    servers: Mapping[str, tuple[str, ...]] = {},
) -> None:
    """Write the plan's pipeline to `path`; equal arguments give equal bytes.

    `store` (a URI) and the plan's name there become defaults of the pipeline's parameters `store` and `plan`, so one
    file serves every bucket the plan is saved in. `servers` maps a model's name ("" = every model) to the URLs that
    serve it; what no server answers is asked inside the trainer image. RecipeError for a plan made by another version.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"cannot compile to {path}: accepted: a name that ends in .yaml or .yml")
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(_pipeline(plan, store, images, servers), str(path))


def _pipeline(planned: Plan, store_uri: str, images: Images, servers: Servers):
    @dsl.pipeline(name=dns_name(planned.id), description=f"{planned.recipe}, planned as {planned.id}")
    def from_plan(store: str = store_uri, plan: str = f"plans/{planned.id}.json"):
        tasks = step_tasks(planned, store, plan, images, servers)
        publish_task(planned, tasks, images, store=store, plan=plan)

    return from_plan


def step_tasks(planned: Plan, store: str, plan: str, images: Images, servers: Servers) -> dict[str, dsl.PipelineTask]:
    """Inside a pipeline, the task of each step of the plan by the step's id."""
    servers_json = msgspec.json.encode(servers, order="sorted").decode()
    tasks: dict[str, dsl.PipelineTask] = {}
    for step in _steps(planned):
        task = COMPONENTS[verb_of(step)](store=store, plan=plan, step=step.id, servers=servers_json)
        task.after(*[tasks[needed.id] for needed in _needed(step)])
        tasks[step.id] = _set(task, step.name, _image(step, images, servers))
    return tasks


def publish_task(
    planned: Plan, tasks: Mapping[str, dsl.PipelineTask], images: Images, name: str = "publish", **given: str
) -> None:
    """A task that publishes the plan once its steps are done; `given` are the component's inputs."""
    published = publish_dataset(**given)
    published.after(*[tasks[step.id] for step in _last(_steps(planned))])
    _set(published, name, images.worker)


def _steps(planned: Plan) -> list[Step]:
    """Steps that have a task."""
    return [step for step in steps_of(planned).values() if not isinstance(step.action, Concat)]


def _set(task: dsl.PipelineTask, name: str, image: str) -> dsl.PipelineTask:
    return task.set_container_image(image).set_display_name(name).set_caching_options(False)


def _image(step: Step, images: Images, servers: Servers) -> str:
    verb = verb_of(step)
    in_process = verb == "ask" and not all(urls_of(model, servers) for model in models_in(step.action))
    return images.trainer if verb in ("train", "measure") or in_process else images.worker


def _needed(step: Step) -> Iterator[Step]:
    """The steps whose tasks come right before this one's. A concatenation has no task: its inputs stand for it."""
    for needed in step.needs:
        if isinstance(needed.action, Concat):
            yield from _needed(needed)
        else:
            yield needed


def _last(steps: Iterable[Step]) -> list[Step]:
    """The steps no other step waits for."""
    waited_for = {needed.id for step in steps for needed in _needed(step)}
    return [step for step in steps if step.id not in waited_for]


def dns_name(name: str) -> str:
    """At most 63 lower-case letters, digits and dashes; the end, which tells plans apart, is kept."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[-63:].strip("-")
