"""The compiled loop gives what Polars gives, for any text: a dataset does not depend on where it was made."""

import array
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reinstruct.stages import build_letters, compiled, quality_compiled, screen
from reinstruct.stages.near_duplicates import band_keys_in_columns
from reinstruct.stages.shingles import Shingles, shingled, shingled_in_columns

pytestmark = pytest.mark.skipif(compiled.shingle_keys is None, reason="the package was installed without a C compiler")

CHARACTERS = some.one_of(
    some.characters(codec="utf-8"),
    some.sampled_from("aAzZ09_ .,-'\n\t\x00\x7fßİΣςé—“…中文の한ไทย👍🏽\U0001d400\U0002b820\u0301\u202f"),
)
TEXTS = some.lists(some.one_of(some.none(), some.text(CHARACTERS, max_size=60)), max_size=8)


def by_row(found: Shingles) -> dict[int, list[int]]:
    keys = iter(found.keys.to_list())
    return {row: [next(keys) for _ in range(length)] for row, length in found.rows.select("row", "len").iter_rows()}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(texts=TEXTS, size=some.integers(1, 6), start=some.integers(0, 2))
def test_shingles_are_those_of_the_columns(texts, size, start):
    column = pl.Series(texts, dtype=pl.String).slice(start)
    assert by_row(shingled(column, size)) == by_row(shingled_in_columns(column, size))


def test_each_character_is_what_it_is_in_the_columns():
    codes = [code for code in range(1, 0x20010) if not 0xD800 <= code < 0xE000]
    texts = pl.Series(["".join(f"A{chr(code)}B " for code in codes[at : at + 64]) for at in range(0, len(codes), 64)])
    assert by_row(shingled(texts, 1)) == by_row(shingled_in_columns(texts, 1))


def test_the_tables_that_are_shipped_are_those_that_are_built():
    assert compiled.packaged(compiled.LETTERS) == build_letters.table()
    assert compiled.packaged(screen.CLASSES) == build_letters.classes()
    assert compiled.packaged(quality_compiled.MARKS) == build_letters.marks()


def test_a_word_is_mixed_from_all_of_its_bytes():
    words = [letter * length for letter in "ab\u00e9" for length in range(1, 40)]
    keys = by_row(shingled(pl.Series(words), 1))
    assert len({key for (key,) in keys.values()}) == len(words)


def test_band_keys_are_those_of_the_columns():
    draw = random.Random(3)
    signatures = [[draw.getrandbits(32) for _ in range(24)] for _ in range(50)]
    assert compiled.band_keys is not None
    own = memoryview(compiled.band_keys(signatures, 4, 6)).cast("Q").tolist()
    assert own == band_keys_in_columns(signatures, 4, 6).to_list()
    assert compiled.band_keys([], 4, 6) == bytearray()


@pytest.mark.parametrize(
    ("offsets", "letters", "size", "told"),
    [
        ([0, 9], 0, 5, "offsets do not lie in order within 3 bytes"),
        ([2, 1], 0, 5, "offsets do not lie in order"),
        ([-1, 1], 0, 5, "offsets do not lie in order"),
        ([], 0, 5, "offsets do not lie in order"),
        ([0, 3], 16, 5, "letters has 16 bytes"),
        ([0, 3], 0, 0, "a run of 0 words"),
    ],
)
def test_what_cannot_be_is_refused(offsets, letters, size, told):
    assert compiled.shingle_keys is not None
    with pytest.raises(ValueError, match=told):
        compiled.shingle_keys(b"abc", array.array("q", offsets), bytes(letters), size)


@pytest.mark.parametrize("signatures", [[[1, 2]], [[1, "x", 3]], [[1, -2, 3]], [7]])
def test_signatures_of_another_shape_are_refused(signatures):
    assert compiled.band_keys is not None
    with pytest.raises((IndexError, TypeError, OverflowError, SystemError)):
        compiled.band_keys(signatures, 1, 3)
