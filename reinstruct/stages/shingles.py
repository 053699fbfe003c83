"""Runs of consecutive words as 64-bit keys, whole columns at a time: what near-duplicates and leaks are found by.

A word is what is left of a text in lower case between white space, without anything but letters, marks, digits and the
underscore. Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) have a word
in each character, so five words of theirs are five characters.

The one rule: the same text gives the same keys, wherever it stands. (Keys may change with the version of Polars, whose
hash of a string they are made of; nothing stores them.)
"""

from __future__ import annotations

import polars as pl

# What is found in most texts is taken out of all in one pass; what else there is, in slower ones of the texts with more.
_SPACES = [*"\t\n\v\f\r\u00a0\u2002\u2003\u2009\u202f"]
_ASCII = [char for char in map(chr, range(128)) if not (char.isalnum() or char in " _\t\n\v\f\r")]
_MARKS = [*_ASCII, *"“”‘’‚„–—―…•·«»€£°©®™§¿¡‐‑−×→′″\u00ad\u200b\ufeff"]
_OTHER = r"[^\w\s]"
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
FACTOR = 0x9E3779B97F4A7C15  # a large odd number: makes a key of words depend on their order


def shingles(texts: pl.Series, size: int) -> pl.DataFrame:
    """Columns `row` (place of the text), `place` (of the first word among the text's words) and `key`, one row for each
    `size` consecutive words. The rows of a text stand together, in order; texts are in any order. A text of fewer words
    has one shingle, of all of them; one without words has none.
    """
    hashed = words(texts).select("row", key=pl.col("word").hash(0))
    whole = pl.col("row") == pl.col("row").shift(1 - size)
    key = pl.col("key")
    for ahead in range(1, size):
        key = key * FACTOR + pl.col("key").shift(-ahead)
    start = pl.col("row") != pl.col("row").shift(1, fill_value=2**32 - 1)
    full = hashed.select("row", key=key ^ (key // 2**29)).filter(whole) if size > 1 else hashed
    short = hashed.filter(start & ~whole.fill_null(value=False))["row"] if size > 1 else hashed["row"].clear()
    return pl.concat([full, _whole_texts(hashed, short)]) if len(short) else full


def words(texts: pl.Series) -> pl.DataFrame:
    """Columns `row` and `word`: the words of each text, in order. The words of a text stand together."""
    frame = texts.alias("word").to_frame().with_row_index("row")
    blanks = [*[""] * len(_MARKS), *[" "] * len(_SPACES)]
    frame = frame.with_columns(pl.col("word").str.to_lowercase().str.replace_many([*_MARKS, *_SPACES], blanks))
    plain = pl.col("word").str.len_bytes() == pl.col("word").str.len_chars()
    parts = [frame.filter(plain), _beyond_ascii(frame.filter(~plain))]
    split = [part.with_columns(pl.col("word").str.split(" ")).explode("word") for part in parts if part.height]
    return pl.concat(split or [frame]).filter(pl.col("word") != "")


def _beyond_ascii(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(more=pl.col("word").str.contains(rf"{_OTHER}|[^\S ]|{_UNSPACED}"))
    word = pl.col("word").str.replace_all(_OTHER, "").str.replace_all(r"\s", " ")
    apart = frame.filter("more").with_columns(word.str.replace_all(f"({_UNSPACED})", " $1 "))
    return pl.concat([frame.filter(~pl.col("more")), apart]).drop("more")


def _whole_texts(hashed: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    order = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    found = hashed.filter(pl.col("row").is_in(rows.implode())).group_by("row", maintain_order=True)
    return found.agg((pl.col("key") * FACTOR * order).sum())
