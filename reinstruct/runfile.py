"""What a user asks for, from flags and run files. The rule: a flag beats the run file, and nothing unknown passes.

A run file is TOML: `recipe`, `out`, `limit`, `held_out` at the top, then [inputs], [settings] and [columns.INPUT].
Paths are relative to where the command runs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct

from reinstruct import recipes
from reinstruct.errors import RecipeError
from reinstruct.planning import Ask
from reinstruct.suggest import suggestion

COLUMNS = "_columns"


class RunFile(Struct, forbid_unknown_fields=True):
    """A run file's tables."""

    recipe: str
    out: str = ""
    limit: int = 0
    held_out: float | str = 0.1
    inputs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    columns: dict[str, dict[str, str]] = {}


@dataclass(frozen=True)
class Wanted:
    """The recipe to plan and where to put it."""

    ask: Ask
    out: str
    given: tuple[str, ...] = field(default=())


def read_run_file(path: str) -> RunFile:
    """A run file. RecipeError naming what is wrong in it."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        _expect_known(path, content)
        return msgspec.convert(content, RunFile)
    except OSError as error:
        raise RecipeError(f"cannot read the run file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RecipeError(f"the run file {path} is wrong: {error}") from error


def wanted(name: str, flags: Sequence[str], *, out: str, limit: int | None, held_out: str | None) -> Wanted:
    """What is asked for: `name` is a recipe or a run file, `flags` its inputs and settings as --name value."""
    run_file = read_run_file(name) if name.endswith(".toml") else RunFile(recipe=name)
    recipe = recipes.find(run_file.recipe)
    inputs, settings, columns = dict(run_file.inputs), dict(run_file.settings), dict(run_file.columns)
    for flag, value in _pairs(recipe, flags):
        if flag in {i.name for i in recipe.inputs}:
            inputs[flag] = value
        elif flag.removesuffix(COLUMNS) in {i.name for i in recipe.inputs}:
            columns[flag.removesuffix(COLUMNS)] = _mapping(flag, value)
        else:
            settings[flag] = value
    share, test = _measured_on(run_file.held_out if held_out is None else held_out)
    ask = Ask(
        recipe=recipe.name,
        inputs=inputs,
        settings=settings,
        columns=columns,
        limit=run_file.limit if limit is None else limit,
        held_out=share,
        test=test,
    )
    return Wanted(ask, out or run_file.out or f"runs/{recipe.name}")


def _measured_on(held_out: float | str) -> tuple[float, str]:
    """The share of the seed that is held out, and the file of pairs that is given in its place."""
    try:
        return float(held_out), ""
    except ValueError:
        return 0.0, str(held_out)


def _pairs(recipe: recipes.Recipe, flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, value) of --name value, --name=value, and --name alone for a yes-or-no setting."""
    settings = {s.name: s.type for s in recipe.settings}
    known = [*settings, *(i.name for i in recipe.inputs)]
    left = list(flags)
    while left:
        flag = left.pop(0)
        if not flag.startswith("--"):
            raise RecipeError(f"{flag!r} is neither a flag nor the value of one; settings are given as --name value")
        name, has_value, value = flag[2:].partition("=")
        name = name.replace("-", "_")
        if name.split(".")[0].removesuffix(COLUMNS) not in known:
            near = suggestion(f"--{name}", [f"--{each}" for each in known]).replace("_", "-")
            shown = f"--{name.replace('_', '-')}"
            raise RecipeError(f"{recipe.name} takes no {shown}{near}; `reinstruct recipes {recipe.name}` lists all")
        if not has_value:
            if left and not left[0].startswith("--"):
                value = left.pop(0)
            elif settings.get(name) is bool:
                value = "true"
            else:
                raise RecipeError(f"--{name} needs a value")
        yield name, value


def _mapping(flag: str, text: str) -> dict[str, str]:
    pairs = [piece.partition("=") for piece in text.split(",")]
    if any(not (name and sign and column) for name, sign, column in pairs):
        raise RecipeError(f"--{flag.replace('_', '-')} is {text!r}; accepted: field=column, separated by commas")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _expect_known(path: str, content: dict[str, Any]) -> None:
    known = RunFile.__struct_fields__
    for name in cast(Sequence[str], list(content)):
        if name not in known:
            near = suggestion(name, known)
            raise RecipeError(f"the run file {path} has an unknown entry {name!r}{near}; accepted: {', '.join(known)}")
