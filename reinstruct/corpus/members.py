"""A web archive as byte streams: one for each gzip member of a .gz file, one for the whole of a plain file.

The one rule: a place where an archive may be cut is the first byte of a record whose neighbour is in its place too.
After damage no neighbour is asked for: it may be damaged as well, and then it is told in its turn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

from reinstruct.corpus.gunzip import GZIP_ERROR, Gunzip
from reinstruct.corpus.streams import PIECE
from reinstruct.records import Drop

OpenAt = Callable[[int], Iterator[bytes]]  # the blocks of a file from a byte on
_GZIP = re.compile(rb"\x1f\x8b\x08[\x00\x04\x08\x0c\x10\x14\x18\x1c]")
_PLAIN = re.compile(rb"WARC/[01]\.\d+\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:\s*(\d+)\r?\n", re.IGNORECASE)
_FIRST = b"WARC/"
_NEXT = re.compile(rb"(\r?\n){0,2}WARC/[01]\.\d")
_END = re.compile(rb"(\r?\n){2}|WARC/[01]\.\d")
MAX_HEADER = 64 << 10
SPOON = 16  # bytes
MAX_SEARCH = 1 << 30  # bytes that are searched for the next record


class Member(io.RawIOBase):
    """The content of one member, read as it is decompressed. `damage` says why it ended early, `end` where it ends."""

    def __init__(self, pieces: _Pieces, start: int, *, compressed: bool) -> None:
        self.start = self.end = start
        self.damage: Drop | None = None
        self._pieces = pieces
        self._machine = Gunzip() if compressed else None
        self._ready = b""
        self._taken = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._taken

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._ready and self._more():
            pass
        taken = self._ready[: len(buffer)]
        self._ready = self._ready[len(taken) :]
        buffer[: len(taken)] = taken
        self._taken += len(taken)
        return len(taken)

    def _more(self) -> bool:
        if self.damage or (self._machine and self._machine.eof):
            return False
        found = self._pieces.take()
        if found is None:
            if self._machine:
                self.damage = Drop("truncated_file", f"the file ends inside its gzip data, at byte {self.end}")
            return False
        at, piece = found
        if not self._machine:
            self._ready, self.end = piece, at + len(piece)
            return True
        try:
            self._ready = self._machine.decompress(piece)
        except GZIP_ERROR as error:
            self.damage = Drop("corrupt_file", f"gzip data damaged near byte {at}: {error}")
            return False
        left = self._machine.unused_data
        self.end = at + len(piece) - len(left)
        self._pieces.put_back(self.end, left)
        return True


def members(open_at: OpenAt, start: int, *, compressed: bool) -> Iterator[Member]:
    """The members from `start` on, each to be read to its end before the next. A damaged one is the last."""
    pieces = _Pieces(open_at(start), start)
    while found := pieces.take():
        at, piece = found
        rest = piece.lstrip(b"\0") if compressed else piece  # tar and tape pad with zeros
        if not rest:
            continue
        pieces.put_back(at + len(piece) - len(rest), rest)
        member = Member(pieces, at + len(piece) - len(rest), compressed=compressed)
        yield member
        if member.damage or not compressed:
            return


def boundary(open_at: OpenAt, start: int, *, compressed: bool, alone: bool = False, most: int = MAX_SEARCH) -> int:
    """The first byte at or after `start` where a record begins, or -1 if there is none in about `most` bytes.

    With `alone` the record needs no neighbour, and of a gzip member only its beginning must be one: for reading on, not
    for cutting.
    """
    pattern = _GZIP if compressed else _PLAIN
    held, at = b"", start
    for block in open_at(start):
        held += block
        for found in pattern.finditer(held):
            place = at + found.start()
            if _is_record(open_at, place, compressed=compressed, alone=alone):
                return place
        keep = held[-16:]
        at, held = at + len(held) - len(keep), keep
        if at - start > most:
            break
    return -1


def _is_record(open_at: OpenAt, place: int, *, compressed: bool, alone: bool) -> bool:
    """Whether a record begins here, whole, and either the file ends after it or another begins; less with `alone`."""
    if not compressed:
        return _is_plain_record(open_at, place, _END if alone else _NEXT)
    if alone:
        return _begins_record(next(open_at(place), b""))
    for count, member in enumerate(members(open_at, place, compressed=True)):
        begins = member.read(len(_FIRST))
        while begins == _FIRST and member.read(PIECE):
            pass
        if begins != _FIRST or member.damage:
            return False
        if count == 1:
            break
    return True


def _begins_record(member: bytes) -> bool:
    """Whether gzip data begins with a record. It is fed by the spoonful, as damage takes all that is fed with it."""
    machine, found = Gunzip(), b""
    try:
        for at in range(0, min(len(member), PIECE), SPOON):
            found += machine.decompress(member[at : at + SPOON])
            if len(found) >= len(_FIRST):
                break
    except GZIP_ERROR:
        pass
    return found.startswith(_FIRST)


def _is_plain_record(open_at: OpenAt, place: int, end_of_record: re.Pattern[bytes]) -> bool:
    head = next(open_at(place), b"")[:MAX_HEADER]
    end = re.search(rb"\r?\n\r?\n", head)
    length = _LENGTH.search(head[: end.end()]) if end else None
    if not end or not length:
        return False
    after = next(open_at(place + end.end() + int(length[1])), b"")
    return not after.strip() or bool(end_of_record.match(after))


class _Pieces:
    """Small pieces of a file with where they lie; what a member did not use can be put back."""

    def __init__(self, blocks: Iterator[bytes], start: int) -> None:
        self._pieces = _cut(blocks, start)
        self._back: tuple[int, bytes] | None = None

    def take(self) -> tuple[int, bytes] | None:
        back, self._back = self._back, None
        return back or next(self._pieces, None)

    def put_back(self, at: int, piece: bytes) -> None:
        self._back = (at, piece) if piece else None


def _cut(blocks: Iterator[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    for block in blocks:
        for first in range(0, len(block), PIECE):
            yield start + first, block[first : first + PIECE]
        start += len(block)
