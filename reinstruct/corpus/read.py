"""Run time: the records of a source, lazily, in file order, in constant memory.

The one rule: a bad row is handed on as Rejected and the rest is read; CorpusError is for a file that is not what
its name says, that has gone or changed since the plan, or whose columns are not the wanted ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice

from reinstruct.corpus import delimited, jsonl, parquet, pydoc, text, warc
from reinstruct.corpus.fields import columns_of
from reinstruct.corpus.files import blocks, opened
from reinstruct.corpus.lines import first_byte, line_blocks
from reinstruct.corpus.rows import Batch, Block, batched, to_batches
from reinstruct.corpus.source import WHOLE, Range, Source, SourceFile
from reinstruct.corpus.streams import Again, decompressed
from reinstruct.corpus.typed import DocumentLines
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Record, Rejected


def read_range(
    source: Source, file: SourceFile, within: Range = WHOLE, data: Iterable[bytes] | None = None
) -> Iterator[Batch]:
    """The records that begin in a range of one file, in order, bad rows as Rejected in their place.

    `data` stands in for the file's bytes (from the range on), where only the beginning of a packed file is wanted.
    """
    if data is not None and source.kind not in _BYTE_ROADS:
        raise ValueError(f"files of kind {source.kind} are not read from bytes alone")
    if source.kind == "text":
        yield Batch(records=list(text.read_document(blocks(source, file), file)))
    elif source.kind == "pydoc":
        records = pydoc.read_documents(file)
        while some := list(islice(records, _RECORDS)):
            yield Batch(records=some)
    elif source.kind in _BYTE_ROADS:
        given = Again(partial(blocks, source, file, first_byte(within))) if data is None else data
        yield from to_batches(_BYTE_ROADS[source.kind](source, file, within, given), source, file, within)
    elif source.kind in _FILE_ROADS:
        yield from to_batches(_FILE_ROADS[source.kind](source, file, within), source, file, within)
    else:
        known = ", ".join((*_BYTE_ROADS, *_FILE_ROADS, "text", "pydoc"))
        raise CorpusError(f"{source.uri} is of an unknown kind {source.kind!r}; known are {known}")


def read_batches(source: Source, file: SourceFile, *, rows: int = 1024) -> Iterator[list[Record | Rejected]]:
    """Records of one file in order, bad rows as Rejected in their place, in lists of `rows` (the last is shorter)."""
    records = _records(source, file)
    while batch := list(islice(records, rows)):
        yield batch


def first_records(source: Source, n: int) -> list[Record]:
    """Up to `n` good records from the start of the source: a check before anything is spent.

    Raises CorpusError when there is not one, with the reason the first row was rejected for.
    """
    good: list[Record] = []
    first_bad: Rejected | None = None
    for file in source.files:
        for record in _records(source, file):
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


_RECORDS = 256


def _records(source: Source, file: SourceFile) -> Iterator[Record | Rejected]:
    return chain.from_iterable(batch.flat(source.record_type) for batch in read_range(source, file))


def _json_lines(source: Source, file: SourceFile, within: Range, data: Iterable[bytes]) -> Iterator[Block]:
    columns = columns_of(source.record_type, dict(source.columns))
    documents = DocumentLines(columns) if source.record_type is Document else None
    return jsonl.read_blocks(data, source.uri + file.name, documents, within)


def _parquet(source: Source, file: SourceFile, within: Range) -> Iterator[Block]:
    with opened(source, file) as stream:
        yield from parquet.parquet_blocks(stream, source, file, within)


def _arrow(source: Source, file: SourceFile, within: Range) -> Iterator[Block]:
    with opened(source, file) as stream:
        yield from parquet.arrow_blocks(stream, source, file)


def _delimited(source: Source, file: SourceFile, within: Range, data: Iterable[bytes]) -> Iterator[Block]:
    name = source.uri + file.name
    header = delimited.first_line(blocks(source, file), name) if within.start else None
    return delimited.read_blocks(data, name, header, within)


def _archive(source: Source, file: SourceFile, within: Range) -> Iterator[Block]:
    return warc.read_blocks(partial(blocks, source, file), file, within)


def _lines(source: Source, file: SourceFile, within: Range, data: Iterable[bytes]) -> Iterator[Block]:
    chunks = decompressed(data, source.uri + file.name)
    rows = (text.line_row(*line) for block in line_blocks(chunks, within) for line in block.split())
    return batched(row for row in rows if row is not None)


_BYTE_ROADS: dict[str, Callable[[Source, SourceFile, Range, Iterable[bytes]], Iterator[Block]]] = {
    "jsonl": _json_lines,
    "csv": _delimited,
    "lines": _lines,
}
_FILE_ROADS: dict[str, Callable[[Source, SourceFile, Range], Iterator[Block]]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "warc": _archive,
}


def _names(source: Source) -> str:
    return source.files[0].name if len(source.files) == 1 else f" ({len(source.files)} files)"
