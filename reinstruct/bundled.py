"""Base models that come with the package, named `bundled:NAME`: a run can start from one offline, anywhere.

The rule: a name stands for the content of its files. A package with another model under the same name is refused where
a run was planned with this one.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from reinstruct.errors import RecipeError
from reinstruct.suggest import suggestion

BUNDLED = "bundled:"
FOLDER = Path(__file__).parent / "bundled_models"
TOLD = ("README.md", "metrics.json", "log.jsonl")  # files about a model, not of it


def bundled_names(folder: Path = FOLDER) -> list[str]:
    """What can be named, such as bundled:mini."""
    return [BUNDLED + path.parent.name for path in sorted(folder.glob("*/config.json"))]


def bundled_folder(uri: str, folder: Path = FOLDER) -> Path:
    """Where a bundled model's files are. RecipeError names those there are."""
    names = bundled_names(folder)
    if uri not in names:
        known = ", ".join(names) or "none in this installation"
        raise RecipeError(f"no bundled model {uri!r}{suggestion(uri, names)}; accepted: {known}, a folder or a hub id")
    return folder / uri.removeprefix(BUNDLED)


def bundled_fingerprint(uri: str, folder: Path = FOLDER) -> str:
    """Of all files that make the model, by their content. RecipeError as for `bundled_folder`."""
    return _content(bundled_folder(uri, folder))


def planned_folder(uri: str, fingerprint: str, folder: Path = FOLDER) -> Path:
    """`bundled_folder` of the model a run was planned with; RecipeError if this package has another by that name."""
    here = bundled_fingerprint(uri, folder)
    if fingerprint != here:
        raise RecipeError(f"the run was planned with {uri} of content {fingerprint}; this installation's is {here}")
    return bundled_folder(uri, folder)


@cache
def _content(folder: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name not in TOLD):
        content.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:12]
