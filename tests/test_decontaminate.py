"""Leaks of test sets are found and quoted, in every field, whatever their case and punctuation."""

import gzip
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reinstruct.errors import RecipeError
from reinstruct.identity import describe, restore
from reinstruct.stages.decontaminate import DropLeaks
from reinstruct.stages.leak_sets import TestSets as Sets  # pytest would collect a class of that name

QUESTION = "A farmer has seventeen sheep, and all but nine run away; how many are left with the farmer at night?"


@pytest.fixture
def item_file(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [
        {"id": "q1", "turns": [{"text": "What is two and two, please tell?"}]},
        {"question": QUESTION, "answer": "yes"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdicts(stage: DropLeaks, **columns: list[str]) -> list[tuple[str | None, str | None]]:
    return pl.DataFrame(columns).select(stage.reason().alias("said")).unnest("said").rows()


def test_a_leak_is_quoted_with_file_and_row(item_file):
    page = f"Riddles for children. {QUESTION.upper().replace(',', '')} The answer is on the last page."
    clean = "A farmer has seventeen sheep, and all but nine run home, which is another matter altogether."
    found = verdicts(DropLeaks(Sets.read(str(item_file))), text=[clean, page, "", "yes"])
    assert [reason for reason, _ in found] == [None, "contaminated", None, None]
    shared = "a farmer has seventeen sheep and all but nine run away how many are left with the farmer at night"
    assert found[1][1] == f"sums.jsonl row 2: {shared}"


def test_short_items_must_be_the_whole_field(item_file):
    stage = DropLeaks(Sets.read(str(item_file)), ("instruction", "output"))
    instructions = ["What is two and two? Please tell!", "He asked: what is two and two, please tell?", "Add."]
    found = verdicts(stage, instruction=instructions, output=["4", "four", "What is two and two please tell"])
    assert [reason for reason, _ in found] == ["contaminated", None, "contaminated"]
    assert found[0][1] == "sums.jsonl row 1: what is two and two please tell"
    short = DropLeaks(Sets.read(str(item_file)), ("instruction",), run=4)
    assert [reason is None for reason, _ in verdicts(short, instruction=instructions)] == [False, False, True]


def test_test_sets_may_be_gzipped_or_parquet(item_file, tmp_path):
    zipped, table = tmp_path / "sums.jsonl.gz", tmp_path / "sums.parquet"
    zipped.write_bytes(gzip.compress(item_file.read_bytes()))
    pq.write_table(pa.table({"question": [QUESTION], "choices": [["one", "two"]]}), table)
    assert list(Sets.read(str(zipped)).texts())[-2:] == [
        (QUESTION, "sums.jsonl.gz row 2"),
        ("yes", "sums.jsonl.gz row 2"),
    ]
    both = Sets.read(f"{zipped}, {table}")
    assert [text for text, _ in both.texts()][-3:] == [QUESTION, "one", "two"]


def test_the_files_content_is_the_identity_and_not_its_place(item_file, tmp_path):
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(item_file.read_bytes())
    one, other = (DropLeaks(Sets.read(str(path))) for path in (item_file, moved))
    assert describe(one, identity=True) == describe(other, identity=True)
    assert restore(describe(one), {}) == one
    changed = Sets((str(item_file),), ("0" * 64,))
    with pytest.raises(RecipeError, match="changed since the plan was made"):
        list(changed.texts())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.jsonl", None, "cannot be read"),
        ("bad.jsonl", "{", "cannot be read"),
        ("empty.jsonl", "{}", "no text in it"),
    ],
)
def test_files_that_are_none_are_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RecipeError, match=f"{name}.*{words}"):
        Sets.read(str(tmp_path / name))


def test_no_test_sets_reject_nothing():
    assert verdicts(DropLeaks(Sets()), text=["anything at all"]) == [(None, None)]


def test_real_test_sets_are_found_in_themselves(shared_data):
    questions = [json.loads(line)["question"] for line in (shared_data / "evaluate/benchmarks/gsm8k_test.jsonl").open()]
    stage = DropLeaks(Sets.read(str(shared_data / "evaluate/benchmarks/gsm8k_test.jsonl")))
    found = verdicts(stage, text=[f"Homework: {question} Show your work." for question in questions[:60]])
    assert sum(reason == "contaminated" for reason, _ in found) >= 59  # one or another is shorter than a run
    other = [json.loads(line)["prompt"] for line in (shared_data / "evaluate/ifeval_541.jsonl").open()]
    assert sum(reason is not None for reason, _ in verdicts(stage, text=other)) <= 2
