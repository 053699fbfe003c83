"""Rows as columns: four bytes a token, in memory or in one file that every process of a job maps.

The one rule: what is read back is what was tokenised, or it is tokenised anew; the file's key says of what it was made.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

KEY = "key"


class Row(NamedTuple):
    """One sequence: prompt, target, EOS. The loss falls on `ids[prompt_tokens:]`."""

    id: str
    ids: array[int]
    prompt_tokens: int
    origin: str = ""


class TokenRows(Sequence[Row]):
    """Rows over a table with the columns id, origin, prompt_tokens and input_ids, in one chunk each."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        column: Any = table.column("input_ids").chunk(0)
        self._starts: Any = column.offsets.to_numpy()
        self._tokens: Any = column.values.to_numpy()
        self._prompts: Any = table.column("prompt_tokens").to_numpy()

    @classmethod
    def of(cls, rows: Sequence[Row]) -> TokenRows:
        values = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row.ids, np.int32) for row in rows)])
        offsets = np.array([0, *accumulate(len(row.ids) for row in rows)], dtype=np.int64)
        ids: Any = pa.LargeListArray.from_arrays(offsets, values)  # pyright: ignore[reportArgumentType]
        columns: dict[str, Any] = {
            "id": pa.array([row.id for row in rows], pa.large_string()),
            "origin": pa.array([row.origin for row in rows], pa.large_string()),
            "prompt_tokens": pa.array([row.prompt_tokens for row in rows], pa.int32()),
            "input_ids": ids,
        }
        return cls(pa.table(columns))

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> TokenRows: ...
    def __getitem__(self, index: int | slice) -> Row | TokenRows:
        if isinstance(index, slice):
            return TokenRows(self.table.take(pa.array(range(len(self))[index], pa.int64())).combine_chunks())
        cells: Any = self.table.slice(index, 1)
        ids = array("i", self.tokens(index).tobytes())
        return Row(cells.column("id")[0].as_py(), ids, self.prompt_tokens(index), cells.column("origin")[0].as_py())

    def tokens(self, index: int) -> Any:
        """Ids of one row as an int32 array, without copying."""
        return self._tokens[self._starts[index] : self._starts[index + 1]]

    def prompt_tokens(self, index: int) -> int:
        return int(self._prompts[index])

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return np.diff(self._starts).tolist()

    @cached_property
    def prompt_lengths(self) -> list[int]:
        """Tokens of each row's prompt."""
        return self._prompts.tolist()

    @property
    def ids(self) -> list[str]:
        return [str(id) for id in self.table.column("id").to_pylist()]

    @property
    def origins(self) -> list[str]:
        return [str(origin) for origin in self.table.column("origin").to_pylist()]

    @property
    def target_tokens(self) -> int:
        return int(self._starts[-1] - self._prompts.sum(dtype=np.int64))

    def targets_of(self, rows: Sequence[int]) -> int:
        """Tokens of some rows that count in a loss: never the first of a row."""
        return sum(self.lengths[row] - max(1, self.prompt_tokens(row)) for row in rows)

    def digest(self) -> str:
        """Of everything that is trained on: ids, borders and origins."""
        content = hashlib.sha256()
        for column in (self._tokens, self._starts, self._prompts):
            content.update(np.ascontiguousarray(column).data)
        content.update("\0".join(self.origins).encode())
        return content.hexdigest()


def write(rows: TokenRows, path: Path, key: str, notes: dict[str, str]) -> None:
    """Keep rows and `notes` in a file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    table = rows.table.replace_schema_metadata({**notes, KEY: key})
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    os.replace(partial, path)


def read(path: Path, key: str) -> tuple[TokenRows, dict[str, str]] | None:
    """Rows and notes kept under this key, mapped, not read; None if there are none."""
    if not path.exists():
        return None
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    notes = {name.decode(): note.decode() for name, note in (table.schema.metadata or {}).items()}
    return (TokenRows(table), notes) if notes.pop(KEY, "") == key else None


def file_digest(paths: Iterable[str]) -> list[str]:
    """SHA-256 of each file."""
    digests: list[str] = []
    for path in paths:
        with Path(path).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests
