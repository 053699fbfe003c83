"""One file per method; a recipe is the function named like its file. Nothing here to edit when adding one.

A recipe's signature is its configuration: `Dataset[...]` and `Model` parameters are inputs (optional where the default
is None), keyword-only parameters are settings; of a `Preparation` each field is one. It returns an `Outcome`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_args, get_origin, get_type_hints

from reinstruct.errors import RecipeError
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.records import without_none
from reinstruct.suggest import suggestion


@dataclass(frozen=True)
class Input:
    """A dataset or model a recipe takes. `record_type` is None for a model."""

    name: str
    record_type: type[Any] | None
    required: bool


@dataclass(frozen=True)
class Setting:
    """A keyword-only parameter of a recipe, or a field of its parameter `part_of`."""

    name: str
    type: Any
    default: Any
    part_of: str = ""


@dataclass(frozen=True)
class Recipe:
    """A method: the function that plans it, and what its signature asks for."""

    name: str
    plan: Callable[..., Outcome]
    inputs: tuple[Input, ...]
    settings: tuple[Setting, ...]

    @property
    def summary(self) -> str:
        """First line of the file's docstring: the method and its paper."""
        return (inspect.getmodule(self.plan).__doc__ or "").strip().split("\n")[0]

    def arguments(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings given as keyword arguments of `plan`. RecipeError for a wrong Preparation."""
        from reinstruct.preparation import Preparation

        place = {setting.name: setting.part_of for setting in self.settings}
        plain = {name: value for name, value in settings.items() if not place[name]}
        parts = {part: {n: v for n, v in settings.items() if place[n] == part} for part in place.values() if part}
        return {**plain, **{part: Preparation(**given) for part, given in parts.items()}}


def names() -> list[str]:
    """Every recipe there is."""
    return sorted(module.name for module in iter_modules(__path__))


def find(name: str) -> Recipe:
    """The recipe called `name`. RecipeError with the nearest names if there is none."""
    wanted = name.replace("-", "_")
    if wanted not in names():
        raise RecipeError(f"no recipe {name!r}{suggestion(wanted, names())}; there are: {', '.join(names())}")
    return of_function(getattr(import_module(f"{__name__}.{wanted}"), wanted))


def of_function(plan: Callable[..., Outcome]) -> Recipe:
    """A recipe from its function alone."""
    from reinstruct.preparation import Preparation  # loads Polars, which `status` does without

    hints = get_type_hints(plan)
    inputs: list[Input] = []
    settings: list[Setting] = []
    for parameter in inspect.signature(plan).parameters.values():
        hint, required = without_none(hints[parameter.name]), parameter.default is inspect.Parameter.empty
        if hint is Model:
            inputs.append(Input(parameter.name, None, required))
        elif get_origin(hint) is Dataset:
            inputs.append(Input(parameter.name, get_args(hint)[0], required))
        elif hint is Preparation:
            types, name = get_type_hints(hint), parameter.name
            settings += [Setting(part.name, types[part.name], part.default, name) for part in fields(hint)]
        else:
            settings.append(Setting(parameter.name, hint, parameter.default))
    return Recipe(plan.__name__, plan, tuple(inputs), tuple(settings))
