"""What recipes say to models, in other languages than their own: a file RECIPE.LANGUAGE.toml for each.

The one rule: a file is what a run file's [settings.prompts] may be, so a copy of one is where another language begins.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from reinstruct.errors import RecipeError, expect
from reinstruct.settings import settings_from
from reinstruct.stages.instruct import Template
from reinstruct.stages.verdict import Choice, Rating
from reinstruct.suggest import suggestion

W = TypeVar("W", bound="Wording")
FILES = Path(__file__).parent
_SHOWN = 60  # characters of a wrong prompt that are told


@dataclass(frozen=True)
class Wording:
    """Base of the prompts of a recipe. Each prompt has the placeholders of its default, every one at least once."""

    def __post_init__(self) -> None:
        for part in fields(self):
            if isinstance(part.default, Template):
                self._check(part.name, part.default.placeholders)

    def _check(self, name: str, wanted: frozenset[str]) -> None:
        accepted = f"{_braced(wanted)}, each at least once; any other brace is written twice"
        try:
            given = getattr(self, name).placeholders
        except ValueError as error:
            raise RecipeError(f"prompts.{name} has a brace alone ({error}); accepted: {accepted}") from error
        if unknown := sorted(given - wanted):
            raise RecipeError(f"prompts.{name} has {_braced(unknown)}{_near(unknown[0], wanted)}; accepted: {accepted}")
        if missing := wanted - given:
            raise RecipeError(f"prompts.{name} has no {_braced(missing)}; accepted: {accepted}")

    def expect_marks(self, name: str, *marks: str) -> None:
        """RecipeError unless the prompt `name` tells the model of the marks its reply is read by."""
        text: str = getattr(self, name).text
        missing = [mark for mark in marks if mark not in text]
        expect(
            not missing, f"prompts.{name}", _short(text), f"a text that holds {' and '.join(marks)}, as replies must"
        )

    def expect_read(self, verdict: Rating | Choice, asked: str, *lessons: str) -> None:
        """RecipeError unless what is `asked` for, and taught by the `lessons`, is what `verdict` reads."""
        text: str = getattr(self, asked).text
        expect(verdict.is_asked_in(text), f"prompts.{asked}", _short(text), f"a text that asks for {verdict.told}")
        for name in lessons:
            lesson: str = getattr(self, name)
            unread = not isinstance(verdict.value_in(lesson), float)
            expect(not unread, f"prompts.{name}", lesson, f"a judgement that ends in {verdict.told}")


def worded(kind: type[W], *files: str) -> W:
    """The prompts of a recipe with the words of FILE.toml in this folder; a later file goes before an earlier."""
    table: dict[str, Any] = {}
    for name in files:
        table |= tomllib.loads((FILES / f"{name}.toml").read_text(encoding="utf-8"))
    return settings_from({"prompts": table}, {"prompts": (kind, kind())})["prompts"]


def _braced(names: frozenset[str] | list[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _near(name: str, wanted: frozenset[str]) -> str:
    return suggestion(f"{{{name}}}", [f"{{{each}}}" for each in wanted])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
