"""Runs of consecutive words as 64-bit keys, whole columns at a time: what near-duplicates and leaks are found by.

The one rule: the same text gives the same keys, wherever it stands: of the bytes of its words (`spaced.py`) alone, and
the same with the compiled loop of `_native.c` and without.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from reinstruct.stages import compiled
from reinstruct.stages.spaced import spaced

FACTOR = 0x9E3779B97F4A7C15  # a large odd number: makes a key depend on the order of what it is made of


class Shingles(NamedTuple):
    """Keys of the shingles of many texts. `rows` has, for each text with words, its place (`row`) and how many
    shingles it has (`len`); `keys` has those of the first of these texts in order, then those of the second, and so on.
    """

    rows: pl.DataFrame
    keys: pl.Series


def shingles(texts: pl.Series, size: int) -> pl.DataFrame:
    """Columns `row` (place of the text) and `key`, one row for each `size` consecutive words. The rows of a text stand
    together, in order; texts are in any order. A text of fewer words has one shingle, of all of them; one without
    words has none.
    """
    found = shingled(texts, size)
    return found.rows.select(pl.col("row").repeat_by("len").explode()).with_columns(found.keys.alias("key"))


def shingled(texts: pl.Series, size: int) -> Shingles:
    """The same, with each text named once."""
    if compiled.shingle_keys is None:
        return shingled_in_columns(texts, size)
    return Shingles(*compiled.shingled(texts, size, compiled.shingle_keys))


def shingled_in_columns(texts: pl.Series, size: int) -> Shingles:
    """`shingled` by Polars: words are split in columns, and each different one is hashed once."""
    rows, key = _word_keys(texts)
    count = max(0, len(key) - size + 1)
    run = key.head(count)
    for ahead in range(1, size):
        run = run * FACTOR + key.slice(ahead, count)
    rows = rows.with_columns(end=pl.col("len").cum_sum())
    short, full = rows.filter(pl.col("len") < size), rows.filter(pl.col("len") >= size)
    # What begins in the last words of a text, or in one of fewer words, runs on into the next.
    last = [full["end"] - ahead for ahead in range(1, size)]
    none = pl.concat([*last, _places(short)], rechunk=True)
    within = pl.repeat(value=True, n=len(key), eager=True).scatter(none, False)
    counts = full.select("row", len=pl.col("len") - (size - 1))
    keys = run.filter(within.head(count))
    if short.height:
        counts = pl.concat([counts, short.select("row", len=pl.lit(1, pl.UInt32))])
        keys = pl.concat([keys, _whole_texts(key, short)], rechunk=True)
    return Shingles(counts, keys)


def _word_keys(texts: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """Of each text that has words its place (`row`), how many (`len`), and the keys of them all, text by text."""
    row, text = spaced(texts)
    lists = text.str.split(" ")
    pieces, upto = lists.explode(), lists.list.len().cum_sum()
    is_word = pieces != ""  # two marks side by side have nothing between them
    upto -= pl.int_range(len(pieces), dtype=pl.UInt32, eager=True).filter(~is_word).search_sorted(upto)
    counts = upto - upto.shift(1, fill_value=0)
    found = pl.DataFrame({"row": row, "len": counts}).filter(counts > 0)
    return found, _hashed(pieces.filter(is_word))


def _hashed(words: pl.Series) -> pl.Series:
    coded: Any = words.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    keys = pl.Series([word_key(word.as_py().encode()) for word in coded.dictionary], dtype=pl.UInt64)
    return keys.gather(pl.Series(coded.indices))


def word_key(word: bytes) -> int:
    """The key of a word in UTF-8: its bytes, eight at a time, and their number, mixed."""
    key = 0
    for start in range(0, len(word), 8):
        key = _mixed(key, int.from_bytes(word[start : start + 8], "little"))
    return _mixed(key, len(word))


def _mixed(key: int, eight: int) -> int:
    key = (key ^ eight) * FACTOR % 2**64
    return key ^ (key >> 29)


def _places(texts: pl.DataFrame) -> pl.Series:
    """Where the words of these texts are, `len` of them up to `end`."""
    return texts.select(pl.int_ranges(pl.col("end") - pl.col("len"), "end", dtype=pl.UInt32).explode()).to_series()


def _whole_texts(key: pl.Series, texts: pl.DataFrame) -> pl.Series:
    """One key for each of these texts, of all its words."""
    rows = texts.select(pl.col("row").repeat_by("len").explode()).with_columns(key=key.gather(_places(texts)))
    order = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    return rows.group_by("row", maintain_order=True).agg((pl.col("key") * FACTOR * order).sum())["key"]
