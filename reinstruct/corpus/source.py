"""Where records come from, as a value of the plan: what to read, fingerprinted, and how its columns are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class SourceFile:
    """One file (or one installed package) of a source.

    `size` in bytes; `generation` changes whenever the content does (object generation, or a hash of a local file).
    `mark` is KEY=VALUE of what its file system said of this version when it was planned, to see at a glance whether it
    is still the one. A copy has another, so it is no part of what the file is.
    """

    name: str
    size: int
    generation: str
    mark: str = field(default="", compare=False, metadata={"where": True})


@dataclass(frozen=True)
class Source:
    """What to read. `uri` says where (the root folder, or pydoc:) and stays out of identities; `files` says what, in
    the order it is read.

    `columns` renames columns of the files to fields of the record: (field, column) pairs. `passed_over` tells people of
    files that lie there and are not read.
    """

    uri: str = field(metadata={"where": True})
    kind: str  # one of reinstruct.corpus.kinds.SUFFIXES, lines or pydoc
    record_type: type[Any]
    files: tuple[SourceFile, ...]
    columns: tuple[tuple[str, str], ...] = ()
    passed_over: str = field(default="", metadata={"where": True})


class Range(NamedTuple):
    """A piece of a file, from `start` up to `stop` (0: to the end): bytes, or row groups of a Parquet file.

    A record belongs to the range that holds its first byte, so ranges that follow each other give each record once.
    """

    start: int = 0
    stop: int = 0


WHOLE = Range()
