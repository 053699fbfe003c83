"""The four kinds of stage. A stage is a frozen dataclass: its fields are its settings.

Filter     columns in, the reason to reject a row or null out     vectorised, no Python per record
Transform  one record in, record(s) or Drop out, no model         runs sharded
Ask        one question to one model per record                   runs sharded, against one model
Gather     the whole dataset in, a verdict on each row out        runs in one worker

Raise `version` when the code of a stage changes what it does: it is part of every step's identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

from reinstruct.errors import expect
from reinstruct.llm import Prompt, Reply, Sampling
from reinstruct.records import Drop

if TYPE_CHECKING:
    import polars as pl

    from reinstruct.plan import Model
    from reinstruct.rows import Rows

In = TypeVar("In")
Out = TypeVar("Out")
R = TypeVar("R")


@dataclass(frozen=True)
class Stage(ABC, Generic[In, Out]):
    """Base of the four kinds; subclass one of those. One without all its functions is refused when it is made."""

    version: ClassVar[int] = 1


@dataclass(frozen=True)
class Filter(Stage[R, R]):
    """Keep or reject each row by its columns."""

    @abstractmethod
    def reason(self) -> pl.Expr:
        """A string column: null keeps the row, anything else is the name of the reason. Where there is more to say, a
        struct of two string columns, `reason` and `detail`.
        """


@dataclass(frozen=True)
class Transform(Stage[In, Out]):
    """Pure function of one record. `expands` says that one record may become several."""

    expands: ClassVar[bool] = False

    @abstractmethod
    def apply(self, record: In) -> Out | list[Out] | Drop: ...


@dataclass(frozen=True)
class Ask(Stage[In, Out]):
    """Ask `model` about each record. Authors write two pure functions; the worker does the asking.

    `max_unreadable` is the largest share of replies of a shard that may be marked unreadable before the shard fails.
    """

    expands: ClassVar[bool] = False
    model: Model
    sampling: Sampling = field(default=Sampling(), kw_only=True)
    max_unreadable: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        expect(0 <= self.max_unreadable <= 1, "max_unreadable", self.max_unreadable, "a share from 0 to 1")

    @abstractmethod
    def prompt(self, record: In) -> Prompt: ...

    @abstractmethod
    def parse(self, record: In, reply: Reply) -> Out | list[Out] | Drop:
        """The new record(s), or why the reply is unusable. Never raises."""


@dataclass(frozen=True)
class Gather(Stage[R, R]):
    """Judge each record with all others in view: deduplicate, sample, rank, prune.

    The dataset may be larger than memory, so a stage reads the columns it needs, as often as it needs them, and says
    of each row in turn whether it stays. The worker then copies the rows that do.
    """

    @abstractmethod
    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        """A row for each row, in order and in pieces of any length: a string column `reason` (null keeps the row)
        and, where there is more to say, a string column `detail`.
        """


MapStage = Filter[Any] | Transform[Any, Any] | Ask[Any, Any]


def record_types(stage: Stage[Any, Any]) -> tuple[Any, Any]:
    """The (In, Out) the stage's class was written for; a TypeVar where it takes any record."""
    bindings: dict[Any, Any] = {}
    for cls in reversed(type(stage).__mro__):
        for base in getattr(cls, "__orig_bases__", ()):
            origin, args = get_origin(base), get_args(base)
            if origin is None or not args:
                continue
            parameters = getattr(origin, "__parameters__", ())
            bindings.update(zip(parameters, args, strict=False))
    record_in, record_out = In, Out
    if isinstance(stage, (Filter, Gather)):
        record_in = record_out = R
    return _resolve(record_in, bindings), _resolve(record_out, bindings)


def _resolve(parameter: Any, bindings: dict[Any, Any]) -> Any:
    seen: set[Any] = set()
    while isinstance(parameter, TypeVar) and parameter in bindings and parameter not in seen:
        seen.add(parameter)
        parameter = bindings[parameter]
    return parameter
