"""Runs of consecutive words as 64-bit keys, whole columns at a time: what near-duplicates and leaks are found by.

A word is a run of letters, marks, digits and underscores, in lower case; anything else is between words. Scripts that
put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) have a word in each character, so
five words of theirs are five characters.

The one rule: the same text gives the same keys, wherever it stands. Keys hold within one version of Polars, which
hashes the words: nothing may store them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

FACTOR = 0x9E3779B97F4A7C15  # a large odd number: makes a key depend on the order of what it is made of
_OLDEST = pl.CompatLevel.oldest()  # of Arrow's forms of text, the one with all bytes end to end
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() or code == 95 else 32 for code in range(128))
_BYTES = _ASCII + bytes(range(128, 256))
_COMMON = "[–—‘’“”…•]"  # their UTF-8 begins alike, so that they are found many times faster than others
_MARKS = r"[^\w\x00-\x7f]"
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])"


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
    rows, key = _hashed(texts)
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


def words(text: str) -> list[str]:
    """The words of the text, in order."""
    return [word for word in _spaced(pl.Series([text]))[1].item().split(" ") if word]


def _hashed(texts: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """Of each text that has words its place (`row`), how many (`len`), and the keys of them all, text by text."""
    row, text = _spaced(texts)
    lists = text.str.split(" ")
    pieces, upto = lists.explode(), lists.list.len().cum_sum()
    is_word = pieces != ""  # two marks side by side have nothing between them
    upto -= pl.int_range(len(pieces), dtype=pl.UInt32, eager=True).filter(~is_word).search_sorted(upto)
    counts = upto - upto.shift(1, fill_value=0)
    return pl.DataFrame({"row": row, "len": counts}).filter(counts > 0), pieces.filter(is_word).hash()


def _spaced(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Places of the texts, in any order, and the texts: in lower case, with a space for each character that is in no
    word, and spaces around those that are words by themselves.
    """
    # Operators, filter and concat: other methods of a series go through the query engine, 100 microseconds a call.
    text, row = _lowered(texts), pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    texts_done, rows_done = [text.head(0)], [row.head(0)]
    for step in (_without_common_marks, _without_marks, _in_exact_words):
        is_ascii = text.str.len_bytes() == text.str.len_chars()
        if is_ascii.all():
            break
        texts_done.append(text.filter(is_ascii))
        rows_done.append(row.filter(is_ascii))
        text, row = step(text.filter(~is_ascii)), row.filter(~is_ascii)
    return pl.concat([*rows_done, row]), pl.concat([*texts_done, text])


def _lowered(texts: pl.Series) -> pl.Series:
    """The texts with ASCII in lower case and spaces for its marks, the rest as it was; empty where there is none."""
    arrow: Any = (texts.fill_null("") if texts.null_count() else texts).rechunk().to_arrow(compat_level=_OLDEST)
    _, offsets, data = arrow.buffers()
    lowered = pa.py_buffer(data.to_pybytes().translate(_BYTES))
    return pl.Series(pa.Array.from_buffers(arrow.type, len(arrow), [None, offsets, lowered], offset=arrow.offset))


def _without_common_marks(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(_COMMON, " ")


def _without_marks(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(_MARKS, " ")


def _in_exact_words(texts: pl.Series) -> pl.Series:
    # These three would become two characters, or one of two by what stands around them.
    plain = pl.col("text").str.replace_all("[İ]", "i").str.replace_all("[Σς]", "σ").str.to_lowercase()
    text = texts.alias("text").to_frame().select(plain)["text"]
    return text.str.replace_all(_UNSPACED, " $1 ") if text.str.contains(_UNSPACED).any() else text


def _places(texts: pl.DataFrame) -> pl.Series:
    """Where the words of these texts are, `len` of them up to `end`."""
    return texts.select(pl.int_ranges(pl.col("end") - pl.col("len"), "end", dtype=pl.UInt32).explode()).to_series()


def _whole_texts(key: pl.Series, texts: pl.DataFrame) -> pl.Series:
    """One key for each of these texts, of all its words."""
    rows = texts.select(pl.col("row").repeat_by("len").explode()).with_columns(key=key.gather(_places(texts)))
    order = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    return rows.group_by("row", maintain_order=True).agg((pl.col("key") * FACTOR * order).sum())["key"]
