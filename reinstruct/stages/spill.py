"""Rows too many for memory, put into files by a key, so that equal keys are read again together.

The one rule: what is in memory is one batch on the way in, and one partition on the way out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

PARTITION = 1 << 16  # rows, as long as there are no more than _FILES such partitions
_FILES = 256
_PENDING = 1 << 16  # rows written at once


def partitions(frames: Iterator[pl.DataFrame], scratch: Path, expected: int) -> Iterator[pl.DataFrame]:
    """The rows of the frames again, by the high bits of their column `key` (unsigned, 64 bits, spread evenly): in as
    many partitions as `expected` rows need. Rows of one key are in one partition, in order. Files are gone afterwards.
    """
    count = min(_FILES, 2 + expected // PARTITION)
    files = [scratch / f"keys-{number:03}.arrow" for number in range(count)]
    number = (pl.col("key") // (2**64 // count + 1)).alias("partition")
    with ExitStack() as open_files:
        writers: dict[int, Any] = {}
        for frame in _batched(frames):
            for (at,), part in frame.group_by(number, maintain_order=True):
                table = part.to_arrow()
                if at not in writers:
                    writers[at] = open_files.enter_context(pa.ipc.new_stream(files[at], table.schema))
                writers[at].write_table(table)
            pa.default_memory_pool().release_unused()  # what reading, judging and writing left behind
    for file in files:
        if file.exists():
            with pa.ipc.open_stream(pa.OSFile(str(file), "r")) as stream:
                frame = pl.from_arrow(stream.read_all())
            file.unlink()
            assert isinstance(frame, pl.DataFrame)
            yield frame


def _batched(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    pending: list[pl.DataFrame] = []
    for frame in frames:
        pending.append(frame)
        if sum(part.height for part in pending) >= _PENDING:
            yield pl.concat(pending)
            pending = []
    if pending:
        yield pl.concat(pending)
