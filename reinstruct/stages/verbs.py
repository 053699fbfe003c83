"""Which words are verbs: a value that names a verb list, and the list itself, loaded when it is first needed.

The one rule: the value holds what the list is (a SHA-256, or the library and version it is built from), so that
another list makes another step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from reinstruct.errors import RecipeError

Row = tuple[str, ...]


@dataclass(frozen=True)
class VerbList:
    """English verbs and their forms: a JSON file, or by default the inflection tables of `lemminflect`.

    Make one of a file with `VerbList.read(uri)`; `sha256` is that of the file's bytes.
    """

    uri: str = field(default="", metadata={"where": True})
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.uri and not self.sha256:
            raise RecipeError(f"verb list {self.uri}: no sha256 given; make it with VerbList.read(uri)")
        if not self.sha256:
            object.__setattr__(self, "sha256", _installed())

    @classmethod
    def read(cls, uri: str) -> VerbList:
        """The list in a JSON file: rows of texts, base form first and -ing form last. RecipeError if it is not one."""
        content = _bytes(uri)
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
    if not uri:
        return _default_rows(sha256)
    content = _bytes(uri)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RecipeError(f"verb list {uri} has changed since the plan was made: sha256 {found}, not {sha256}")
    return _parse(uri, content)


def _default_rows(wanted: str) -> tuple[Row, ...]:
    """One row per verb and spelling of its -ing form. Modals (a past but no -ing form) open no advice: left out."""
    if wanted != _installed():
        raise RecipeError(f"the plan uses the verbs of {wanted}, but {_installed()} is installed")
    from lemminflect import config
    from lemminflect.codecs.InflectionLUCodec import InflectionLUCodec

    words: dict[str, dict[str, tuple[str, ...]]] = InflectionLUCodec.load(config.inflection_lu_fn)
    rows: list[Row] = []
    for word, forms in sorted(words.items()):
        if "VB" not in forms or ("VBD" in forms and "VBG" not in forms):
            continue
        third, past, participle = (forms.get(tag, ("",))[0] for tag in ("VBZ", "VBD", "VBN"))
        rows.extend((word, third, past, participle or past, ing) for ing in forms.get("VBG", ("",)))
    return tuple(rows)


def _installed() -> str:
    return f"lemminflect-{version('lemminflect')}"


def _bytes(uri: str) -> bytes:
    try:
        if "://" not in uri:
            return Path(uri).read_bytes()
        import fsspec

        with cast(Any, fsspec.open(uri, "rb")) as file:
            return file.read()
    except (OSError, ImportError, ValueError) as error:  # ValueError: fsspec knows no such protocol
        raise RecipeError(f"verb list {uri} cannot be read: {error}") from error


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
