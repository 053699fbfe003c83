"""Lines of a file, or of the part of it that lies in a range, in blocks of whole lines.

The one rule: a line belongs to the range that holds its first byte, wherever it ends. So however a file is cut, the
ranges together give each line once, in order, with the same offset. A line that is too long to hold is passed by in
pieces, and only its beginning is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from reinstruct.corpus.source import WHOLE, Range
from reinstruct.records import Drop

BLOCK = 1 << 20
MAX_LINE = 256 << 20  # bytes, decompressed: no row is this long, and a file without newlines would fill the memory
SHOWN = 2000  # bytes of a longer line that are kept, to be looked at
TOO_LONG = "line_too_long"


class Line(NamedTuple):
    """A line without its newline, and where it starts in the decompressed stream.

    With `damage`, `raw` is the beginning of a row that was never finished, and the file ends here; or, as its reason
    says, of a line that is too long, and the file goes on.
    """

    offset: int
    raw: bytes
    damage: Drop | None = None


@dataclass(frozen=True)
class Lines:
    """Whole lines in `parts` end to end; only the last of a file may lack its newline. `damage` as in Line."""

    offset: int
    parts: tuple[bytes | memoryview, ...]
    damage: Drop | None = None

    @cached_property
    def raw(self) -> bytes:
        return b"".join(self.parts)

    @cached_property
    def size(self) -> int:
        return sum(map(len, self.parts))

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


def line_blocks(chunks: Iterable[bytes | Drop], within: Range = WHOLE, most: int = MAX_LINE) -> Iterator[Lines]:
    """The lines of a range in blocks about as large as the chunks, which start at `first_byte(within)`.

    Chunks are not joined here: whoever wants a line that spans many joins it once, so its cost is linear. One of more
    than `most` bytes is a block of its own, with damage.
    """
    offset, left = first_byte(within), iter(chunks)
    if within.start:
        offset, left = _after_newline(left, offset, within.stop)
        if within.stop and offset >= within.stop:  # no line begins in the range
            return
    for block in _whole_lines(left, offset, within.stop, most):
        if not within.stop or block.offset + block.size <= within.stop:
            yield block
            continue
        if block.offset < within.stop:
            end = block.raw.find(b"\n", within.stop - 1 - block.offset) + 1 or block.size
            yield replace(block, parts=(block.raw[:end],))
        return


def _after_newline(chunks: Iterator[bytes | Drop], offset: int, stop: int) -> tuple[int, Iterator[bytes | Drop]]:
    """What follows the first newline, as the line before it began before the range; looked for up to `stop`."""
    for chunk in chunks:
        if isinstance(chunk, Drop):
            return offset, iter((chunk,))
        end = chunk.find(b"\n") + 1
        if end:
            return offset + end, chain((chunk[end:],), chunks)
        offset += len(chunk)
        if stop and offset >= stop:
            break
    return offset, iter(())


def _whole_lines(chunks: Iterator[bytes | Drop], offset: int, stop: int, most: int) -> Iterator[Lines]:
    """Blocks of about BLOCK bytes, made of the chunks however small those are."""
    parts: list[bytes] = []
    size = 0
    passing = False  # by the rest of a line that is too long
    for chunk in chunks:
        if isinstance(chunk, Drop):
            held = b"".join(parts)
            end = held.rfind(b"\n") + 1
            yield from _bounded(Lines(offset, (held[:end],)), most)
            yield Lines(offset + end, (held[end:],), chunk)
            return
        if passing:
            end = chunk.find(b"\n") + 1
            offset += end or len(chunk)
            if stop and offset >= stop:
                return
            if not end:
                continue
            passing, chunk = False, chunk[end:]
        parts.append(chunk)
        size += len(chunk)
        if size < BLOCK and size <= most:
            continue
        end = chunk.rfind(b"\n") + 1
        if not end and size <= most:
            continue
        block, rest = Lines(offset, (*parts[:-1], memoryview(chunk)[:end])), chunk[end:]
        if not end:
            block, rest = _cut_behind(offset, b"".join(parts))
        yield from _bounded(block, most)
        offset += block.size
        if len(rest) > most:
            yield _too_long(offset, rest, most)
            offset, rest, passing = offset + len(rest), b"", True
        parts, size = [rest], len(rest)
    yield from _bounded(Lines(offset, tuple(parts)), most)


def _cut_behind(offset: int, held: bytes) -> tuple[Lines, bytes]:
    """What ends in the last newline, and what follows it."""
    end = held.rfind(b"\n") + 1
    return Lines(offset, (held[:end],)), held[end:]


def _bounded(block: Lines, most: int) -> Iterator[Lines]:
    """The block, or where it holds lines that are too long, those apart from the others; nothing of an empty one."""
    if 0 < block.size <= most:
        yield block
        return
    begin, taken = 0, 0
    while begin < block.size:
        end = block.raw.find(b"\n", begin)
        end = end if end >= 0 else block.size
        if end - begin > most:
            if begin > taken:
                yield Lines(block.offset + taken, (block.raw[taken:begin],))
            yield _too_long(block.offset + begin, block.raw[begin : begin + SHOWN], most)
            taken = end + 1
        begin = end + 1
    if taken < block.size:
        yield Lines(block.offset + taken, (block.raw[taken:],))


def _too_long(offset: int, line: bytes, most: int) -> Lines:
    return Lines(offset, (line[: min(SHOWN, most)],), Drop(TOO_LONG, f"a line of over {most:,} bytes"))
