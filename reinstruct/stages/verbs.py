"""Which words are verbs: a value that names a verb list, and the list itself, loaded when it is first needed.

The one rule: the value holds what the list is, as the SHA-256 of its bytes, so that another list makes another step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, cast

from reinstruct.corpus.files import content_at
from reinstruct.errors import RecipeError

Row = tuple[str, ...]
PACKAGED = "verbs.json"  # beside this file; build_verbs.py makes it


@dataclass(frozen=True)
class VerbList:
    """English verbs and their forms: a JSON file, by default the one this package ships.

    Make one of a file with `VerbList.read(uri)`; `sha256` is that of the file's bytes.
    """

    uri: str = field(default="", metadata={"where": True})
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.uri and not self.sha256:
            raise RecipeError(f"verb list {self.uri}: no sha256 given; make it with VerbList.read(uri)")
        if not self.sha256:
            object.__setattr__(self, "sha256", _packaged()[1])

    @classmethod
    def read(cls, uri: str) -> VerbList:
        """The list in a JSON file: rows of texts, base form first and -ing form last. RecipeError if it is not one."""
        content = content_at(uri, "verb list")
        _parse(uri, content)
        return cls(uri, hashlib.sha256(content).hexdigest())

    def rows(self) -> tuple[Row, ...]:
        """(base, third person, past, participle, -ing), at least first and last. RecipeError if the list changed."""
        return _rows(self.uri, self.sha256)

    def bases(self) -> frozenset[str]:
        return frozenset(row[0] for row in self.rows())

    def ing_forms(self) -> frozenset[str]:
        return frozenset(row[-1] for row in self.rows())


@cache
def _rows(uri: str, sha256: str) -> tuple[Row, ...]:
    content = content_at(uri, "verb list") if uri else _packaged()[0]
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        name = f"verb list {uri}" if uri else "the packaged verb list"
        raise RecipeError(f"{name} has changed since the plan was made: sha256 {found}, not {sha256}")
    return _parse(uri or PACKAGED, content)


@cache
def _packaged() -> tuple[bytes, str]:
    """The list this package ships, and its hash."""
    content = (files("reinstruct.stages") / PACKAGED).read_bytes()
    return content, hashlib.sha256(content).hexdigest()


def _parse(uri: str, content: bytes) -> tuple[Row, ...]:
    accepted = "a JSON list of rows [base, third person, past, participle, -ing], all texts, the base form not empty"
    try:
        rows: Any = json.loads(content)
    except ValueError as error:
        raise RecipeError(f"verb list {uri} is not JSON ({error}); accepted: {accepted}") from error
    if not isinstance(rows, list) or not rows:
        raise RecipeError(f"verb list {uri} holds no rows; accepted: {accepted}")
    for number, row in enumerate(cast(list[Any], rows)):
        if not _is_row(row):
            raise RecipeError(f"verb list {uri}, row {number}: {json.dumps(row)[:80]}; accepted: {accepted}")
    return tuple(tuple(row) for row in cast(list[list[str]], rows))


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(cast(list[Any], row)) < 2:
        return False
    cells = cast(list[Any], row)
    return all(isinstance(cell, str) for cell in cells) and cells[0] != ""
