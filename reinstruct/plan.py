"""A recipe builds a plan: a graph of steps that has not run yet.

Dataset and Model are handles on a step. `.map`, `.gather`, `.train` and `+` add a step and return a new handle;
nothing is read, generated or trained until a runner walks the graph.

The one rule: what changes the data is in the plan and in a step's id (a hash of settings, stage versions, inputs, and
for files their names, sizes and generations); where and how fast it runs is not. So no finished step is done twice.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from reinstruct.errors import RecipeError
from reinstruct.identity import describe, digest
from reinstruct.records import Example, Pair
from reinstruct.stage import Ask, Filter, Gather, Stage, Transform, record_types
from reinstruct.train.settings import Pretrain, Sft

if TYPE_CHECKING:
    from reinstruct.corpus.source import Source

R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True)
class Read:
    """Take records in from outside: files, or the documentation of installed packages."""

    source: Source
    limit: int = 0  # 0 = all


@dataclass(frozen=True)
class Map:
    """Stages applied in turn to each record of each shard."""

    stages: tuple[Any, ...]


@dataclass(frozen=True)
class GatherAll:
    """One pass over the whole dataset in a single worker."""

    stage: Any


@dataclass(frozen=True)
class Concat:
    """Several datasets, one after the other. Costs nothing: no row is copied."""


@dataclass(frozen=True)
class TrainBase:
    """Train a tokenizer and a small model on documents."""

    settings: Pretrain


@dataclass(frozen=True)
class Train:
    """Fine-tune `base` on examples."""

    base: Model
    settings: Sft


@dataclass(frozen=True)
class MeasureLoss:
    """Negative log-likelihood of the examples' targets under `model`."""

    model: Model
    max_tokens: int = 2048


Action = Read | Map | GatherAll | Concat | TrainBase | Train | MeasureLoss


@dataclass(frozen=True)
class Step:
    """One node of the plan: what to do, and the steps it needs first."""

    name: str
    action: Action
    record_type: type[Any]  # of the rows it makes; Example for steps that make a model or a measurement
    inputs: tuple[Step, ...] = ()

    @cached_property
    def id(self) -> str:
        content = [describe(self.action, identity=True), self.record_type.__name__, [step.id for step in self.inputs]]
        return f"{self.name}-{digest(content)[:12]}"

    @cached_property
    def needs(self) -> tuple[Step, ...]:
        """Inputs, and the training steps of every model the action uses."""
        models = [model.step for model in models_in(self.action) if model.step is not None]
        return tuple(dict.fromkeys((*self.inputs, *models)))

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and other.id == self.id


@dataclass(frozen=True)
class Model:
    """A language model: one that exists (`uri`, a folder, hub id or bucket) or one that a step will train.

    `fingerprint` tells two versions of the same folder apart.
    """

    uri: str = ""
    fingerprint: str = ""
    step: Step | None = None

    @property
    def id(self) -> str:
        return self.step.id if self.step else self.uri + (f"#{self.fingerprint}" if self.fingerprint else "")

    def train(self, data: Dataset[Example], name: str, settings: Sft = Sft()) -> Model:
        """A copy of this model fine-tuned on `data`."""
        _expect(data.step.record_type, Example, f"train({name!r})")
        return Model(step=Step(checked_name(name), Train(self, settings), Example, (data.step,)))


@dataclass(frozen=True)
class Dataset(Generic[R]):
    """A dataset that may not exist yet."""

    step: Step

    @overload
    def map(self, a: Stage[R, A], /, *, name: str = "") -> Dataset[A]: ...
    @overload
    def map(self, a: Stage[R, A], b: Stage[A, B], /, *, name: str = "") -> Dataset[B]: ...
    @overload
    def map(self, a: Stage[R, A], b: Stage[A, B], c: Stage[B, C], /, *, name: str = "") -> Dataset[C]: ...
    @overload
    def map(
        self, a: Stage[R, A], b: Stage[A, B], c: Stage[B, C], d: Stage[C, D], /, *, name: str = ""
    ) -> Dataset[D]: ...
    def map(self, *stages: Any, name: str = "") -> Dataset[Any]:
        """One sharded job, one stored dataset and at most one model, however many stages."""
        if not stages:
            raise RecipeError("map() needs at least one stage")
        record_type: Any = self.step.record_type
        for stage in stages:
            if not isinstance(stage, (Filter, Transform, Ask)):
                raise RecipeError(f"map() takes Filter, Transform and Ask stages, not {_name_of(stage)}")
            record_type = _follow(record_type, cast(Stage[Any, Any], stage))
        models = {model.id for model in models_in(stages)}
        if len(models) > 1:
            raise RecipeError(f"one map() may use one model, not {len(models)} ({', '.join(sorted(models))}): split it")
        name = checked_name(name or kebab(stages[-1]))
        return Dataset(Step(name, Map(stages), record_type, (self.step,)))

    def gather(self, stage: Gather[R], *, name: str = "") -> Dataset[R]:
        """One worker sees the whole dataset."""
        if not isinstance(cast(Any, stage), Gather):
            raise RecipeError(f"gather() takes a Gather stage, not {_name_of(stage)}")
        record_type = _follow(self.step.record_type, stage)
        return Dataset(Step(checked_name(name or kebab(stage)), GatherAll(stage), record_type, (self.step,)))

    def __add__(self, other: Dataset[R]) -> Dataset[R]:
        _expect(other.step.record_type, self.step.record_type, "+")
        return Dataset(Step("concat", Concat(), self.step.record_type, (self.step, other.step)))


@dataclass(frozen=True)
class Outcome:
    """What a recipe promises: a dataset, and where it has them, the model tuned on it and how that model is asked."""

    data: Dataset[Pair]
    model: Model | None = None
    ask: Transform[Pair, Example] | None = None  # puts a pair to the tuned model; used to evaluate it
    settings: Sft = field(default=Sft())


def read(source: Source, *, limit: int = 0, name: str = "read") -> Dataset[Any]:
    """Records from outside, such as the corpus or the seed."""
    return Dataset(Step(checked_name(name), Read(source, limit), source.record_type))


def train_base(corpus: Dataset[Any], settings: Pretrain, name: str = "base") -> Model:
    """A small model trained on the corpus itself."""
    return Model(step=Step(checked_name(name), TrainBase(settings), Example, (corpus.step,)))


def measure_loss(model: Model, data: Dataset[Example], name: str, max_tokens: int = 2048) -> Step:
    """A step that measures how likely `model` finds the targets of `data`."""
    return Step(checked_name(name), MeasureLoss(model, max_tokens), Example, (data.step,))


def walk(*targets: Step) -> Iterator[Step]:
    """Every step the targets need, and the targets, each once and after what it needs."""
    seen: set[str] = set()
    stack: list[tuple[Step, bool]] = [(step, False) for step in reversed(targets)]
    while stack:
        step, needs_done = stack.pop()
        if step.id in seen:
            continue
        if needs_done:
            seen.add(step.id)
            yield step
        else:
            stack.append((step, True))
            stack.extend((need, False) for need in reversed(step.needs))


def models_in(value: Any) -> Iterator[Model]:
    """Every Model inside a stage, an action or a tuple of them."""
    if isinstance(value, Model):
        yield value
    elif isinstance(value, tuple):
        for item in cast(tuple[Any, ...], value):
            yield from models_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, (type, Step)):
        for part in dataclasses.fields(value):
            yield from models_in(getattr(value, part.name))


def kebab(stage: object) -> str:
    """WriteInstruction -> write-instruction."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(stage).__name__).lower()


def checked_name(name: str) -> str:
    """Step names become folders, pods and pipeline tasks, so they keep to what all of these allow."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", name):
        raise RecipeError(f"step name {name!r}: use lower-case letters, digits and dashes, a letter first, at most 41")
    return name


def _follow(record_type: Any, stage: Stage[Any, Any]) -> Any:
    """The record type after the stage; RecipeError if it cannot take what comes in."""
    takes, gives = record_types(stage)
    if isinstance(takes, type):
        _expect(record_type, takes, type(stage).__name__)
    return gives if isinstance(gives, type) else record_type


def _expect(given: type[Any], wanted: type[Any], where: str) -> None:
    if not issubclass(given, wanted):
        raise RecipeError(f"{where} takes {wanted.__name__} records, but is given {given.__name__}")


def _name_of(value: object) -> str:
    return type(value).__name__
