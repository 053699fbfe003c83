"""Run time: the records of a source, lazily, in file order, in constant memory.

The one rule: a bad row is handed on as Rejected and the rest is read; CorpusError is for a file that is not what
its name says, that has gone or changed since the plan, or whose columns are not the wanted ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from reinstruct.corpus import jsonl, parquet, pydoc, text
from reinstruct.corpus.files import blocks, opened
from reinstruct.corpus.rows import to_records
from reinstruct.corpus.source import Source, SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Record, Rejected


def read_batches(source: Source, file: SourceFile, *, rows: int = 1024) -> Iterator[list[Record | Rejected]]:
    """Records of one file in order, bad rows as Rejected in their place, in lists of `rows` (the last is shorter)."""
    records = _records(source, file, rows)
    while batch := list(islice(records, rows)):
        yield batch


def first_records(source: Source, n: int) -> list[Record]:
    """Up to `n` good records from the start of the source: a check before anything is spent.

    Raises CorpusError when there is not one, with the reason the first row was rejected for.
    """
    good: list[Record] = []
    first_bad: Rejected | None = None
    for file in source.files:
        for record in _records(source, file, n):
            if not isinstance(record, Rejected):
                good.append(record)
            elif first_bad is None:
                first_bad = record
            if len(good) >= n:
                return good
    if not good:
        place = f"{first_bad.reason} ({first_bad.id}, {first_bad.detail})" if first_bad else ""
        cause = f"; the first row was rejected: {place}" if place else ""
        raise CorpusError(f"no records in {source.uri}{_names(source)}{cause}")
    return good


def _records(source: Source, file: SourceFile, rows: int) -> Iterator[Record | Rejected]:
    if source.kind == "jsonl":
        yield from to_records(jsonl.read_rows(blocks(source, file), source.uri + file.name), source, file)
    elif source.kind == "parquet":
        with opened(source, file) as stream:
            yield from to_records(parquet.read_rows(stream, source, file, rows=rows), source, file)
    elif source.kind == "text":
        yield from text.read_document(blocks(source, file), file)
    elif source.kind == "pydoc":
        yield from pydoc.read_documents(file)
    else:
        raise CorpusError(f"{source.uri} is of an unknown kind {source.kind!r}; known are jsonl, parquet, text, pydoc")


def _names(source: Source) -> str:
    return source.files[0].name if len(source.files) == 1 else f" ({len(source.files)} files)"
