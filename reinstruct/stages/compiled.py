"""Shingles by the compiled loop of `_native.c`. It knows bytes alone; what a character is in a word, a table says."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from reinstruct.stages.spaced import end_to_end, spaced
from reinstruct.views import unsigned

try:
    from reinstruct._native import band_keys as band_keys
    from reinstruct._native import shingle_keys as shingle_keys
except ImportError:  # installed where there was no C compiler
    band_keys = shingle_keys = None

ShingleKeys = Callable[[Any, Any, bytes, int], tuple[bytearray, bytearray]]
LETTERS = "letters.z"
_NOT_JUDGED = 2**32 - 1  # as in _native.c


def shingled(texts: pl.Series, size: int, shingle_keys: ShingleKeys) -> tuple[pl.DataFrame, pl.Series]:
    """`row` and `len` of each text that has words, and the keys of the shingles of them all, text by text."""
    row = pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    count, keys = _counted(texts, packaged(LETTERS), size, shingle_keys)
    judged = count != _NOT_JUDGED
    if not judged.all():
        place, text = spaced(texts.filter(~judged))
        others, their_keys = _counted(text, b"", size, shingle_keys)
        row = pl.concat([row.filter(judged), row.filter(~judged).gather(place)])
        count, keys = pl.concat([count.filter(judged), others]), pl.concat([keys, their_keys], rechunk=True)
    found = pl.DataFrame({"row": row, "len": count})
    return found.filter(pl.col("len") > 0), keys


def _counted(texts: pl.Series, letters: bytes, size: int, shingle_keys: ShingleKeys) -> tuple[pl.Series, pl.Series]:
    arrow = end_to_end(texts)
    _, offsets, data = arrow.buffers()
    own = memoryview(offsets)[arrow.offset * 8 : (arrow.offset + len(arrow) + 1) * 8]
    counts, keys = shingle_keys(data or b"", own, letters, size)
    return unsigned(counts, pa.uint32(), 4), unsigned(keys, pa.uint64(), 8)


@cache
def packaged(name: str) -> bytes:
    """A table beside this file that tells compiled loops of characters; build_letters.py makes it."""
    return zlib.decompress((Path(__file__).parent / name).read_bytes())
