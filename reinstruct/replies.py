"""Replies are kept as they arrive, so that no answer is ever paid for twice.

The one rule: a reply is found again by what was asked (model, prompt, sampling, record) and not by the step that asked.
So a killed shard asks only what is missing, and so does a step whose parsing, later stages or corpus changed.

    STORE/replies/GROUP/live/SHARD/ATTEMPT-N.jsonl.zst   as they arrive; GROUP: the model and the stages that ask it
    STORE/replies/GROUP/kept/TIME-SHARD-ATTEMPT-N...     packed, once a shard is committed
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import msgspec

from reinstruct.commit import Slice
from reinstruct.errors import StoreError
from reinstruct.llm import Reply, Request, Sampling
from reinstruct.reply_frames import Kept, frames_in, lines_of, packed, replies_in
from reinstruct.reply_index import ReplyIndex, contents_of, read_contents
from reinstruct.reply_sinks import FILE_BYTES, Sink, blob_name, open_sink
from reinstruct.store import Grows, Store

REFRESH_S = 30.0  # how often another attempt at the same shard is looked for
OTHERS_KEPT = 500_000  # replies of other shards that are looked at, the newest first: 50 MB of memory
READERS = 16
CONTENTS = ".keys"


@dataclass(frozen=True)
class LogPlace:
    """Where the replies of a shard lie: `group` is the model and the stages that ask it, `shard` the rows it reads."""

    group: str
    shard: str

    @property
    def live(self) -> str:
        return f"replies/{self.group}/live/{self.shard}"

    @property
    def kept(self) -> str:
        return f"replies/{self.group}/kept"


def log_place(model_id: str, asking: Sequence[Any], slices: Sequence[Slice]) -> LogPlace:
    """The same for every step in which the same stages ask the same model about the same rows, whatever follows."""
    classes = [f"{type(stage).__module__}:{type(stage).__qualname__}" for stage in asking]
    name = type(asking[0]).__name__
    return LogPlace(f"{name}-{_short_hash([model_id, *classes])}", _short_hash([*slices]))


def request_key(model_id: str, sampling: Sampling) -> Callable[[Request], str]:
    """Hashes everything that decides a reply. A greedy reply does not depend on the seed.

    Settings that have their defaults are left out, so that one more setting leaves the keys as they are.
    """
    told = {f.name: value for f in fields(sampling) if (value := getattr(sampling, f.name)) != f.default}
    told.pop("seed", None)  # the request has its own, made from it
    base = hashlib.sha256(msgspec.json.encode([model_id, told], order="deterministic"))
    drawn = sampling.temperature > 0

    def key(request: Request) -> str:
        content = base.copy()
        content.update(msgspec.json.encode([request.prompt, request.key, request.seed if drawn else 0]))
        return content.hexdigest()[:32]

    return key


class ReplyLog:
    """The replies to one shard's questions: those of earlier attempts and steps, and those that arrive now.

    Two attempts at a shard may be at work together; each finds the other's replies after at most `REFRESH_S`.
    """

    def __init__(
        self, store: Store, place: LogPlace, attempt: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._place, self._attempt, self._clock = store, place, attempt, clock
        self._known = ReplyIndex(store)
        self._read_all()
        self._sink: Sink = open_sink(store, f"{place.live}/{attempt}")

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: str) -> Reply | None:
        """The reply to what `key` was made of, if it was ever kept."""
        if self._clock() - self._read_at > REFRESH_S:
            self._read_live()
        try:
            return self._known.find(key)
        except StoreError:  # another attempt has packed the blob meanwhile
            self._known.forget()
            self._read_all()
            return self._known.find(key)

    def append(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Keep (key, reply) pairs: all of them or, after a kill, none. StoreError on a full disk."""
        lines = lines_of(replies)
        if lines:
            self._sink.append(lines)

    def close(self) -> None:
        """All replies are kept once this returns; StoreError if they cannot be."""
        self._sink.close()

    def pack(self) -> None:
        """Put what attempts at this shard have kept into few blobs, well compressed.

        For after the commit, when nobody is at work on the shard any more, or only in vain.
        """
        names = [name for name in self._store.names(self._place.live) if name.endswith(".zst")]
        names.sort(key=lambda name: name.startswith(f"{self._place.live}/{self._attempt}-"))  # what was used last wins
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        prefix = f"{self._place.kept}/{now}-{self._place.shard}-{self._attempt}"
        for number, blob in enumerate(_joined(packed(self._kept_in(names)), FILE_BYTES)):
            name = blob_name(prefix, number)
            self._store.put(name, blob)
            self._store.put(name + CONTENTS, contents_of(frames_in(blob)))
        for name in names:
            self._store.delete(name)

    def _kept_in(self, names: Iterable[str]) -> Iterator[list[Kept]]:
        for name in names:
            blob = self._store.get(name) or b""
            for frame in frames_in(blob):
                yield replies_in(blob[frame.start : frame.start + frame.size])

    def _read_all(self) -> None:
        """Of other shards only what was packed, and no more than fits; this shard's replies are wanted for certain."""
        names = [name for name in self._store.names(self._place.kept) if name.endswith(".zst")]
        own = [name for name in names if f"-{self._place.shard}-" in name]
        for name in sorted(set(names) - set(own), reverse=True):
            if len(self._known) >= OTHERS_KEPT:
                break
            self._read_kept(name)
        for name in own:
            self._read_kept(name)
        self._read_live()

    def _read_kept(self, name: str) -> None:
        contents = read_contents(self._store.get(name + CONTENTS))
        if contents is not None:
            self._known.add_contents(name, contents)
        else:
            self._known.add(name, self._store.get(name) or b"")

    def _read_live(self) -> None:
        own = f"{self._place.live}/{self._attempt}-"
        names = [name for name in self._store.names(self._place.live) if not name.startswith(own)]
        if not isinstance(self._store, Grows):
            names = [name for name in names if name not in self._known]
        with ThreadPoolExecutor(READERS) as pool:  # a bucket answers slowly, but many at a time
            for start in range(0, len(names), READERS):
                some = names[start : start + READERS]
                for name, data in zip(some, pool.map(self._store.get, some), strict=True):
                    self._known.add(name, data or b"")
        self._read_at = self._clock()


def _joined(frames: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Frames one after the other, in blobs of about `most` bytes."""
    blob = bytearray()
    for frame in frames:
        blob += frame
        if len(blob) >= most:
            yield bytes(blob)
            blob = bytearray()
    if blob:
        yield bytes(blob)


def _short_hash(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
