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
WHILE_ASKING, FOR_GOOD = 1, 6  # levels of compression


class Framer:
    """Makes frames, one after the other: not for two threads at once."""

    def __init__(self, level: int = WHILE_ASKING) -> None:
        settings = zstd.CompressionParameter
        options: dict[int, int] = {settings.compression_level: level, settings.checksum_flag: 1}
        self._compressor = zstd.ZstdCompressor(options=options)

    def frame(self, lines: bytes) -> bytes:
        """One frame of JSON lines."""
        self._compressor.set_pledged_input_size(len(lines))  # tables as small as the lines are
        return self._compressor.compress(lines, zstd.ZstdCompressor.FLUSH_FRAME)


def lines_of(kept: Iterable[tuple[str, Reply]]) -> bytes:
    """(key, reply) pairs as JSON lines."""
    return _ENCODER.encode_lines(Kept(key, reply) for key, reply in kept)


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
    framer = Framer(FOR_GOOD)
    lines: list[bytes] = []
    size = 0
    for replies in frames:
        for kept in replies:
            line = _ENCODER.encode(kept) + b"\n"
            lines.append(line)
            size += len(line)
            if size >= FRAME_BYTES:
                yield framer.frame(b"".join(lines))
                lines, size = [], 0
    if lines:
        yield framer.frame(b"".join(lines))
