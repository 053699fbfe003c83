"""Columns as compiled loops take and give them: Arrow's buffers, not copied."""

from __future__ import annotations

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
    import polars as pl

    return pl.Series(pa.Array.from_buffers(kind, memoryview(numbers).nbytes // width, [None, pa.py_buffer(numbers)]))
