"""Two ways to keep replies as they arrive: at the end of a growing file, or as one small object after another.

The one rule: `append` never splits what it is given, so replies that were computed together are kept or lost together.
In a folder they are kept when `append` returns; in a bucket after at most `DELAY_S`, and all of them by `close`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Condition, Thread
from typing import Protocol

from reinstruct.errors import StoreError
from reinstruct.reply_frames import FRAME_BYTES, Framer
from reinstruct.store import Grows, Store

DELAY_S = 1.0
SEGMENT_BYTES = 1 << 20  # of JSON lines that are not waited with any longer
WAITING_BYTES = 16 << 20  # of JSON lines beyond which the model has to wait for the bucket
JOINED = 64  # segments that become one, so that an hour leaves a hundred objects and not thousands
FILE_BYTES = 16 << 20  # after which the next file is begun: the most that is read to find one reply


class Sink(Protocol):
    """Takes JSON lines. StoreError where they cannot be kept, at once or from the next call."""

    def append(self, lines: bytes) -> None: ...
    def close(self) -> None: ...


def open_sink(store: Store, prefix: str) -> Sink:
    """A sink for one attempt; its blobs are named `prefix` and a number."""
    return Growing(store, prefix) if isinstance(store, Grows) else Segments(store, prefix)


class Growing:
    """Frames at the end of a file, which is followed by another when it is large."""

    def __init__(self, store: Store, prefix: str, file_bytes: int = FILE_BYTES) -> None:
        assert isinstance(store, Grows)
        self._store, self._prefix, self._file_bytes = store, prefix, file_bytes
        self._append = store.append
        self._framer = Framer()
        self._number = self._size = 0

    def append(self, lines: bytes) -> None:
        frame = self._framer.frame(lines)
        if self._size and self._size + len(frame) > self._file_bytes:
            self.close()
            self._number, self._size = self._number + 1, 0
        self._append(blob_name(self._prefix, self._number), frame)
        self._size += len(frame)

    def close(self) -> None:
        """Survive a power failure, too."""
        if self._size:
            with suppress(FileNotFoundError):  # another attempt has committed the shard and packed its replies
                self._store.sealed(blob_name(self._prefix, self._number))


class Segments:
    """Objects written by a thread of their own, so that the model never waits for one write."""

    def __init__(self, store: Store, prefix: str, delay_s: float = DELAY_S) -> None:
        self._store, self._prefix, self._delay_s = store, prefix, delay_s
        self._changed = Condition()
        self._waiting: list[bytes] = []
        self._size = 0
        self._closing = False
        self._number = 0
        self._written: list[tuple[str, bytes]] = []  # since segments were last joined
        self._failure: StoreError | None = None
        self._ended = False
        self._thread = Thread(target=self._write_all, name="replies", daemon=True)
        self._thread.start()

    def append(self, lines: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size < WAITING_BYTES or self._ended)
            self._raise_failure()
            self._waiting.append(lines)
            self._size += len(lines)
            if len(self._waiting) == 1 or self._size >= SEGMENT_BYTES:
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._waiting and self._ended:
            raise StoreError(f"replies are no longer written to {self._prefix}")

    def _write_all(self) -> None:
        framer = Framer()
        try:
            while waited := self._next():
                self._write(b"".join(framer.frame(lines) for lines in _cut(waited)))
                if len(self._written) == JOINED:
                    self._join()
        except StoreError as error:
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next(self) -> list[bytes]:
        """What has come, once it is old or large enough; nothing when there is no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            until = time.monotonic() + self._delay_s
            self._changed.wait_for(
                lambda: self._closing or self._size >= SEGMENT_BYTES, timeout=until - time.monotonic()
            )
            waited, self._waiting, self._size = self._waiting, [], 0
            self._changed.notify_all()
            return waited

    def _write(self, frames: bytes) -> str:
        name = blob_name(self._prefix, self._number)
        self._number += 1
        self._store.put(name, frames)
        self._written.append((name, frames))
        return name

    def _join(self) -> None:
        small, self._written = self._written, []
        if sum(len(frames) for _, frames in small) > FILE_BYTES:
            return
        self._write(b"".join(frames for _, frames in small))
        for name, _ in small:
            self._store.delete(name)
        self._written = []


def _cut(waited: Sequence[bytes]) -> Iterator[bytes]:
    """Lines of about FRAME_BYTES, so that finding one reply does not mean to decode a megabyte."""
    piece: list[bytes] = []
    for lines in waited:
        piece.append(lines)
        if sum(map(len, piece)) >= FRAME_BYTES:
            yield b"".join(piece)
            piece = []
    if piece:
        yield b"".join(piece)


def blob_name(prefix: str, number: int) -> str:
    return f"{prefix}-{number:05d}.jsonl.zst"
