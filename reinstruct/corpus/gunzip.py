"""A member of gzip data, decompressed as it comes in pieces (RFC 1952).

The one rule: ISA-L is given a header whole. It forgets where it was in one with several optional fields, and takes what
follows for damage.
"""

from __future__ import annotations

from typing import Any, cast

from isal import isal_zlib  # pyright: ignore[reportMissingTypeStubs]

GZIP_ERROR = cast(type[Exception], isal_zlib.error)
_MAGIC = b"\x1f\x8b\x08"
_MOST = 1 << 17  # bytes of a header
_FIXED = 10
_CHECKED, _EXTRA, _NAMED, _COMMENTED = 2, 4, 8, 16  # flags of the fields that follow


class Gunzip:
    """Like zlib's decompressor, for one member. `decompress` raises GZIP_ERROR where it is damaged."""

    def __init__(self) -> None:
        self._machine: Any = isal_zlib.decompressobj(wbits=31)
        self._head: bytes | None = b""  # until it is whole

    def decompress(self, piece: bytes) -> bytes:
        if self._head is not None:
            piece = self._head + piece
            if _begins_header(piece):
                self._head = piece
                return b""
            self._head = None
        return self._machine.decompress(piece)

    @property
    def eof(self) -> bool:
        return self._machine.eof

    @property
    def unused_data(self) -> bytes:
        return self._machine.unused_data


def _begins_header(data: bytes) -> bool:
    """Whether the data may be the beginning of a header and no more. What cannot be, or is too long, ISA-L refuses."""
    if not data.startswith(_MAGIC[: len(data)]) or len(data) >= _MOST:
        return False
    if len(data) < _FIXED:
        return True
    flags, end = data[3], _FIXED
    if flags & _EXTRA:
        end += 2 + int.from_bytes(data[end : end + 2], "little")
    for text in (_NAMED, _COMMENTED):
        if flags & text:
            end = data.find(b"\0", end) + 1
            if not end:
                return True
    return len(data) < end + (2 if flags & _CHECKED else 0)
