"""Columns as compiled loops take and give them: Arrow's buffers, not copied.

The one rule: nothing here imports pyarrow.compute, which takes 8 MB of each worker, or pandas, which takes 30 where it
is installed. Polars imports the one to make a series of an array, pyarrow the other to make an array of a list.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl


def views_of(texts: pl.Series) -> tuple[Any, tuple[Any, ...]]:
    """Sixteen bytes for each text, and the buffers that those name. No text may be null."""
    import polars as pl

    column = texts.to_arrow(compat_level=pl.CompatLevel.newest())
    _, views, *buffers = column.buffers()
    first, last = 16 * column.offset, 16 * (column.offset + len(column))
    return memoryview(views or b"")[first:last], tuple(buffers)


def text_array(offsets: Any, data: Any) -> Any:
    """Texts from where each begins (int32) and all their bytes."""
    size = memoryview(offsets).nbytes // 4 - 1
    return pa.Array.from_buffers(pa.string(), size, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def large_texts(offsets: Any, data: Any) -> pl.Series:
    """The same, from where each begins (int64)."""
    size = memoryview(offsets).nbytes // 8 - 1
    return series(pa.Array.from_buffers(pa.large_string(), size, [None, pa.py_buffer(offsets), pa.py_buffer(data)]))


def equally_long(texts: Sequence[str], size: int) -> Any:
    """Arrow's array of texts of so many bytes each."""
    return _of_size(size, len(texts), "".join(texts).encode())


def repeated(text: str, rows: int) -> Any:
    """Arrow's array of so many times the text."""
    encoded = text.encode()
    return _of_size(len(encoded), rows, encoded * rows)


def _of_size(size: int, rows: int, data: bytes) -> Any:
    return text_array(_multiples(size, rows.bit_length())[: rows + 1], data)


@lru_cache(maxsize=16)
def _multiples(number: int, bits: int) -> memoryview[int]:
    """`number` times 0, 1, 2 and so on up to 2**bits - 1."""
    return memoryview(array("i", range(0, number << bits, number) if number else [0] * (1 << bits)))


def unsigned(numbers: Any, kind: Any, width: int) -> pl.Series:
    """Numbers of so many bytes each."""
    return series(pa.Array.from_buffers(kind, memoryview(numbers).nbytes // width, [None, pa.py_buffer(numbers)]))


def numbers_of(numbers: pl.Series, width: int) -> Any:
    """The bytes of numbers of so many bytes each, none of which may be null."""
    column = numbers.to_arrow()
    return memoryview(column.buffers()[1] or b"")[width * column.offset : width * (column.offset + len(column))]


def series(column: Any) -> pl.Series:
    """Of Arrow's array."""
    import polars as pl

    return pl.DataFrame(pa.record_batch([column], [""])).to_series()


def as_stored(column: Any, kind: Any) -> Any:
    """Arrow's array with that type. Texts of 64-bit offsets get their others without pyarrow.compute."""
    import polars as pl

    if not len(column) or column.type == kind:
        return column if column.type == kind else pa.nulls(0, kind)
    if kind != pa.string() or column.type != pa.large_string() or column.offset:
        return column.cast(kind)
    valid, offsets, data = column.buffers()
    ends = unsigned(memoryview(offsets)[: (len(column) + 1) * 8], pa.int64(), 8).cast(pl.Int32).to_arrow()
    return pa.Array.from_buffers(kind, len(column), [valid, ends.buffers()[1], data], column.null_count)


def as_texts(column: pl.Series) -> Any:
    """Arrow's array of a series of texts."""
    return as_stored(column.to_arrow(), pa.string())
