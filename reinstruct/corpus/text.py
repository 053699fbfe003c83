"""Text and Markdown files: one document each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reinstruct.corpus.fields import content_id
from reinstruct.corpus.rows import Row, rejected
from reinstruct.corpus.source import SourceFile
from reinstruct.records import Document, Drop, Rejected

MAX_BYTES = 256 << 20  # no document is this long: it is a log or a dump


def read_document(blocks: Iterable[bytes], file: SourceFile) -> Iterator[Document | Rejected]:
    """The file as one document whose source is its relative path, or as one Rejected. Line ends become newlines."""
    if file.size > MAX_BYTES:
        yield _turned_away(file, b"", Drop("too_large", f"{file.size:,} bytes, at most {MAX_BYTES:,}"))
        return
    raw = b"".join(blocks)
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        yield _turned_away(file, raw, Drop("bad_utf8", f"{raw[error.start]:#04x}: {error.reason}"), error.start)
        return
    if not text.strip():
        yield _turned_away(file, raw, Drop("empty_text"))
        return
    yield Document(id=content_id(text), text=text, source=file.name)


def _turned_away(file: SourceFile, raw: bytes, drop: Drop, offset: int = 0) -> Rejected:
    line = raw.count(b"\n", 0, offset) + 1
    return rejected(file.name, Row(line, offset, raw, drop), drop)
