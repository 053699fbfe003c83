"""JSON lines, and .json files that hold one array of rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from reinstruct.corpus.lines import MAX_LINE, Lines, line_blocks
from reinstruct.corpus.rows import Block, Row, batched
from reinstruct.corpus.source import WHOLE, Range
from reinstruct.corpus.streams import BOM, content_name, decompressed
from reinstruct.corpus.typed import DocumentLines
from reinstruct.errors import CorpusError
from reinstruct.records import Drop

ARRAY_BYTES = 1 << 30  # an array is parsed whole
_decode = msgspec.json.Decoder().decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read_blocks(
    blocks: Iterable[bytes],
    name: str,
    documents: DocumentLines | None = None,
    within: Range = WHOLE,
    *,
    array_bytes: int = ARRAY_BYTES,
    most: int = MAX_LINE,
) -> Iterator[Block]:
    """Rows of a range of the file called `name`, decompressed as its name says. Blank lines are not rows.

    `blocks` begin at `first_byte(within)`. A line of over `most` bytes is rejected as line_too_long. With `documents`,
    lines that are plain documents come as tables or records.
    Raises CorpusError when the compression is not what the name says, or a .json file holds an array that does not
    parse or is larger than `array_bytes`.
    """
    chunks = iter(decompressed(blocks, name))
    if content_name(name).endswith(".json") and within == WHOLE:
        start = _beginning(chunks)
        chunks = chain(start, chunks)
        if _is_array(start):
            yield from batched(_array_rows(chunks, name, array_bytes))
            return
    for block in line_blocks(chunks, within, most):
        table = documents.table(*block.parts) if documents and not block.damage else None
        if table is not None:
            yield table
        else:
            yield list(_rows(block, documents))


def _rows(block: Lines, documents: DocumentLines | None) -> Iterator[Row]:
    for line in block.split():
        raw = line.raw if line.offset else line.raw.removeprefix(BOM)
        if line.damage:
            yield Row(line.offset, raw, line.damage)
        elif raw.strip():
            yield Row(line.offset, raw, (documents and documents.document(raw)) or parse(raw))


def parse(raw: bytes) -> dict[str, Any] | Drop:
    """One row. Never raises."""
    try:
        value = _decode(raw)
    except UnicodeDecodeError as error:
        return Drop("bad_utf8", _bad_byte(raw) or str(error))
    except RecursionError:
        return Drop("not_json", "nested too deeply")
    except msgspec.DecodeError as error:
        value = _parse_leniently(raw, str(error))
    if isinstance(value, (dict, Drop)):
        return value
    return Drop("not_an_object", f"{type(value).__name__} where an object is wanted")


def _parse_leniently(raw: bytes, complaint: str) -> Any:
    """What Python's own writer makes and strict JSON does not allow: NaN, huge numbers, half surrogate pairs.

    They matter only if a field that is read holds them, and the fields are checked later.
    """
    try:
        return json.loads(raw.decode())
    except UnicodeDecodeError:
        return Drop("bad_utf8", _bad_byte(raw))
    except (ValueError, RecursionError):
        return Drop("not_json", complaint)


def _bad_byte(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} of the row is {raw[error.start]:#04x}: {error.reason}"
    return ""


def _beginning(chunks: Iterator[bytes | Drop]) -> list[bytes | Drop]:
    """Chunks up to the first that holds more than white space."""
    start: list[bytes | Drop] = []
    for chunk in chunks:
        start.append(chunk)
        if isinstance(chunk, Drop) or chunk.removeprefix(BOM).strip():
            break
    return start


def _is_array(start: list[bytes | Drop]) -> bool:
    joined = b"".join(chunk for chunk in start if isinstance(chunk, bytes))
    return joined.removeprefix(BOM).lstrip().startswith(b"[")


def _array_rows(chunks: Iterable[bytes | Drop], name: str, array_bytes: int) -> Iterator[Row]:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        if isinstance(chunk, Drop):
            raise CorpusError(f"{name} holds one JSON array and is damaged ({chunk.reason}): {chunk.detail}")
        parts.append(chunk)
        size += len(chunk)
        if size > array_bytes:
            raise CorpusError(
                f"{name} holds one JSON array of over {array_bytes:,} bytes; write one object per line (.jsonl) instead"
            )
    try:
        items = _split_array(b"".join(parts).removeprefix(BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorpusError(f"{name} begins with '[' but is no JSON array: {error}") from error
    for number, item in enumerate(items, start=1):
        yield Row(number, bytes(item), parse(bytes(item)), "row")
