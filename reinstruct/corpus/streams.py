"""Bytes in, decompressed bytes out. Memory stays constant whatever the size of the file.

The one rule: damage does not cost what came before it. It ends the stream with a `Drop` that says where it is.
"""

from __future__ import annotations

import bz2
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from gzip import BadGzipFile
from io import RawIOBase
from typing import TYPE_CHECKING, Any

from isal import igzip  # pyright: ignore[reportMissingTypeStubs]

from reinstruct.corpus.gunzip import GZIP_ERROR, Gunzip
from reinstruct.errors import CorpusError
from reinstruct.records import Drop

if TYPE_CHECKING:
    from typing_extensions import Buffer

# A decompressor that finds damage gives nothing for that call, so little is fed at once and little is lost.
PIECE = 16 << 10
_GIVEN = 64 << 10  # decompressed bytes in a chunk of what is not damaged
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Codec:
    """How one compression is recognised and undone. Files made of several members, one after the other, are fine."""

    name: str
    magic: bytes
    decompressor: Callable[[], Any]
    errors: tuple[type[Exception], ...]


def content_name(name: str) -> str:
    """The name of what is inside: data.JSONL.gz -> data.jsonl."""
    lowered = name.lower()
    return next((lowered.removesuffix(end) for end in (".gz", ".bz2", ".zst") if lowered.endswith(end)), lowered)


def codec_of(name: str) -> Codec | None:
    """The compression a file's name promises."""
    name = name.lower()
    if name.endswith(".gz"):
        return Codec("gzip", b"\x1f\x8b", Gunzip, (GZIP_ERROR,))
    if name.endswith(".bz2"):
        return Codec("bzip2", b"BZh", bz2.BZ2Decompressor, (OSError, EOFError))
    if name.endswith(".zst"):
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd

        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 31}  # what `zstd --long=31` writes
        magic = b"\x28\xb5\x2f\xfd"
        return Codec("zstandard", magic, lambda: zstd.ZstdDecompressor(options=options), (zstd.ZstdError,))
    return None


def decompressed(blocks: Iterable[bytes], name: str) -> Iterator[bytes | Drop]:
    """The content of a file called `name`; as it is when the name promises no compression.

    Of gzip data that can be read again (`Again`, a list) the reading goes faster.
    Raises CorpusError when the file is not compressed the way its name says. Damage further in ends the stream
    with Drop("corrupt_file") or Drop("truncated_file"), whose detail gives the offset in the compressed file.
    """
    codec = codec_of(name)
    if codec is None:
        yield from blocks
        return
    if codec.name == "gzip" and not isinstance(blocks, Iterator):
        yield from _gzip(blocks, codec, name)
    else:
        yield from _members(_promised(blocks, codec, name), codec)


class Again:
    """What `begin` gives, from the beginning each time that it is iterated."""

    def __init__(self, begin: Callable[[], Iterator[bytes]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[bytes]:
        return self._begin()


class _Stream(RawIOBase):
    """Blocks as a file that can be read once."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        to = memoryview(buffer)
        self._left = self._left or memoryview(next(filter(None, self._blocks), b""))
        size = min(len(to), len(self._left))
        to[:size], self._left = self._left[:size], self._left[size:]
        return size


def _gzip(blocks: Iterable[bytes], codec: Codec, name: str) -> Iterator[bytes | Drop]:
    """At least what `_members` gives, by a faster reader. That does not give what it holds when it finds damage, so all
    is read once more, for the rest and for what the damage is.

    Raises CorpusError where there is less the second time, and no damage.
    """
    given = 0
    reader: Any = igzip.IGzipFile(fileobj=_Stream(_promised(blocks, codec, name)), mode="rb")
    try:
        while chunk := reader.read1(_GIVEN):
            given += len(chunk)
            yield chunk
        return
    except (EOFError, BadGzipFile, GZIP_ERROR) as error:
        found = str(error)
    del reader  # which holds the file open
    for chunk in _members(blocks, codec):
        if isinstance(chunk, Drop):
            yield chunk
            return
        if len(chunk) > given:
            yield chunk[given:]
        given -= min(given, len(chunk))
    if given:
        raise CorpusError(f"{name} changed while it was read: it was damaged ({found}), and now is shorter")


def _promised(blocks: Iterable[bytes], codec: Codec, name: str) -> Iterator[bytes]:
    """The blocks; CorpusError if the first does not begin as the codec's files do."""
    for number, block in enumerate(blocks):
        if number == 0 and not _begins(block, codec):
            raise CorpusError(f"{name} is not a {codec.name} file: it begins with {block[:4]!r}")
        yield block


def _begins(block: bytes, codec: Codec) -> bool:
    skippable_frame = codec.name == "zstandard" and block[1:4] == b"\x2a\x4d\x18"
    return skippable_frame or block[: len(codec.magic)] == codec.magic[: len(block)]


def _members(blocks: Iterable[bytes], codec: Codec) -> Iterator[bytes | Drop]:
    machine = None  # between members there is none
    offset = 0
    for block in blocks:
        for start in range(0, len(block), PIECE):
            piece = block[start : start + PIECE]
            while piece:
                if machine is None:
                    piece = piece.lstrip(b"\0") if codec.name == "gzip" else piece  # tar and tape pad with zeros
                    machine = codec.decompressor() if piece else None
                    continue
                try:
                    yield machine.decompress(piece)
                except codec.errors as error:
                    yield Drop("corrupt_file", f"{codec.name} data damaged near byte {offset + start}: {error}")
                    return
                piece, machine = (machine.unused_data, None) if machine.eof else (b"", machine)
        offset += len(block)
    if machine is not None:
        yield Drop("truncated_file", f"the file ends inside its {codec.name} data, at byte {offset}")
