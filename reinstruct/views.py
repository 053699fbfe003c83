"""Columns as compiled loops take and give them: Arrow's buffers, not copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import polars as pl


def views_of(texts: pl.Series) -> tuple[Any, tuple[Any, ...]]:
    """Sixteen bytes for each text, and the buffers that those name. No text may be null."""
    import polars as pl

    _, views, *buffers = texts.to_arrow(compat_level=pl.CompatLevel.newest()).buffers()
    return views or b"", tuple(buffers)


def text_array(offsets: bytearray, data: bytearray) -> Any:
    """Texts from where each begins (int32) and all their bytes."""
    size = len(offsets) // 4 - 1
    return pa.Array.from_buffers(pa.string(), size, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def unsigned(numbers: Any, kind: Any, width: int) -> pl.Series:
    """Numbers of so many bytes each."""
    return series(pa.Array.from_buffers(kind, memoryview(numbers).nbytes // width, [None, pa.py_buffer(numbers)]))


def series(array: Any) -> pl.Series:
    """Of Arrow's array. Given that alone, Polars would import pyarrow.compute: 8 MB that nothing else here needs."""
    import polars as pl

    return pl.DataFrame(pa.record_batch([array], [""])).to_series()


def as_stored(column: Any, kind: Any) -> Any:
    """Arrow's array with that type. Texts of 64-bit offsets get their others without pyarrow.compute, as above."""
    import polars as pl

    if not len(column) or column.type == kind:
        return column if column.type == kind else pa.nulls(0, kind)
    if kind != pa.string() or column.type != pa.large_string() or column.offset:
        return column.cast(kind)
    valid, offsets, data = column.buffers()
    ends = unsigned(memoryview(offsets)[: (len(column) + 1) * 8], pa.int64(), 8).cast(pl.Int32).to_arrow()
    return pa.Array.from_buffers(kind, len(column), [valid, ends.buffers()[1], data], column.null_count)
