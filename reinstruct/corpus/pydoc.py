"""Documentation of installed Python packages: docstrings and READMEs, real prose that every machine has.

The one rule: nothing is imported. Sources are parsed, READMEs come from the packages' metadata.

A package is cut into parts of consecutive source files, and the parts of all packages are taken in turn: the first
part of each, the standard library ahead and the rest in an order that a hash decides, then the second of each. So the
first thousand documents come from everywhere and not from the packages that begin with a, and no shard is torch.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from reinstruct.corpus.docstrings import docstrings, is_generated, sections
from reinstruct.corpus.packages import Package, find_package, known_names, packages
from reinstruct.corpus.rows import Row, rejected
from reinstruct.corpus.source import SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop, Rejected

PART_BYTES = 256 << 10  # of Python source; gives a few dozen documents
MIN_CHARS = 200


def list_packages(names: Iterable[str] = ()) -> tuple[SourceFile, ...]:
    """The parts of the named packages, or of all installed ones if none is named, taken in turn.

    Names are of distributions or of modules of the standard library.
    Raises CorpusError for a package that is not installed or holds no Python sources.
    """
    return list_parts([_named(name) for name in names] or packages())


def list_parts(chosen: Iterable[Package]) -> tuple[SourceFile, ...]:
    """One SourceFile for each part, called `package/part`; its generation is the package's version."""
    parts = [(number, package, size) for package in chosen for number, size in _part_sizes(package)]
    parts.sort(key=lambda part: (part[0], not part[1].is_stdlib, hashlib.sha256(part[1].name.encode()).digest()))
    return tuple(SourceFile(f"{package.name}/{number}", size, package.version) for number, package, size in parts)


def read_documents(file: SourceFile) -> Iterator[Document | Rejected]:
    """Documents of one part. CorpusError when the package is not the one the plan was made with."""
    name, _, number = file.name.rpartition("/")
    package = find_package(name)
    if package is None or package.version != file.generation:
        found = f"{package.version} is" if package else "it is not"
        raise CorpusError(f"the plan was made with {name} {file.generation}, but {found} installed here")
    yield from read_part(package, int(number))


def read_part(package: Package, number: int) -> Iterator[Document | Rejected]:
    """The README's sections (in part 1), then docstrings of 200 characters and more, file by file."""
    if number == 1:
        yield from _readme(package)
    for path, _ in _parts(package)[number - 1]:
        yield from _module(package, path)


def _named(name: str) -> Package:
    package = find_package(name)
    if package is None:
        close = difflib.get_close_matches(name, known_names(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "give the name that pip lists"
        raise CorpusError(f"pydoc: no package or standard module {name!r} is installed; {hint}")
    if not package.modules and not package.readme:
        raise CorpusError(f"pydoc: {name} is installed without Python sources that can be read")
    return package


def _parts(package: Package) -> list[list[tuple[str, int]]]:
    """The package's source files in order, cut where a part is full; always one part at least."""
    parts: list[list[tuple[str, int]]] = [[]]
    room = PART_BYTES
    for module in package.modules:
        if room <= 0:
            parts.append([])
            room = PART_BYTES
        parts[-1].append(module)
        room -= module[1]
    return parts


def _part_sizes(package: Package) -> list[tuple[int, int]]:
    if not package.modules and not package.readme:
        return []
    return [(number, sum(size for _, size in part)) for number, part in enumerate(_parts(package), start=1)]


def _readme(package: Package) -> Iterator[Document]:
    for number, section in enumerate(sections(package.readme), start=1):
        yield _document(package, f"README:{number}", section)


def _module(package: Package, path: str) -> Iterator[Document | Rejected]:
    try:
        source = (package.root / path).read_bytes()
    except OSError as error:
        yield _turned_away(package, path, b"", Drop("not_readable", str(error)))
        return
    if is_generated(source):
        return
    module = re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")
    found = docstrings(source)
    if isinstance(found, Drop):
        yield _turned_away(package, path, source, found)
        return
    seen: Counter[str] = Counter()
    for name, text in found:
        if len(text) < MIN_CHARS:
            continue
        seen[name] += 1
        again = f"#{seen[name]}" if seen[name] > 1 else ""  # a property's setter, the branches of an if
        yield _document(package, f"{module}:{name}{again}", text)


def _turned_away(package: Package, path: str, source: bytes, drop: Drop) -> Rejected:
    return rejected(f"{package.source}:{path}", Row(0, source, drop), drop)


def _document(package: Package, name: str, text: str) -> Document:
    document_id = f"pydoc:{package.source}:{name}"
    return Document(id=document_id, text=text, url=package.url, source=package.source, licence=package.licence)
