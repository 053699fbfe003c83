"""Lines of a file, or of the part of it that lies in a range, in blocks of whole lines.

The one rule: a line belongs to the range that holds its first byte, wherever it ends. So however a file is cut, the
ranges together give each line once, in order, with the same offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from reinstruct.corpus.source import WHOLE, Range
from reinstruct.records import Drop

BLOCK = 2 << 20


class Line(NamedTuple):
    """A line without its newline, and where it starts in the decompressed stream.

    With `damage` the file ends here and `raw` is the beginning of a row that was never finished.
    """

    offset: int
    raw: bytes
    damage: Drop | None = None


class Lines(NamedTuple):
    """Consecutive whole lines; only the last of a file may lack its newline. `damage` as in Line."""

    offset: int
    raw: bytes
    damage: Drop | None = None

    def split(self) -> Iterator[Line]:
        """The lines one by one."""
        if self.damage:
            yield Line(self.offset, self.raw, self.damage)
            return
        offset = self.offset
        for raw in self.raw.removesuffix(b"\n").split(b"\n"):
            yield Line(offset, raw)
            offset += len(raw) + 1


def first_byte(within: Range) -> int:
    """Where reading of a range begins: a byte early, to see whether a line begins at the range's first byte."""
    return max(0, within.start - 1)


def line_blocks(chunks: Iterable[bytes | Drop], within: Range = WHOLE) -> Iterator[Lines]:
    """The lines of a range in blocks about as large as the chunks, which start at `first_byte(within)`.

    A line that spans many chunks is joined once, so its cost is linear.
    """
    blocks = _whole_lines(chunks, first_byte(within))
    if within.start:
        blocks = _without_first(blocks)
    for block in blocks:
        if not within.stop or block.offset + len(block.raw) <= within.stop:
            yield block
            continue
        if block.offset < within.stop:
            end = block.raw.find(b"\n", within.stop - 1 - block.offset) + 1 or len(block.raw)
            yield block._replace(raw=block.raw[:end])
        return


def _whole_lines(chunks: Iterable[bytes | Drop], offset: int) -> Iterator[Lines]:
    """Blocks of about BLOCK bytes, joined once from the chunks however small those are."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        if isinstance(chunk, Drop):
            held = b"".join(parts)
            end = held.rfind(b"\n") + 1
            if end:
                yield Lines(offset, held[:end])
            yield Lines(offset + end, held[end:], chunk)
            return
        end = chunk.rfind(b"\n") + 1 if size + len(chunk) >= BLOCK else 0
        if not end:
            parts.append(chunk)
            size += len(chunk)
            continue
        block = b"".join((*parts, memoryview(chunk)[:end]))
        yield Lines(offset, block)
        offset += len(block)
        parts = [chunk[end:]]
        size = len(parts[0])
    if any(parts):
        yield Lines(offset, b"".join(parts))


def _without_first(blocks: Iterator[Lines]) -> Iterator[Lines]:
    """What follows the first newline: the line before it began before the range."""
    for block in blocks:
        end = block.raw.find(b"\n") + 1
        if end and not block.damage and end < len(block.raw):
            yield block._replace(offset=block.offset + end, raw=block.raw[end:])
        elif block.damage:
            yield block
        break
    yield from blocks
