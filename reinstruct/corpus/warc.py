"""Web archives: WARC files of pages and WET files of their text, gzipped or plain, by `pip install "reinstruct[web]"`.

The one rule: every page becomes a document or a rejection; requests, metadata and revisits are no pages and no rows.
Damage costs the record it lies in: reading goes on at the next record that can be found.
"""

from __future__ import annotations

import io
import re
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from reinstruct.corpus.fields import content_id
from reinstruct.corpus.members import Member, OpenAt, boundary, members
from reinstruct.corpus.page import EXTRA, MAX_BYTES, decode_page, extract_text, licence_link
from reinstruct.corpus.rows import Block, Row, batched
from reinstruct.corpus.source import WHOLE, Range, SourceFile
from reinstruct.corpus.streams import PIECE
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop

ROWS = 64  # of a block: pages are large, and slow to extract
_HTML = ("text/html", "application/xhtml+xml")
_PLAIN = ("text/plain", "text/markdown")
_FIRST = b"WARC/"
_PAGES = ("response", "conversion", "resource")
_BUFFER = 64 << 10
# Content codings that pack a page; warcio leaves those it does not know as they are, which is no text.
_CODINGS = ("gzip", "deflate", "br", "zstd", "compress", "dcb", "dcz", "exi", "lzma", "xz", "bzip2")
_Place = tuple[int, int]


class _Record(NamedTuple):
    """A record as it lies in the archive; `body` is None where it is larger than a page may be."""

    headers: Any  # warcio's StatusAndHeaders
    body: bytes | None


def read_blocks(open_at: OpenAt, file: SourceFile, within: Range = WHOLE) -> Iterator[Block]:
    """The pages of the records that begin in a range.

    `open_at` gives the file's blocks from a byte on. Raises CorpusError when warcio or trafilatura is not installed,
    the file does not begin with a record, or a record runs over the end of the range.
    """
    yield from batched(_rows(open_at, file, within), ROWS)


def is_compressed(name: str) -> bool:
    return name.lower().endswith(".gz")


def _rows(open_at: OpenAt, file: SourceFile, within: Range) -> Iterator[Row]:
    compressed, start = is_compressed(file.name), within.start
    stop = within.stop or file.size or sys.maxsize  # some servers do not tell the size
    begins = b"\x1f\x8b" if compressed else _FIRST
    if file.size and not start and not (head := next(open_at(0), b"")).startswith(begins):
        raise CorpusError(f"{file.name} is not a {'gzipped ' * compressed}WARC file: it begins with {head[:8]!r}")
    while 0 <= start < stop:
        member, damaged = start, False
        for (member, inside), record in _records(open_at, file, start, stop):
            damaged = isinstance(record, Drop)
            value = record if isinstance(record, Drop) else _page(record, file)
            if value is not None:
                yield Row(f"{member}+{inside}" if inside else member, _shown(record), value)
        start = boundary(open_at, member + 1, compressed=compressed, alone=True) if damaged else stop


def _records(open_at: OpenAt, file: SourceFile, start: int, stop: int) -> Iterator[tuple[_Place, _Record | Drop]]:
    """(place, record) of each record from `start` to `stop`; what is damaged ends them with a Drop.

    The place is the first byte in the file: of the record, or in a .gz of its member, and then how many bytes of the
    unpacked member lie before the record.
    """
    for member in members(open_at, start, compressed=is_compressed(file.name)):
        stream = io.BufferedReader(member, _BUFFER)
        _expect_landing(file, member.start, stop)
        if member.start >= stop:
            return
        while True:
            _skip_blank(stream)
            place = (member.start, stream.tell()) if is_compressed(file.name) else (member.start + stream.tell(), 0)
            if not is_compressed(file.name):
                _expect_landing(file, place[0], stop)
                if place[0] >= stop:
                    return
            record = _parsed(stream)
            if isinstance(record, _Record) and _runs_over(record, stream):
                record = Drop("wrong_length", "its Content-Length goes over the next record")
            damage = member.damage or (record if isinstance(record, Drop) else None)
            if damage:
                yield place, damage
                return
            if record is None:
                break
            yield place, record


def _runs_over(record: _Record, stream: io.BufferedReader[Member]) -> bool:
    """Whether a record begins within this one and none, nor the end, follows it: then it says that it is too long.

    Where one follows, an archive lies inside another; where none begins within it, the next one is damaged.
    """
    _skip_blank(stream)
    ahead = stream.peek(len(_FIRST))[: len(_FIRST)]  # of what is not yet buffered nothing is said
    return not _FIRST.startswith(ahead) and b"\n" + _FIRST in (record.body or b"")


def _expect_landing(file: SourceFile, at: int, stop: int) -> None:
    if stop < at < file.size:
        raise CorpusError(
            f"{file.name} has no record at byte {stop}, where it was cut between shards: an archive lies inside "
            "another there; write it anew with one record per gzip member"
        )


def _skip_blank(stream: io.BufferedReader[Member]) -> None:
    while stream.peek(1)[:1] in (b"\r", b"\n"):
        stream.read(1)


def _parsed(stream: io.BufferedReader[Member]) -> _Record | Drop | None:
    """The next record, None at the end, or why none can be read."""
    if not stream.peek(1):
        return None
    loader, failed = _loader()
    try:
        found = loader.parse_record_stream(stream, known_format="warc", no_record_parse=True)
    except (failed, EOFError, ValueError, AttributeError) as error:
        return Drop("not_warc", str(error) or "the headers of a record end early")
    if not (found.rec_headers.get_header("Content-Length") or "").strip().isdecimal():
        return Drop("not_warc", "a record without Content-Length")
    if found.length > MAX_BYTES:
        _skip(stream, found.length)
        return _Record(found.rec_headers, None)
    body = stream.read(found.length)
    if len(body) < found.length:
        return Drop("truncated_record", f"{len(body)} of {found.length} bytes")
    return _Record(found.rec_headers, body)


def _skip(stream: io.BufferedReader[Member], size: int) -> None:
    while size > 0 and (read := len(stream.read(min(size, _BUFFER)))):
        size -= read


@cache
def _loader() -> tuple[Any, type[Exception]]:
    try:
        from warcio.exceptions import ArchiveLoadFailed  # pyright: ignore[reportMissingTypeStubs]
        from warcio.recordloader import ArcWarcRecordLoader  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise CorpusError(f"reading web archives needs {error.name}: {EXTRA}") from error
    return ArcWarcRecordLoader(), ArchiveLoadFailed


def _page(record: _Record, file: SourceFile) -> Document | Drop | None:
    kind = record.headers.get_header("WARC-Type")
    if kind not in _PAGES:
        return None
    if record.body is None:
        return Drop("too_large", f"a record of over {MAX_BYTES:,} bytes")
    content = _content(record, record.body) if kind == "response" else _plain_content(record, record.body)
    if isinstance(content, Drop):
        return content
    url = record.headers.get_header("WARC-Target-URI") or ""
    text, licence = _text(*content, url)
    if not text.strip():
        return Drop("empty_text", url)
    id_ = (record.headers.get_header("WARC-Record-ID") or "").strip("<>") or content_id(url, text)
    return Document(id=id_, text=text, url=url, source=file.name, licence=licence)


def _plain_content(record: _Record, body: bytes) -> tuple[bytes, str, str] | Drop:
    return _readable(body, record.headers.get_header("Content-Type") or "")


def _content(record: _Record, body: bytes) -> tuple[bytes, str, str] | Drop:
    """(bytes, media type, charset) of an HTTP response, its transfer and content codings undone."""
    if not (record.headers.get_header("Content-Type") or "application/http").startswith("application/http"):
        return _plain_content(record, body)
    from warcio.recordloader import ArcWarcRecord  # pyright: ignore[reportMissingTypeStubs]
    from warcio.statusandheaders import StatusAndHeadersParserException  # pyright: ignore[reportMissingTypeStubs]

    stream = io.BytesIO(body)
    try:
        http = _loader()[0].http_parser.parse(stream)
        status = http.get_statuscode()
        if status != "200":
            return Drop("http_status", status)
        coding = _coding(http)
        if isinstance(coding, Drop):
            return coding
        found = ArcWarcRecord("warc", "response", record.headers, stream, http, "", len(body)).content_stream()
        payload = found.read(MAX_BYTES + 1)  # a packed page may be a thousand times as large as its record
        payload = _without_brotli(payload) if coding == "br" else payload
    except (StatusAndHeadersParserException, EOFError, ValueError, OSError, zlib.error) as error:
        return Drop("not_http", str(error))
    if isinstance(payload, Drop):
        return payload
    if len(payload) > MAX_BYTES:
        return Drop("too_large", f"a page of over {MAX_BYTES:,} bytes")
    return _readable(payload, http.get_header("Content-Type") or "")


def _coding(http: Any) -> str | Drop:
    """How the body is packed, or why that cannot be undone. The header is left such that warcio undoes all but br.

    Names that are no compression, such as utf-8, are servers' mistakes and mean nothing.
    """
    given = (http.get_header("Content-Encoding") or "").lower()
    codings = [coding.removeprefix("x-") for coding in re.split(r"[\s,]+", given)]
    packed = [coding for coding in codings if coding in _CODINGS]
    coding = packed[0] if packed else ""
    if len(packed) > 1 or coding not in ("", "gzip", "deflate", "br"):
        return Drop("unknown_coding", given)
    http.replace_header("Content-Encoding", "" if coding == "br" else coding)
    return coding


def _without_brotli(body: bytes) -> bytes | Drop:
    """The page, or its beginning where it is larger than a page may be. warcio's own way fails with brotli 1.2."""
    try:
        import brotli  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return Drop("unknown_coding", f"br needs {error.name}: {EXTRA}")
    machine, parts, size = brotli.Decompressor(), list[bytes](), 0
    try:
        for start in range(0, len(body), PIECE):
            parts.append(machine.process(body[start : start + PIECE]))
            size += len(parts[-1])
            if size > MAX_BYTES:
                break
    except brotli.error as error:
        return Drop("unknown_coding", f"br: {error}") if _is_binary(body) else body  # stored unpacked, the header kept
    return b"".join(parts)


def _is_binary(body: bytes) -> bool:
    try:
        return "\0" in body.decode()
    except UnicodeDecodeError:
        return True


def _readable(body: bytes, content_type: str) -> tuple[bytes, str, str] | Drop:
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if not media and re.match(rb"\s*<(!doctype html|html)", body[:200], re.IGNORECASE):
        media = _HTML[0]
    if media not in (*_HTML, *_PLAIN):
        return Drop("not_text", media or "no content type")
    charset = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", parameters, re.IGNORECASE)
    return body, media, charset[1] if charset else ""


def _text(body: bytes, media: str, charset: str, url: str) -> tuple[str, str]:
    """(text, licence) of a page."""
    page = decode_page(body, charset)
    return (extract_text(page, url), licence_link(page)) if media in _HTML else (page.replace("\r\n", "\n"), "")


def _shown(record: _Record | Drop) -> bytes:
    return b"" if isinstance(record, Drop) else (record.headers.get_header("WARC-Target-URI") or "").encode()
