"""Runs of consecutive words as 64-bit keys, whole columns at a time: what near-duplicates and leaks are found by.

A word is a run of letters, marks, digits and underscores, in lower case; anything else is between words. Scripts that
put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) have a word in each character, so
five words of theirs are five characters.

The one rule: the same text gives the same keys, wherever it stands. (Keys may change with the version of Polars, whose
hash of a string they are made of; nothing stores them.)
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

FACTOR = 0x9E3779B97F4A7C15  # a large odd number: makes a key depend on the order of what it is made of

# ASCII is done byte by byte; the marks that are common beyond it in one pass, and what is left only where there is any.
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() or code == 95 else 32 for code in range(128))
_TABLE = _ASCII + bytes(range(128, 256))
_MARKS = [*"“”‘’‚„–—―…•−→←↑↓′″‹›‐‑†‡≤≥≠≈∞√∑⇒│─■●★✓™€«»£°©®§¿¡·×÷±\u00a0\u00ad\u2002\u2003\u2009\u200b\u202f"]
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])"
_BEYOND_ASCII = ((r"[^\w ]", " "), (_UNSPACED, " $1 "))


def shingles(texts: pl.Series, size: int) -> pl.DataFrame:
    """Columns `row` (place of the text) and `key`, one row for each `size` consecutive words. The rows of a text stand
    together, in order; texts are in any order. A text of fewer words has one shingle, of all of them; one without
    words has none.
    """
    hashed = words(texts).lazy().select("row", key=pl.col("word").hash(0)).collect()
    if size == 1:
        return hashed
    key = pl.col("key")
    for ahead in range(1, size):
        key = key * FACTOR + pl.col("key").shift(-ahead)
    whole = pl.col("row") == pl.col("row").shift(1 - size)
    first = (pl.col("row") != pl.col("row").shift(1)).fill_null(value=True)
    full = hashed.lazy().select("row", key=key).filter(whole)
    short = hashed.lazy().select(pl.col("row").filter(first, ~whole.fill_null(value=False)))
    full, short = pl.collect_all([full, short])
    return pl.concat([full, _whole_texts(hashed, short["row"])]) if short.height else full


def words(texts: pl.Series) -> pl.DataFrame:
    """Columns `row` and `word`: the words of each text, in order. The words of a text stand together."""
    split = _spaced(texts).lazy().with_columns(pl.col("word").str.split(" ")).explode("word")
    return split.filter(pl.col("word") != "").collect()


def _spaced(texts: pl.Series) -> pl.DataFrame:
    """Columns `row` and `word`: each text in lower case, with nothing but spaces between words."""
    array: Any = texts.fill_null("").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    lower = pa.py_buffer(data.to_pybytes().translate(_TABLE)) if data else data
    plain: Any = pa.Array.from_buffers(array.type, len(array), [None, offsets, lower], offset=array.offset)
    frame = pl.DataFrame({"word": plain}).with_row_index("row")
    beyond = frame["word"].str.len_bytes() != frame["word"].str.len_chars()
    if not beyond.any():
        return frame
    rest = frame.filter(beyond).with_columns(pl.col("word").str.to_lowercase().str.replace_many(_MARKS, [" "]))
    for pattern, instead in _BEYOND_ASCII:  # to look first is far cheaper than to replace nothing
        has = rest["word"].str.contains(pattern)
        if has.any():
            changed = rest.filter(has).with_columns(pl.col("word").str.replace_all(pattern, instead))
            rest = pl.concat([rest.filter(~has), changed])
    return pl.concat([frame.filter(~beyond), rest])


def _whole_texts(hashed: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    order = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    found = hashed.filter(pl.col("row").is_in(rows.implode())).group_by("row", maintain_order=True)
    return found.agg((pl.col("key") * FACTOR * order).sum())
