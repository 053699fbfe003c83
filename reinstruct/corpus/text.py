"""Files that are one document each: text, Markdown, HTML (its main content) and PDF (the text of its pages)."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator

from reinstruct.corpus.fields import content_id
from reinstruct.corpus.page import decode_page, extract_text, licence_link
from reinstruct.corpus.rows import Row, rejected
from reinstruct.corpus.source import SourceFile
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop, Rejected

MAX_BYTES = 256 << 20  # no document is this long: it is a log or a dump
_HTML = (".html", ".htm", ".xhtml")
# What pypdf raises for damaged PDFs and for what it does not support (filters, ciphers), besides its own errors.
_ODD_PDF = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError),
    *(RecursionError, NotImplementedError, AssertionError, ZeroDivisionError),
)


def read_document(blocks: Iterable[bytes], file: SourceFile) -> Iterator[Document | Rejected]:
    """The file as one document whose source is its relative path, or as one Rejected. Line ends become newlines.

    Pages of a PDF that cannot be read come as Rejected beside the document of the others. CorpusError when the package
    that reads such a file is not installed.
    """
    if file.size > MAX_BYTES:
        yield _turned_away(file, b"", Drop("too_large", f"{file.size:,} bytes, at most {MAX_BYTES:,}"))
        return
    raw = b"".join(blocks)
    licence, name = "", file.name.lower()
    if name.endswith(_HTML):
        page = decode_page(raw)
        text, licence = extract_text(page), licence_link(page)
    elif name.endswith(".pdf"):
        text, lost = _pdf_text(raw)
        yield from (rejected(file.name, row, row.value) for row in lost if isinstance(row.value, Drop))
        if not text.strip() and lost:
            return
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            yield _turned_away(file, raw, Drop("bad_utf8", f"{raw[error.start]:#04x}: {error.reason}"), error.start)
            return
    text = text.replace("\r\n", "\n")
    if not text.strip():
        yield _turned_away(file, raw if raw.isascii() else b"", Drop("empty_text"))
        return
    yield Document(id=content_id(text), text=text, source=file.name, licence=licence)


def line_row(at: int, raw: bytes, damage: Drop | None) -> Row | None:
    """A line as a row with a text, for files that hold a document on each; None for a blank one."""
    if damage:
        return Row(at, raw, damage)
    try:
        text = (raw if at else raw.removeprefix(b"\xef\xbb\xbf")).decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        return Row(at, raw, Drop("bad_utf8", f"{raw[error.start]:#04x}: {error.reason}"))
    return Row(at, raw, Document(id=content_id(text), text=text)) if text.strip() else None


def _pdf_text(raw: bytes) -> tuple[str, list[Row]]:
    """The text of the pages, a blank line between them; and why the file, or which pages of it, cannot be read."""
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError as error:
        raise CorpusError(f'reading PDF needs {error.name}: pip install "reinstruct[pdf]"') from error
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # what it repairs, it repairs
    odd = (PyPdfError, DependencyError, *_ODD_PDF)
    try:
        reader = PdfReader(io.BytesIO(raw))
        if reader.is_encrypted and not reader.decrypt(""):
            return "", [Row(0, b"", Drop("encrypted", "the PDF asks for a password"))]
        pages = list(reader.pages)
    except odd as error:
        return "", [Row(0, b"", Drop("corrupt_file", f"no readable PDF: {error}"))]
    texts: list[str] = []
    lost: list[Row] = []
    for number, page in enumerate(pages, start=1):
        try:
            texts.append(page.extract_text().strip())
        except odd as error:
            lost.append(Row(number, b"", Drop("corrupt_page", str(error)), "page"))
    return "\n\n".join(filter(None, texts)).encode(errors="replace").decode(), lost


def _turned_away(file: SourceFile, raw: bytes, drop: Drop, offset: int = 0) -> Rejected:
    return rejected(file.name, Row(offset, raw, drop), drop)
