"""The words of texts, whole columns at a time: texts of words with spaces between them and nothing else.

A word is a run of letters, marks, digits and underscores, in lower case; anything else is between words. Scripts that
put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) have a word in each character, so
five words of theirs are five characters.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from reinstruct.stages.scripts import UNSPACED

_OLDEST = pl.CompatLevel.oldest()  # of Arrow's forms of text, the one with all bytes end to end
_ASCII = bytes(ord(chr(code).lower()) if chr(code).isalnum() or code == 95 else 32 for code in range(128))
_BYTES = _ASCII + bytes(range(128, 256))
_MARKS = r"[^\w\x00-\x7f]"
_UNSPACED = f"([{UNSPACED}])"


def words(text: str) -> list[str]:
    """The words of the text, in order."""
    return [word for word in spaced(pl.Series([text]))[1].item().split(" ") if word]


def spaced(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Places of the texts, in any order, and the texts: in lower case, with a space for each character that is in no
    word, and spaces around those that are words by themselves.
    """
    # Operators, filter and concat: other methods of a series go through the query engine, 100 microseconds a call.
    text, row = _lowered(texts), pl.int_range(len(texts), dtype=pl.UInt32, eager=True)
    texts_done, rows_done = [text.head(0)], [row.head(0)]
    for step in (_without_marks, _in_exact_words):
        is_ascii = text.str.len_bytes() == text.str.len_chars()
        if is_ascii.all():
            break
        texts_done.append(text.filter(is_ascii))
        rows_done.append(row.filter(is_ascii))
        text, row = step(text.filter(~is_ascii)), row.filter(~is_ascii)
    return pl.concat([*rows_done, row]), pl.concat([*texts_done, text])


def _lowered(texts: pl.Series) -> pl.Series:
    """The texts with ASCII in lower case and spaces for its marks, the rest as it was; empty where there is none."""
    arrow = end_to_end(texts)
    _, offsets, data = arrow.buffers()
    lowered = pa.py_buffer(data.to_pybytes().translate(_BYTES))
    return pl.Series(pa.Array.from_buffers(arrow.type, len(arrow), [None, offsets, lowered], offset=arrow.offset))


def end_to_end(texts: pl.Series) -> Any:
    """Arrow's array of the texts, empty where there is none: buffers of 64-bit offsets and of bytes."""
    return (texts.fill_null("") if texts.null_count() else texts).rechunk().to_arrow(compat_level=_OLDEST)


def _without_marks(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(_MARKS, " ")


def _in_exact_words(texts: pl.Series) -> pl.Series:
    # These three would become two characters, or one of two by what stands around them.
    plain = pl.col("text").str.replace_all("[İ]", "i").str.replace_all("[Σς]", "σ").str.to_lowercase()
    text = texts.alias("text").to_frame().select(plain)["text"]
    return text.str.replace_all(_UNSPACED, " $1 ") if text.str.contains(_UNSPACED).any() else text
