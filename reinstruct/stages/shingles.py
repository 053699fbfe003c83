"""Runs of consecutive words as 64-bit keys, whole columns at a time: what near-duplicates and leaks are found by.

A word is a run of letters, marks, digits and underscores, in lower case; anything else is between words. Scripts that
put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) have a word in each character, so
five words of theirs are five characters.

The one rule: the same text gives the same keys, wherever it stands. A word's key is a polynomial of its letters, so the
keys of a million words are one running sum, of which every word takes the difference of two places.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

FACTOR = 0x9E3779B97F4A7C15  # a large odd number: makes a key depend on the order of what it is made of
_BASE = 0xD1342543DE82EF95  # of the polynomial; odd, so that it has an inverse
_BLOCK = 1 << 18  # characters looked at together; a running sum takes 50 bytes for each
_WHITE = re.compile(r"\s")
_ZERO = pl.Series("key", [0], dtype=pl.UInt64)

_TABLE = 0x40000  # from here on characters are between words
_IDEOGRAPHS = 0x20000  # from here up to there each is a word
_ALONE = 1 << 31  # added to a letter that is a word by itself
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() or code == 95 else 0 for code in range(128)) + bytes(128)


class Words(NamedTuple):
    """A string as columns with a row for each character."""

    letters: pl.Series  # in lower case, as a number; 0 between words
    begins: pl.Series  # whether a word begins here
    ends: pl.Series  # whether this is the last letter of a word


def shingles(texts: pl.Series, size: int) -> pl.DataFrame:
    """Columns `row` (place of the text) and `key`, one row for each `size` consecutive words. The rows of a text stand
    together, in order; texts are in any order. A text of fewer words has one shingle, of all of them; one without
    words has none.
    """
    hashed = _hashed(texts)
    count = max(0, hashed.height - size + 1)
    row, word = hashed["row"], hashed["key"]
    key = word.head(count)
    for ahead in range(1, size):
        key = key * FACTOR + word.slice(ahead, count)
    full = pl.DataFrame({"row": row.head(count), "key": key}).filter(row.head(count) == row.slice(size - 1))
    runs = row.rle().struct.unnest().with_columns(end=pl.col("len").cum_sum())
    short = runs.filter(pl.col("len") < size)
    return pl.concat([full, _whole_texts(hashed, short)], rechunk=True) if short.height else full


def words(text: str) -> list[str]:
    """The words of the text, in order."""
    letters, begins, ends = _words(text)
    lower = "".join(map(chr, letters.cast(pl.UInt32) % _ALONE))
    return [lower[first : last + 1] for first, last in zip(begins.arg_true(), ends.arg_true(), strict=True)]


def _hashed(texts: pl.Series) -> pl.DataFrame:
    """Columns `row` and `key`, one row for each word: the words of a text in order, texts in any order."""
    frame = pl.DataFrame({"text": texts.fill_null("")}).with_row_index("row")
    is_ascii = frame["text"].str.len_bytes() == frame["text"].str.len_chars()
    parts = [frame] if is_ascii.all() else [frame.filter(is_ascii), frame.filter(~is_ascii)]
    return pl.concat([_hashed_alike(part) for part in parts], rechunk=True)


def _hashed_alike(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns `row` and `key` of texts that are all ASCII, or none."""
    joined, start = " ".join(frame["text"].to_list()), 0
    places, keys = [pl.Series(dtype=pl.UInt32)], [pl.Series("key", dtype=pl.UInt64)]
    for block in _blocks(joined):
        found = _words(block)
        places.append(pl.int_range(start, start + len(block), dtype=pl.UInt32, eager=True).filter(found.begins))
        keys.append(_keys(found))
        start += len(block)
    lengths = frame["text"].str.len_chars() + 1
    first = pl.concat(places, rechunk=True).search_sorted(lengths.cum_sum())
    counts = first - first.shift(1, fill_value=0)
    rows = frame.select("row", count=counts).filter(pl.col("count") > 0)
    return rows.select(pl.col("row").repeat_by("count").explode()).with_columns(pl.concat(keys, rechunk=True))


def _blocks(text: str) -> Iterator[str]:
    """The text in pieces of about _BLOCK characters that begin with white space."""
    start = 0
    while start < len(text):
        white = _WHITE.search(text, start + _BLOCK)
        end = white.start() if white else len(text)
        yield text[start:end]
        start = end


def _words(text: str) -> Words:
    letters = _letters(f" {text} ")
    size, inside = len(text), letters != 0
    word, before, after = inside.slice(1, size), inside.head(size), inside.slice(2)
    begins, ends = word & ~before, word & ~after
    if letters.dtype == pl.UInt32:
        alone = letters >= _ALONE
        if alone.any():
            begins |= word & (alone.slice(1, size) | alone.head(size))
            ends |= word & (alone.slice(1, size) | alone.slice(2))
    return Words(letters.slice(1, size), begins, ends)


def _letters(text: str) -> pl.Series:
    if text.isascii():
        data = text.encode().translate(_ASCII)
        return pl.Series(pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)]))
    code = _codes(text)
    highest = pc.max(code).as_py()
    code = pc.min_element_wise(code, pa.scalar(_TABLE, pa.uint32())) if highest > _TABLE else code
    return pl.Series(pc.take(_table(), code, boundscheck=False))


def _codes(text: str) -> Any:
    data = text.encode("utf-32-le")
    return pa.Array.from_buffers(pa.uint32(), len(data) // 4, [None, pa.py_buffer(data)])


def _keys(found: Words) -> pl.Series:
    """A key for each word: the sum of its letters, each times a power of the base by its place in the word."""
    inside = found.letters != 0
    letters = found.letters.filter(inside).cast(pl.UInt64)
    powers, inverses = _powers(max(len(letters), 2 * _BLOCK))
    terms: Any = (letters * powers.head(len(letters))).to_arrow()
    total = pl.Series("key", pc.cumulative_sum(terms)).filter(found.ends.filter(inside))
    before = pl.concat([_ZERO, total.head(max(0, len(total) - 1))], rechunk=True).head(len(total))
    return (total - before) * inverses.head(len(letters)).filter(found.begins.filter(inside))


@lru_cache(maxsize=1)
def _powers(size: int) -> tuple[pl.Series, pl.Series]:
    """The powers of the base and of its inverse, from the first on."""
    bases = (_BASE, pow(_BASE, -1, 2**64))
    of_base, of_inverse = (pl.repeat(base, size, dtype=pl.UInt64, eager=True).cum_prod() for base in bases)
    return of_base, of_inverse


@cache
def _table() -> Any:
    """What each character below _TABLE becomes: itself in lower case, marked if it is a word alone, or 0."""
    every = array("I", range(_IDEOGRAPHS)).tobytes().decode("utf-32-le", "surrogatepass")
    valid = every[:0xD800] + " " * 0x800 + every[0xE000:]
    # These three would become two characters, or one of two by what stands around them.
    plain = valid.replace("İ", "i").replace("Σ", "σ").replace("ς", "σ")
    inside = pl.Series([plain]).str.to_lowercase().str.replace_all(r"\W", "\0")
    letters = pl.Series(_codes(inside.item()))
    spaced = pl.Series(_codes(inside.str.replace_all(_UNSPACED, "\0").item()))
    ideographs = pl.int_range(_IDEOGRAPHS, _TABLE, dtype=pl.UInt32, eager=True) + _ALONE
    none = pl.Series([0], dtype=pl.UInt32)
    marked = letters + (letters != spaced).cast(pl.UInt32) * _ALONE
    return pl.concat([marked, ideographs, none], rechunk=True).to_arrow()


def _whole_texts(hashed: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """One key for each of the texts whose words stand at `len` places up to `end`."""
    order = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    places = runs.select(pl.int_ranges(pl.col("end") - pl.col("len"), "end").explode()).to_series()
    found = hashed.select(pl.all().gather(places)).group_by("row", maintain_order=True)
    return found.agg((pl.col("key") * FACTOR * order).sum())
