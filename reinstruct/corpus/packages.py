"""Installed distributions and the standard library: where their sources lie and what their metadata says."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

STDLIB = "python-stdlib"
MAX_MODULE_BYTES = 1_000_000  # larger ones are tables
_OWN_NAME = "reinstruct"
_SKIPPED_FOLDERS = frozenset(
    ("test", "tests", "testing", "idle_test", "_vendor", "_vendored", "vendor", "vendored", "_bundled", "_distutils")
) | {"third_party", "site-packages", "dist-packages", "__pycache__", "bin", ".."}
_SKIPPED_FILES = re.compile(r"(test_.*|.*_test|conftest|.*_pb2|.*_pb2_grpc)\.py")


@dataclass(frozen=True)
class Package:
    """`modules` are (path below `root`, bytes), sorted. `name` may be narrower than `source`: python-stdlib.json."""

    name: str
    source: str
    version: str
    root: Path
    modules: tuple[tuple[str, int], ...]
    readme: str = ""
    licence: str = ""
    url: str = ""

    @property
    def is_stdlib(self) -> bool:
        return self.source == STDLIB


def packages() -> Iterator[Package]:
    """The standard library and every distribution, without this one and those installed in editable mode."""
    yield _standard_library(STDLIB)
    seen = {_OWN_NAME}
    for distribution in importlib.metadata.distributions():
        name = _normalised(distribution.name)
        if name not in seen and not _is_editable(distribution):
            seen.add(name)
            yield from_distribution(distribution)


@lru_cache(maxsize=256)
def find_package(name: str) -> Package | None:
    """The package of that name: a distribution, a module of the standard library, or `python-stdlib` for all of it."""
    try:
        return from_distribution(importlib.metadata.distribution(name))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pass
    module = name.removeprefix(f"{STDLIB}.")
    if name == STDLIB or module in sys.stdlib_module_names:
        return _standard_library(name if name == STDLIB else f"{STDLIB}.{module}")
    return None


def known_names() -> list[str]:
    """What `find_package` finds."""
    names = {_normalised(distribution.name) for distribution in importlib.metadata.distributions()}
    return sorted(names | sys.stdlib_module_names | {STDLIB})


def from_distribution(distribution: importlib.metadata.Distribution) -> Package:
    """A distribution by its metadata; without modules when it does not list its files, as an editable one does not."""
    metadata = distribution.metadata
    name = _normalised(distribution.name)
    root = Path(str(distribution.locate_file("")))
    listed = {file.as_posix(): file.size for file in distribution.files or ()}
    sized = ((path, _size(root / path) if size is None else size) for path, size in listed.items())
    return Package(
        name=name,
        source=name,
        version=distribution.version,
        root=root,
        modules=_documented(sized),
        readme=_field(metadata, "Description"),
        licence=_licence(metadata),
        url=_url(metadata),
    )


def _standard_library(name: str) -> Package:
    root = Path(sysconfig.get_path("stdlib"))
    only = name.removeprefix(STDLIB).removeprefix(".")
    return Package(
        name=name,
        source=STDLIB,
        version=platform.python_version(),
        root=root,
        modules=_documented(_walk(root, only)),
        licence="PSF-2.0",
        url="https://docs.python.org/3/",
    )


def _walk(root: Path, only: str) -> Iterator[tuple[str, int]]:
    if only and (root / f"{only}.py").is_file():
        yield f"{only}.py", _size(root / f"{only}.py")
        return
    for folder, folders, names in os.walk(root / only):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in names:
            path = Path(folder, name)
            if name.endswith(".py"):
                yield path.relative_to(root).as_posix(), _size(path)


def _documented(modules: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Sources that hold prose written for readers: no tests, no copies of other packages, no generated code."""
    return tuple(sorted((path, size) for path, size in modules if _is_source(path) and size <= MAX_MODULE_BYTES))


def _is_source(path: str) -> bool:
    *folders, name = path.split("/")
    is_test = bool(_SKIPPED_FILES.fullmatch(name))
    return name.endswith(".py") and not is_test and _SKIPPED_FOLDERS.isdisjoint(folders)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else MAX_MODULE_BYTES + 1


def _normalised(name: str) -> str:
    """The name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    direct_url = distribution.read_text("direct_url.json")
    return bool(direct_url) and bool(json.loads(direct_url or "{}").get("dir_info", {}).get("editable"))


def _field(metadata: importlib.metadata.PackageMetadata, name: str) -> str:
    return next(iter(metadata.get_all(name) or []), "")


def _licence(metadata: importlib.metadata.PackageMetadata) -> str:
    """The licence's short name. The field `License` may hold a whole text, and then the classifier says it better."""
    given = _field(metadata, "License-Expression") or _field(metadata, "License")
    if given and given != "UNKNOWN" and len(given) <= 80 and "\n" not in given:
        return given
    classifiers = metadata.get_all("Classifier") or []
    return next((line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")), "")


def _url(metadata: importlib.metadata.PackageMetadata) -> str:
    urls = [line.partition(",")[2].strip() for line in metadata.get_all("Project-URL") or []]
    return _field(metadata, "Home-page") or next(iter(urls), "")
