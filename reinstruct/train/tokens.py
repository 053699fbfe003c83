"""Rows as columns: four bytes a token, in memory or in one file that every process of a job maps.

The one rule: what is read back is what was tokenised, or it is tokenised anew; the file's key says of what it was made,
its seal what it held.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import pyarrow as pa

from reinstruct.identity import digest

KEY, SEAL = "key", "seal"
SCHEMA = pa.schema(
    {
        "id": pa.large_string(),
        "origin": pa.large_string(),
        "prompt_tokens": pa.int32(),
        "input_ids": pa.large_list(pa.int32()),
    }
)
PORTION = 1000  # texts tokenised in one call
PORTION_CHARACTERS = 1 << 20  # a tokenizer takes some 70 bytes for each token of a call

T = TypeVar("T")


class Row(NamedTuple):
    """One sequence: prompt, target, EOS. The loss falls on `ids[prompt_tokens:]`."""

    id: str
    ids: array[int]
    prompt_tokens: int
    origin: str = ""


class TokenRows(Sequence[Row]):
    """Rows over a table of `SCHEMA`, in any number of chunks, which stay where they are: in memory or in a file."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._batches: list[Any] = [batch for batch in table.to_batches() if batch.num_rows]
        self._firsts = [0, *accumulate(batch.num_rows for batch in self._batches)][:-1]  # row numbers
        lists = [_lists(batch) for batch in self._batches]
        self._tokens = [tokens for _, tokens in lists]
        self._starts: Any = _ends([starts for starts, _ in lists])
        self._prompts: Any = np.concatenate([np.zeros(0, np.int32), *map(_prompts, self._batches)])

    @classmethod
    def of(cls, rows: Sequence[Row]) -> TokenRows:
        return cls(pa.Table.from_batches([as_batch(rows)]))

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> TokenRows: ...
    def __getitem__(self, index: int | slice) -> Row | TokenRows:
        if isinstance(index, slice):
            numbers = range(len(self))[index]
            if numbers.step == 1:
                return TokenRows(self.table.slice(numbers.start, len(numbers)))
            return TokenRows.of([self[number] for number in numbers])
        index = range(len(self))[index]
        part = bisect_right(self._firsts, index) - 1
        batch, at = self._batches[part], index - self._firsts[part]
        ids = array("i", self.tokens(index).tobytes())
        return Row(batch.column("id")[at].as_py(), ids, self.prompt_tokens(index), batch.column("origin")[at].as_py())

    def tokens(self, index: int) -> Any:
        """Ids of one row as an int32 array, without copying."""
        start, end = self._starts[index], self._starts[index + 1]
        part = bisect_right(self._firsts, index) - 1
        before = self._starts[self._firsts[part]]
        return self._tokens[part][start - before : end - before]

    def prompt_tokens(self, index: int) -> int:
        return int(self._prompts[index])

    @cached_property
    def lengths(self) -> array[int]:
        """Tokens of each row."""
        return array("i", np.diff(self._starts).astype(np.int32).tobytes())

    @cached_property
    def prompt_lengths(self) -> array[int]:
        """Tokens of each row's prompt."""
        return array("i", self._prompts.tobytes())

    @property
    def ids(self) -> Iterator[str]:
        """The rows' names, those of one batch in memory at a time."""
        return (str(id) for batch in self._batches for id in batch.column("id").to_pylist())

    @cached_property
    def origins(self) -> list[str]:
        """Of each row; rows of the same origin share one text."""
        texts: dict[str, str] = {}
        said = (str(origin) for batch in self._batches for origin in batch.column("origin").to_pylist())
        return [texts.setdefault(origin, origin) for origin in said]

    @property
    def target_tokens(self) -> int:
        return int(self._starts[-1] - self._prompts.sum(dtype=np.int64))

    def targets_of(self, rows: Sequence[int]) -> int:
        """Tokens of some rows that count in a loss: never the first of a row."""
        chosen = np.asarray(rows, np.int64)
        return int((np.asarray(self.lengths)[chosen] - np.maximum(1, self._prompts[chosen])).sum(dtype=np.int64))

    @cached_property
    def content(self) -> Content:
        """Read once for all who ask."""
        hashing = Hashing()
        for batch in self._batches:
            hashing.add(batch)
        return hashing.content()

    def digest(self) -> str:
        """Of everything that is trained on: ids, borders and origins."""
        return self.content.trained


class Content(NamedTuple):
    """Hashes of rows, the same however they lie in chunks: of all that is trained on, and of their names."""

    trained: str
    ids: str

    def seal(self, notes: dict[str, str]) -> str:
        """Of rows and notes together."""
        return digest([*self, notes])


class Hashing:
    """Hashes batches one after another. It keeps eight bytes and the origin of each row, for they are hashed last."""

    def __init__(self) -> None:
        self._tokens, self._ids = hashlib.sha256(), hashlib.sha256()
        self._starts: list[Any] = []
        self._prompts: list[Any] = []
        self._origins: list[str] = []

    def add(self, batch: Any) -> None:
        starts, tokens = _lists(batch)
        self._tokens.update(tokens.data)
        self._ids.update("".join(f"{id}\0" for id in batch.column("id").to_pylist()).encode())
        self._starts.append((starts - starts[0]).astype(np.int32))
        self._prompts.append(_prompts(batch).copy())  # else what was added stays in memory with it
        self._origins.append("\0".join(batch.column("origin").to_pylist()))

    def content(self) -> Content:
        trained = self._tokens.copy()
        trained.update(_ends(self._starts).data)
        for prompts in self._prompts:
            trained.update(prompts.data)
        trained.update("\0".join(self._origins).encode())
        return Content(trained.hexdigest(), self._ids.hexdigest())


def as_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as one record batch of `SCHEMA`."""
    values = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row.ids, np.int32) for row in rows)])
    offsets = np.array([0, *accumulate(len(row.ids) for row in rows)], dtype=np.int64)
    columns: list[Any] = [
        pa.array([row.id for row in rows], pa.large_string()),
        pa.array([row.origin for row in rows], pa.large_string()),
        pa.array([row.prompt_tokens for row in rows], pa.int32()),
        pa.LargeListArray.from_arrays(offsets, values),  # pyright: ignore[reportArgumentType]
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def portions(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in order, as many at a time as are tokenised in one call."""
    portion: list[T] = []
    held = 0
    for item in items:
        portion.append(item)
        held += characters(item)
        if len(portion) == PORTION or held >= PORTION_CHARACTERS:
            yield portion
            portion, held = [], 0
    if portion:
        yield portion


def write(batches: Iterable[pa.RecordBatch], path: Path, key: str, notes: Callable[[], dict[str, str]]) -> None:
    """Append batches as they come to a file that appears whole. `notes` is asked for when there are no more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    hashing = Hashing()
    try:
        with partial.open("wb") as sink:
            with pa.ipc.new_file(sink, SCHEMA) as file:
                for batch in batches:
                    hashing.add(batch)
                    file.write_batch(batch)
                told = notes()
                # a schema's metadata is written first, when none of this is known: an empty batch at the end carries it
                last: Any = {**told, KEY: key, SEAL: hashing.content().seal(told)}
                file.write_batch(as_batch([]), custom_metadata=last)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, key: str) -> tuple[TokenRows, dict[str, str]] | None:
    """Rows and notes kept under this key, mapped; None if there are none, or if they are not what was written.

    All rows are hashed. A training asks for the same hash to know its checkpoints, so it is had for nothing.
    """
    try:
        file: Any = pa.ipc.open_file(pa.memory_map(str(path)))
        carried = file.get_batch_with_custom_metadata(file.num_record_batches - 1)[1] or {}
        notes: dict[str, str] = {name.decode(): note.decode() for name, note in carried.items()}
        seal = notes.pop(SEAL, "")
        if notes.pop(KEY, "") != key or not file.schema.equals(SCHEMA):
            return None
        table = file.read_all()
        table.validate(full=True)  # offsets that point outside their buffer would end the process
        rows = TokenRows(table)
        return (rows, notes) if rows.content.seal(notes) == seal else None
    except (OSError, ValueError, pa.ArrowException):
        return None


def file_digest(paths: Iterable[str]) -> list[str]:
    """SHA-256 of each file."""
    digests: list[str] = []
    for path in paths:
        with Path(path).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


def _lists(batch: Any) -> tuple[Any, Any]:
    """Of a batch's input_ids the offsets [rows + 1] and the values from the first of them to the last, not copied."""
    column = batch.column("input_ids")
    starts = column.offsets.to_numpy()
    return starts, column.values.to_numpy()[starts[0] : starts[-1]]


def _prompts(batch: Any) -> Any:
    return batch.column("prompt_tokens").to_numpy()


def _ends(offsets: Sequence[Any]) -> Any:
    """One int64 array [rows + 1] of where rows begin and end, from the offsets [rows + 1] of each chunk."""
    lengths = np.concatenate([np.zeros(1, np.int64), *map(np.diff, offsets)])
    return np.cumsum(lengths, dtype=np.int64)
