"""Done records: what a shard made, and what became of each row it read. The rule: in = out + rejected, or no commit."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from reinstruct.errors import ShardError, StoreError
from reinstruct.store import Store
from reinstruct.usage import Usage, summed

T = TypeVar("T")


class Part(Struct, frozen=True):
    """One stored file; `rows` is 0 for what is not a table."""

    name: str
    bytes: int
    sha256: str
    rows: int = 0


class Slice(Struct, frozen=True):
    """Rows `start` to `start + rows` of a part.

    Of a source file, by its name: so many bytes (of Parquet: row groups) from `start` on, all of it where `rows` is 0.
    """

    part: str
    start: int = 0
    rows: int = 0


class Count(Struct):
    """What one stage did with the rows of a shard: read = kept + rejected. `written` differs where a stage expands.

    `unreadable` of the rejected are replies of a model that could not be parsed at all.
    """

    stage: str
    read: int = 0
    kept: int = 0
    written: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    unreadable: int = 0

    def check(self, *, expands: bool) -> None:
        """ShardError if a row is unaccounted for."""
        lost = self.read - self.kept - sum(self.rejected.values())
        if lost:
            raise ShardError(f"{self.stage}: read {self.read} rows, but {lost} are neither kept nor rejected")
        if not expands and self.written != self.kept:
            raise ShardError(
                f"{self.stage}: kept {self.kept} rows, but wrote {self.written} and does not say it expands"
            )


class Done(Struct, kw_only=True):
    """The create-only record that commits a shard."""

    step: str
    shard: int
    attempt: str
    owner: str
    seconds: float = 0.0
    finished: str = ""  # UTC, ISO 8601
    parts: list[Part] = field(default_factory=list[Part])
    rejected: list[Part] = field(default_factory=list[Part])
    model: str = ""  # folder of the trained model, and its files
    files: list[Part] = field(default_factory=list[Part])
    counts: list[Count] = field(default_factory=list[Count])
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage: Usage | None = None  # of the model it asked
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])


class Layout(Struct):
    """Which rows each shard reads. Fixed by whoever starts the step first, so every later attempt agrees."""

    shards: list[list[Slice]]


class Result(Struct):
    """A finished step: its done records, in shard order."""

    shards: list[Done]

    @property
    def parts(self) -> list[Part]:
        return [part for done in self.shards for part in done.parts]

    @property
    def rejected(self) -> list[Part]:
        return [part for done in self.shards for part in done.rejected]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def counts(self) -> list[Count]:
        """One count per stage, over all shards, in the stages' order."""
        return merged([count for done in self.shards for count in done.counts])

    @property
    def usage(self) -> Usage | None:
        """What it took to ask the step's model; None where none was asked."""
        return summed([done.usage for done in self.shards if done.usage])


# Made here, once, while one thread runs: msgspec describes a type to itself at its first use, and a second thread that
# decodes meanwhile crashes the process (0.22).
_DONE = msgspec.json.Decoder(Done)
_LAYOUT = msgspec.json.Decoder(Layout)
_RESULT = msgspec.json.Decoder(Result)


def merged(counts: list[Count]) -> list[Count]:
    """Counts of the same stage added up."""
    total: dict[str, Count] = {}
    for count in counts:
        into = total.setdefault(count.stage, Count(count.stage))
        into.read += count.read
        into.kept += count.kept
        into.written += count.written
        into.unreadable += count.unreadable
        for reason, n in count.rejected.items():
            into.rejected[reason] = into.rejected.get(reason, 0) + n
    return list(total.values())


def commit(store: Store, done: Done) -> None:
    """Make the shard's parts visible. AlreadyCommitted if another attempt was first."""
    store.create(f"steps/{done.step}/done/{done.shard:05d}.json", msgspec.json.encode(done))


def done_shards(store: Store, step_id: str) -> dict[int, Done]:
    """The committed shards of a step."""
    found: dict[int, Done] = {}
    for name in store.names(f"steps/{step_id}/done"):
        done = _decoded(store, name, _DONE)
        if done is not None:
            found[done.shard] = done
    return found


def layout_of(store: Store, step_id: str) -> Layout | None:
    return _decoded(store, f"steps/{step_id}/layout.json", _LAYOUT)


def result_of(store: Store, step_id: str) -> Result | None:
    """A step's result, or None while a shard is missing. One small read once the step was closed."""
    return _decoded(store, f"steps/{step_id}/result.json", _RESULT)


def close(store: Store, step_id: str) -> Result:
    """Gather the done records of a step whose shards are all committed into its result."""
    layout, done = layout_of(store, step_id), done_shards(store, step_id)
    if layout is None or len(done) < len(layout.shards):
        raise StoreError(f"step {step_id} is not finished: {len(done)} shards are committed")
    result = Result([done[shard] for shard in sorted(done)])
    store.put(f"steps/{step_id}/result.json", msgspec.json.encode(result))
    return result


def _decoded(store: Store, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    data = store.get(name)
    if data is None:
        return None
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreError(f"{store.root}/{name} is damaged: {error}") from error
