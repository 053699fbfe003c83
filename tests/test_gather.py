"""Stages over the whole dataset: exact duplicates and samples."""

from __future__ import annotations

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.stages.gather import DropDuplicates, Sample
from tests.conftest import judged


def texts(*values: str) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"d{n}" for n in range(len(values))], "text": list(values)})


def kept(stage, records: pl.DataFrame) -> list[str]:
    return judged(stage, records).filter(pl.col("reason").is_null())["id"].to_list()


def test_the_first_of_equal_texts_is_kept():
    records = texts("One  two\n", "three", "one two", "ONE\tTWO", "three.", "three")
    assert kept(DropDuplicates(), records) == ["d0", "d1", "d4"]
    assert kept(DropDuplicates(normalise=False), records) == ["d0", "d1", "d2", "d3", "d4"]
    assert set(judged(DropDuplicates(), records)["reason"]) == {None, "duplicate"}


def test_duplicates_by_another_field():
    records = texts("a", "b", "c").with_columns(url=pl.Series(["x", "y", "X"]))
    assert kept(DropDuplicates(field="url"), records) == ["d0", "d1"]
    with pytest.raises(RecipeError, match="no field 'link'; the records have id, text, url"):
        judged(DropDuplicates(field="link"), records)


def test_no_rows():
    records = texts("a").clear()
    assert kept(DropDuplicates(), records) == kept(Sample(size=3), records) == []


def test_a_sample_has_its_size_and_keeps_order():
    records = texts(*"abcdefghij" * 10)
    for size, expected in ((0, 100), (1, 1), (30, 30), (100, 100), (500, 100)):
        ids = kept(Sample(size=size), records)
        assert len(ids) == expected
        assert ids == sorted(ids, key=lambda key: int(key[1:]))
    assert set(judged(Sample(size=3), records)["reason"]) == {None, "not_sampled"}


def test_a_larger_sample_holds_the_smaller_and_order_makes_no_difference():
    records = texts(*"abcdefghij" * 10)
    small, large = (set(kept(Sample(size=size), records)) for size in (10, 40))
    assert small < large
    assert set(kept(Sample(size=10), records.reverse())) == small
    assert set(kept(Sample(size=10, seed=1), records)) != small


def test_draws_are_fixed_for_ever():
    """A sample drawn with one version is the sample of the next: stored steps count on it."""
    assert kept(Sample(size=3), texts(*"abcdefghij")) == ["d2", "d6", "d8"]
