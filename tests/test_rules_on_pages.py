"""The rules on real pages, labelled by the folder each was published in; ids that end in an odd digit alone.

The limits were chosen on the even ids.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from reinstruct.stages.gather import DropDuplicates
from reinstruct.stages.quality import preset
from tests.conftest import judged

FOREIGN = r"(?:asp|pb)-source@\w+:[a-z]|osbooks-(?:psychologia|fisica|mikroekonomia)|glossary@\w+:content/[a-z]"
ENGLISH = r"(?:asp|pb)-source@\w+:(?:en|sw)/|glossary@\w+:content/en/"
LABELS = {
    "code": r"30-seconds-of-code@\w+:snippets|fullstackpython\.com@\w+:content/pages/examples",
    "lists": r"this-week-in-rust@|tldr@|free-programming-books@\w+:(?:books|courses|casts|more)/",
    "prose": r"classic-books|osbooks-(?:nursing|principles|introduction|college)|digitalgov|18f\.gsa\.gov|"
    r"plainlanguage|18F/guides|18F/handbook|benbalter|carpentries|blog\.rust|LCTT|gensim|mtlynch|privacyguides|artsy|"
    r"roweb",
}
LANGUAGE = {"foreign_script", "wrong_language"}
MENUS = {"list_lines", "stub_lines", "link_lines", "few_sentences", "code_lines", "few_letters"}


@pytest.fixture(scope="module")
def pages() -> pl.DataFrame:
    """Of the three corpora: id, text, label, and what `general` says."""
    from tests.conftest import shared_folder

    folder = shared_folder()
    rows: list[dict[str, str]] = []
    for name in ("en", "zh", "multilingual"):
        with gzip.open(folder / "corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines]
        rows += [{"id": row["id"], "text": row["text"], "source": row["source"], "corpus": name} for row in found]
    source = pl.col("source")
    foreign = (pl.col("corpus") != "en") | (source.str.contains(FOREIGN) & ~source.str.contains(ENGLISH))
    label = pl.when(foreign).then(pl.lit("foreign"))
    for name, pattern in LABELS.items():
        label = label.when(source.str.contains(pattern)).then(pl.lit(name))
    labelled = pl.DataFrame(rows).with_columns(label=label)
    odd = pl.col("id").str.contains("[13579bdf]$") & (pl.col("text").str.len_chars() >= 400)
    few = (pl.col("label") != "prose") | pl.col("id").str.contains("^[0-3]")  # a quarter of the prose tells enough
    return labelled.filter(odd & few).with_columns(preset("general").reason().alias("reason"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "right", "least"),
    [("code", {"code_lines", "few_letters"}, 0.9), ("lists", MENUS, 0.85), ("prose", {None}, 0.9)],
)
def test_pages_get_the_right_verdict(pages: pl.DataFrame, label: str, right: set[str | None], least: float):
    reasons = pages.filter(pl.col("label") == label)["reason"].to_list()
    assert len(reasons) > 100
    assert sum(reason in right for reason in reasons) / len(reasons) >= least


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["en", "zh", "multilingual"])
def test_pages_in_another_language_are_told_as_that(pages: pl.DataFrame, corpus: str):
    found = pages.filter((pl.col("label") == "foreign") & (pl.col("corpus") == corpus))["reason"]
    assert len(found) > 300
    assert found.is_in(list(LANGUAGE)).mean() >= 0.9
    assert found.null_count() / len(found) < 0.02


@pytest.mark.slow
def test_every_exact_copy_is_a_duplicate(pages: pl.DataFrame, tmp_path: Path):
    rows = pages.filter(pl.col("text").is_duplicated() | (pl.int_range(pl.len()) % 40 == 0)).drop("reason")
    copies = ~rows["text"].is_first_distinct()
    assert copies.sum() > 5
    reasons = judged(DropDuplicates(), rows)["reason"]
    assert reasons.filter(copies).unique().to_list() == ["duplicate"]
    assert reasons.filter(~copies).null_count() == (~copies).sum()
