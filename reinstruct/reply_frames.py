"""Replies as bytes: zstd frames of JSON lines, one after the other, so `zstdcat` shows a log to anybody.

The one rule: a frame counts as a whole or not at all; its checksum tells. What a killed process or a full disk left
half-written is skipped, and everything before and after it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from reinstruct.llm import Reply

try:
    from compression import zstd  # pyright: ignore[reportMissingImports]
except ImportError:
    from backports import zstd

FRAME_BYTES = 128 << 10  # of JSON in a frame where there is a choice: some hundred replies, decoded together
MAGIC = b"\x28\xb5\x2f\xfd"


class Kept(Struct):
    """One line: a reply and the hash of what was asked."""

    key: str
    reply: Reply


class _Key(Struct):
    key: str


class Frame(NamedTuple):
    """A whole frame in a blob, and the keys of its replies."""

    start: int
    size: int
    keys: list[str]


_ENCODER = msgspec.json.Encoder()
_REPLIES = msgspec.json.Decoder(Kept)
_KEYS = msgspec.json.Decoder(_Key)
_WHILE_ASKING: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}
_FOR_GOOD = {**_WHILE_ASKING, zstd.CompressionParameter.compression_level: 6}


def lines_of(kept: Iterable[tuple[str, Reply]]) -> bytes:
    """(key, reply) pairs as JSON lines."""
    return _ENCODER.encode_lines(Kept(key, reply) for key, reply in kept)


def frame_of(lines: bytes, *, for_good: bool = False) -> bytes:
    """A frame of JSON lines; `for_good` spends more time to make it smaller."""
    return zstd.compress(lines, options=_FOR_GOOD if for_good else _WHILE_ASKING)


def frames_in(blob: bytes, start: int = 0) -> Iterator[Frame]:
    """Every whole frame from `start` on, in order; what cannot be read is passed over."""
    view = memoryview(blob)
    while start < len(view):
        frame = _frame_at(view, start)
        if frame is None:
            start = blob.find(MAGIC, start + 1)
            if start < 0:
                return
        else:
            yield frame
            start += frame.size


def replies_in(frame: bytes | memoryview) -> list[Kept]:
    """The replies of one whole frame; none where they are of a form that this version does not know."""
    try:
        return _REPLIES.decode_lines(zstd.decompress(frame))
    except (zstd.ZstdError, msgspec.DecodeError):
        return []


def _frame_at(view: memoryview, start: int) -> Frame | None:
    try:
        size = zstd.get_frame_size(view[start:])
        lines = zstd.decompress(view[start : start + size])
        return Frame(start, size, [line.key for line in _KEYS.decode_lines(lines)])
    except (zstd.ZstdError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def packed(frames: Iterable[Sequence[Kept]]) -> Iterator[bytes]:
    """The same replies in frames of about FRAME_BYTES, well compressed."""
    lines: list[bytes] = []
    size = 0
    for replies in frames:
        for kept in replies:
            line = _ENCODER.encode(kept) + b"\n"
            lines.append(line)
            size += len(line)
            if size >= FRAME_BYTES:
                yield frame_of(b"".join(lines), for_good=True)
                lines, size = [], 0
    if lines:
        yield frame_of(b"".join(lines), for_good=True)
