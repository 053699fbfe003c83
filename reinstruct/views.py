"""Columns as compiled loops take and give them: Arrow's buffers, not copied.

The one rule: nothing here imports pyarrow.compute, which takes 8 MB of each worker, or pandas, which takes 30 where it
is installed. Polars imports the one to make a series of an array, pyarrow the other to make an array of a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl


def views_of(texts: pl.Series) -> tuple[Any, tuple[Any, ...]]:
    """Sixteen bytes for each text, and the buffers that those name. No text may be null."""
    import polars as pl

    array = texts.to_arrow(compat_level=pl.CompatLevel.newest())
    _, views, *buffers = array.buffers()
    first, last = 16 * array.offset, 16 * (array.offset + len(array))
    return memoryview(views or b"")[first:last], tuple(buffers)


def text_array(offsets: bytearray, data: bytearray) -> Any:
    """Texts from where each begins (int32) and all their bytes."""
    size = len(offsets) // 4 - 1
    return pa.Array.from_buffers(pa.string(), size, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def unsigned(numbers: Any, kind: Any, width: int) -> pl.Series:
    """Numbers of so many bytes each."""
    return series(pa.Array.from_buffers(kind, memoryview(numbers).nbytes // width, [None, pa.py_buffer(numbers)]))


def series(array: Any) -> pl.Series:
    """Of Arrow's array."""
    import polars as pl

    return pl.DataFrame(pa.record_batch([array], [""])).to_series()


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


def texts(values: Sequence[str]) -> Any:
    """Arrow's array of texts."""
    import polars as pl

    return as_stored(pl.Series(values, dtype=pl.String).to_arrow(), pa.string())


def of_columns(columns: Mapping[str, pl.Series], wanted: pa.Schema) -> pa.Table:
    """A table of some of the columns, with the wanted types."""
    arrays = [as_stored(columns[field.name].to_arrow(), field.type) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)
