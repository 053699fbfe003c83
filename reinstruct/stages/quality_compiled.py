"""English text cut into words by the compiled loop of `_words.c`, a piece between white space at a time.

The one rule: its words are those of `quality_words`, which judges what the loop is not sure of.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import polars as pl
import pyarrow as pa

from reinstruct.stages import quality_words
from reinstruct.stages.compiled import packaged
from reinstruct.stages.quality_english import CUT, entries
from reinstruct.stages.quality_words import is_address
from reinstruct.views import large_texts, numbers_of, unsigned, views_of

try:
    from reinstruct._words import cut_words as cut_words
    from reinstruct._words import different_pieces as different_pieces
    from reinstruct._words import run_chars as run_chars
except ImportError:  # installed where there was no C compiler
    cut_words = different_pieces = run_chars = None

IS_THERE = cut_words is not None  # nothing else here may be used where it is not
MARKS = "marks.z"  # beside this file; build_letters.py makes it
_MAY_BE_ADDRESS, _UNKNOWN = 1, 2  # as in _words.c, behind 0 for words that are sure
_RUNS = range(2, 11)  # words in the runs that are counted, as in _words_runs.h
_REST = "\x1e"  # on both sides of what may be an address


def numbered(texts: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """How many pieces each text has, the number of each in order, and the different ones."""
    assert different_pieces is not None
    counts, numbers, *pieces = different_pieces(*views_of(texts), packaged(MARKS))
    return unsigned(counts, pa.uint32(), 4), unsigned(numbers, pa.uint32(), 4), large_texts(*pieces)


def runs(lengths: pl.Series, numbers: pl.Series, words: pl.DataFrame) -> dict[int, pl.Series]:
    """Of each text, by words in a run: characters in the commonest run, and, from five on, in runs that stood before.

    `words` has those of each different piece (at, key, chars), in order.
    """
    assert run_chars is not None
    of_words = (numbers_of(words["at"], 4), numbers_of(words["key"], 8), numbers_of(words["chars"], 8))
    found = unsigned(run_chars(numbers_of(lengths, 4), numbers_of(numbers, 4), *of_words), pa.uint64(), 8)
    return {n: found.gather_every(len(_RUNS), at) for at, n in enumerate(_RUNS)}


def cut(found: pl.Series) -> pl.Series:
    """As `quality_words.cut`."""
    said, words = _cut(found, divides=True)
    for kind, judge in ((_MAY_BE_ADDRESS, _with_addresses), (_UNKNOWN, quality_words.cut)):
        which = (said == kind).arg_true()
        if len(which):
            words = words.scatter(which, judge(found.gather(which)))
    return words


def _with_addresses(found: pl.Series) -> pl.Series:
    """The words of pieces that may be an address with marks around; where it is one, it is a word."""
    words, apart = _cut(found, divides=True)[1], _cut(found, divides=False)[1]
    rows = pl.DataFrame({"words": words, "apart": apart})
    is_whole = is_address(pl.col("apart").str.extract(f"{_REST}(.*){_REST}"))
    whole = pl.col("apart").str.strip_chars(_REST).str.replace_all(_REST, CUT, literal=True)
    return rows.select(pl.when(is_whole).then(whole).otherwise("words")).to_series()


def _cut(found: pl.Series, *, divides: bool) -> tuple[pl.Series, pl.Series]:
    """What the loop says of each piece, and its words."""
    assert cut_words is not None
    said, *words = cut_words(*views_of(found), packaged(MARKS), *_strings(), divides)
    return unsigned(said, pa.uint8(), 1), large_texts(*words)


@cache
def _strings() -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]:
    """Entries, their words, and units."""
    return _encoded(entries()), _encoded(entries().values()), _encoded(quality_words.units())


def _encoded(strings: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(string.encode() for string in strings)
