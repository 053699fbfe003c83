"""Where each kept reply lies: blobs of frames are read once for their keys, and a reply's text when it is asked for.

The one rule: memory does not grow with the replies' texts. A known reply costs about a hundred bytes; of blobs and
frames a fixed amount is held, which is enough because replies are looked up in about the order they were kept in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from reinstruct.errors import StoreError
from reinstruct.llm import Reply
from reinstruct.reply_frames import Frame, frames_in, replies_in
from reinstruct.store import Store

T = TypeVar("T")

BLOBS_HELD = 4  # of at most 16 MiB each, as replies.py writes them
FRAMES_HELD = 64


class Contents(Struct, array_like=True):
    """What a blob holds, in a small blob beside it: start and size of each frame, and how many keys of `keys` are its.

    `keys` are the first 8 bytes of each reply's key, in order.
    """

    frames: list[tuple[int, int, int]]
    keys: bytes


_CONTENTS = msgspec.msgpack.Decoder(Contents)


class _Blob:
    def __init__(self, name: str) -> None:
        self.name = name
        self.frames: list[tuple[int, int]] = []
        self.read = 0  # bytes that need not be read again


class ReplyIndex:
    """Finds replies by key in the blobs that were added to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blobs: list[_Blob] = []
        self._numbers: dict[str, int] = {}
        self._places: dict[int, int] = {}  # first 8 bytes of a key -> number of the blob << 32 | of the frame in it
        self._data = _Latest[str, bytes](BLOBS_HELD)
        self._replies = _Latest[int, dict[str, Reply]](FRAMES_HELD)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def add(self, name: str, data: bytes) -> None:
        """Note a blob's replies; of one that has grown since, the new ones."""
        number = self._number(name)
        blob = self._blobs[number]
        for frame in frames_in(data, blob.read):
            self._note(number, (frame.start, frame.size), (int(key[:16], 16) for key in frame.keys))
            blob.read = frame.start + frame.size
        self._data.put(name, data)

    def add_contents(self, name: str, contents: Contents) -> None:
        """Note the replies of a blob that was written whole, without reading it."""
        number, first = self._number(name), 0
        for start, size, keys in contents.frames:
            ends = range(8 * first, 8 * (first + keys), 8)
            self._note(number, (start, size), (int.from_bytes(contents.keys[at : at + 8], "big") for at in ends))
            first += keys

    def find(self, key: str) -> Reply | None:
        """A reply; None where there is none. StoreError if its blob has gone since."""
        place = self._places.get(int(key[:16], 16))
        if place is None:
            return None
        replies = self._replies.get(place)
        if replies is None:
            replies = {kept.key: kept.reply for kept in replies_in(self._frame(place))}
            self._replies.put(place, replies)
        return replies.get(key)

    def forget(self) -> None:
        """Start anew."""
        self.__init__(self._store)

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self._blobs)
            self._blobs.append(_Blob(name))
        return self._numbers[name]

    def _note(self, number: int, span: tuple[int, int], keys: Iterable[int]) -> None:
        blob = self._blobs[number]
        place = number << 32 | len(blob.frames)
        blob.frames.append(span)
        self._places.update(dict.fromkeys(keys, place))

    def _frame(self, place: int) -> bytes:
        blob = self._blobs[place >> 32]
        start, size = blob.frames[place & 0xFFFFFFFF]
        data = self._data.get(blob.name)
        if data is None or len(data) < start + size:
            data = self._store.get(blob.name)
            if data is None or len(data) < start + size:
                raise StoreError(f"{self._store.root} has lost {blob.name}, which holds replies")
            self._data.put(blob.name, data)
        return data[start : start + size]


def contents_of(frames: Iterable[Frame]) -> bytes:
    """The small blob that goes beside a blob of these frames."""
    found = list(frames)
    keys = b"".join(bytes.fromhex(key[:16]) for frame in found for key in frame.keys)
    return msgspec.msgpack.encode(Contents([(frame.start, frame.size, len(frame.keys)) for frame in found], keys))


def read_contents(data: bytes | None) -> Contents | None:
    """The inverse; None where it is missing or damaged, and the blob itself must be read."""
    try:
        return _CONTENTS.decode(data) if data else None
    except msgspec.DecodeError:
        return None


K = TypeVar("K")


class _Latest(Generic[K, T]):
    """The values used last."""

    def __init__(self, most: int) -> None:
        self._values: OrderedDict[Any, T] = OrderedDict()
        self._most = most

    def get(self, key: K) -> T | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: T) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
