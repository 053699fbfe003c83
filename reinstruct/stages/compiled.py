"""Shingles by the compiled loop of `_native.c`. It knows bytes alone; what a character is in a word, `spaced` says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import polars as pl
import pyarrow as pa

from reinstruct.stages.spaced import end_to_end, spaced

try:
    from reinstruct._native import band_keys as band_keys
    from reinstruct._native import shingle_keys as shingle_keys
except ImportError:  # installed where there was no C compiler
    band_keys = shingle_keys = None

ShingleKeys = Callable[[Any, Any, bytes, int], tuple[bytearray, bytearray]]
# As in _native.c:
_AS_IT_IS, _BY_ITSELF, _UNKNOWN, _NOT_JUDGED = 4, 128, 255, 2**32 - 1
_AT_ONCE = 0x8000  # characters, in making a table
_KNOWN = 4 * _AT_ONCE  # characters in the table: nearly all that are written


def shingled(texts: pl.Series, size: int, shingle_keys: ShingleKeys) -> tuple[pl.DataFrame, pl.Series]:
    """`row` and `len` of each text that has words, and the keys of the shingles of them all, text by text."""
    row = pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    count, keys = _counted(texts, _letters(), size, shingle_keys)
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


def unsigned(numbers: Any, kind: Any, width: int) -> pl.Series:
    """A series of the numbers in the buffer, not copied."""
    return pl.Series(pa.Array.from_buffers(kind, memoryview(numbers).nbytes // width, [None, pa.py_buffer(numbers)]))


@cache
def _letters() -> bytes:
    """For `_native`: how each of the known characters stands in a word, by what `spaced` makes of it."""
    return b"".join(_letters_between(start, start + _AT_ONCE) for start in range(0, _KNOWN, _AT_ONCE))


def _letters_between(start: int, end: int) -> bytes:
    codes = [code for code in range(start, end) if not 0xD800 <= code < 0xE000]  # those stand for no character
    characters = pl.Series(map(chr, codes), dtype=pl.String)
    place, text = spaced(characters)
    found = pl.DataFrame(
        {"at": pl.Series(codes, dtype=pl.UInt32)[place] - start, "is": characters[place], "text": text}
    )
    found = found.filter(pl.col("text") != " ").with_columns(
        letter=pl.col("text").str.replace_all(" ", "", literal=True)
    )
    size = pl.col("letter").str.len_bytes()
    as_it_is = (pl.col("letter") == pl.col("is")) & (pl.col("at") + start >= 128)
    kind = pl.when(as_it_is).then(_AS_IT_IS).otherwise(size)
    kind += pl.when(pl.col("text").str.contains(" ", literal=True)).then(_BY_ITSELF).otherwise(0)
    kind = pl.when(~as_it_is & (size > 3)).then(_UNKNOWN).otherwise(kind)
    kinds = found.select(kind.cast(pl.UInt8)).to_series()
    table = bytearray(4 * (end - start))
    table[::4] = bytes(pl.zeros(end - start, pl.UInt8, eager=True).scatter(found["at"], kinds))
    for at, letter in found.filter(~as_it_is & (size <= 3)).select("at", "letter").iter_rows():
        table[4 * at + 1 : 4 * at + 4] = letter.encode().ljust(3)
    return bytes(table)
