"""Samples by strata, by score and by root."""

import math
from collections import Counter

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.stages.keep import worth_of
from reinstruct.stages.sample import CapRoots, KeepBest, SampleStrata, root_of
from reinstruct.stages.verbs import VerbList
from tests.conftest import FrameRows, judged


def corpus() -> pl.DataFrame:
    sources = ["web"] * 80 + ["book"] * 16 + ["note"] * 4
    return pl.DataFrame(
        {"id": [f"d{n}" for n in range(100)], "source": sources, "text": ["x" * 40] * 50 + ["x" * 90] * 50}
    )


def kept(stage, frame: pl.DataFrame) -> pl.DataFrame:
    return judged(stage, frame).filter(pl.col("reason").is_null())


def test_strata_get_equal_shares_as_far_as_they_go():
    found = kept(SampleStrata(30, lengths=False), corpus())
    assert Counter(found["source"]) == {"web": 13, "book": 13, "note": 4}
    both = kept(SampleStrata(30), corpus())
    sizes = Counter(zip(both["source"], both["text"].str.len_chars(), strict=True))
    assert sizes.pop(("note", 90)) == 4
    assert sorted(sizes.values()) == [8, 9, 9]  # books, and short and long pages of the web


def test_proportional_shares_follow_the_strata():
    found = kept(SampleStrata(25, lengths=False, shares="proportional"), corpus())
    assert Counter(found["source"]) == {"web": 20, "book": 4, "note": 1}


def test_texts_of_no_length_are_a_stratum_of_the_shortest():
    frame = corpus().with_columns(text=pl.Series(["", None, "x", "y"] + ["x" * 40] * 96))
    found = kept(SampleStrata(8, by=()), frame)
    assert Counter(found["text"].fill_null("").str.len_chars() <= 1) == {True: 4, False: 4}


def test_a_sample_depends_on_the_seed_and_not_on_the_order():
    stage = SampleStrata(30, seed=3)
    ids = set(kept(stage, corpus())["id"])
    assert ids == set(kept(stage, corpus().reverse())["id"]) != set(kept(SampleStrata(30, seed=4), corpus())["id"])
    assert kept(SampleStrata(), corpus()).height == 100
    with pytest.raises(RecipeError, match="equal or proportional"):
        SampleStrata(shares="fair")


def test_the_best_stay_and_rows_without_a_score_go_first():
    values = [0.5, None, 0.9, 0.5, 0.1]
    scores = [[{"name": "quality", "value": value}] if value else [] for value in values]
    frame = pl.DataFrame({"id": list("abcde"), "scores": scores, "text": ["x" * n for n in (3, 9, 1, 2, 5)]})
    assert kept(KeepBest("quality", 2), frame)["id"].to_list() == ["a", "c"]
    assert kept(KeepBest("quality", 4), frame)["id"].to_list() == ["a", "c", "d", "e"]
    assert kept(KeepBest("longest", 2), frame)["id"].to_list() == ["b", "e"]
    assert judged(KeepBest("quality", 2), frame)["reason"].to_list()[1] == "not_best"


def test_a_score_that_no_row_has_is_refused_and_one_that_some_have_is_not():
    scores = [[]] * 5 + [[{"name": "quality", "value": 0.5}, {"name": "cycle", "value": 1.0}]] * 3
    frame = pl.DataFrame({"id": list("abcdefgh"), "scores": scores, "text": ["x"] * 8})
    told = r"none of the rows has a score 'qualty' \(did you mean 'quality'\?\); they have cycle, quality"
    with pytest.raises(RecipeError, match=told):
        judged(KeepBest("qualty", 2), frame)
    with pytest.raises(RecipeError, match="'quality'; they have no scores"):
        judged(KeepBest("quality", 2), frame.head(5).with_columns(scores=frame["scores"].slice(0, 5)))
    (worth,) = worth_of(FrameRows(frame), "quality", "text", pl.Series([1, 2], dtype=pl.UInt32))["worth"].unique()
    assert worth == -math.inf, "rows that lack it are worth the least where others have it"


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("Please write a short poem on rain.", "write poem"),
        ("Write me three funny poems about cats", "write poem"),
        ("Explain why it rains.", "explain"),
        ("Can you create a Python function that sorts?", "create function"),
        ("In this task you are given a text. Classify the sentiment of it.", "classify sentiment"),
        ("Given the name of an exercise, explain how to do it.", "explain"),
        ("What is the relation between the pairs?", ""),
        ("Solving the math word problem", ""),
        ("", ""),
    ],
)
def test_roots_are_a_verb_and_its_noun(text, root):
    assert root_of(text, VerbList()) == root


def test_roots_are_capped_and_those_without_stay():
    rows = [f"Write a poem about {n}" for n in range(6)] + ["Explain rain", "Why?", "Why not?", "Where?"]
    frame = pl.DataFrame({"id": [f"p{n}" for n in range(10)], "instruction": rows})
    found = judged(CapRoots(2), frame)
    assert found["reason"].to_list()[6:] == [None] * 4
    assert found.filter(pl.col("reason") == "root_full")["detail"].to_list() == ["write poem"] * 4
    assert set(kept(CapRoots(2), frame)["id"]) == set(kept(CapRoots(2), frame.reverse())["id"])
    assert kept(CapRoots(), frame).height == 10
