"""A plan as JSON, so that a worker anywhere can take up one of its steps. The rule: nothing is pickled."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from reinstruct.errors import RecipeError
from reinstruct.identity import describe, digest, restore
from reinstruct.plan import Model, Step, walk
from reinstruct.store import Store

NEWEST = "plans/newest"


class StepSpec(Struct):
    """One step: its action and record type as `describe` gives them."""

    id: str
    name: str
    action: dict[str, Any]
    record_type: dict[str, Any]
    inputs: list[str]


class Plan(Struct, kw_only=True):
    """What a run does, and which of its steps people look at afterwards.

    `losses` maps a model's label to the step that measured it; `models` a model's label to the step that trained it.
    """

    recipe: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: list[StepSpec]
    data: str
    corpus: str = ""
    models: dict[str, str] = field(default_factory=dict[str, str])
    losses: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def id(self) -> str:
        """Changes when anything does that the run or its report shows."""
        return f"{self.recipe.replace('_', '-')}-{digest(msgspec.to_builtins(self))[:12]}"


_PLAN = msgspec.json.Decoder(Plan)


def specs(*targets: Step) -> list[StepSpec]:
    """Every step the targets need, in an order that can be run."""
    return [
        StepSpec(step.id, step.name, describe(step.action), describe(step.record_type), [i.id for i in step.inputs])
        for step in walk(*targets)
    ]


def steps_of(plan: Plan) -> dict[str, Step]:
    """The plan's steps by id. RecipeError where this installation would do a step differently."""
    steps: dict[str, Step] = {}
    models: dict[str, Any] = {}
    for spec in plan.steps:
        inputs = tuple(steps[i] for i in spec.inputs)
        step = Step(spec.name, restore(spec.action, models), restore(spec.record_type, {}), inputs)
        if step.id != spec.id:
            raise RecipeError(f"the plan's step {spec.id} is {step.id} here: it was planned by another version")
        steps[step.id] = step
        models[step.id] = Model(step=step)
    return steps


def passed_over(plan: Plan) -> list[str]:
    """What lies beside the files of each input and is not read."""
    sources = [(spec.name, spec.action.get("source", {}).get("passed_over")) for spec in plan.steps]
    return [f"{name}: {files}" for name, files in sources if files]


def save(store: Store, plan: Plan) -> str:
    """Put the plan in the store, as the newest; its name there."""
    name = f"plans/{plan.id}.json"
    store.put(name, msgspec.json.format(msgspec.json.encode(plan)))
    store.put(NEWEST, name.encode())
    return name


def newest(store: Store) -> Plan:
    """The plan that was saved last; RecipeError where nothing was ever run."""
    name = store.get(NEWEST)
    if name is None:
        raise RecipeError(f"nothing was run in {store.root}: it holds no plan")
    return load(store, name.decode())


def load(store: Store, name: str) -> Plan:
    """A saved plan; RecipeError where there is none or it is not one."""
    data = store.get(name)
    if data is None:
        raise RecipeError(f"no plan {name!r} in {store.root}")
    try:
        return _PLAN.decode(data)
    except msgspec.DecodeError as error:
        raise RecipeError(f"{name} in {store.root} is not a plan: {error}") from error
