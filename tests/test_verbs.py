"""Verb lists: the default, lists in files, and how both enter identities."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys

import pytest

from reinstruct.errors import RecipeError
from reinstruct.identity import describe
from reinstruct.stages import build_verbs
from reinstruct.stages.verbs import PACKAGED, VerbList

ROWS = [["be", "is", "was", "been", "being"], ["go", "goes", "went", "gone", "going"]]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "verbs.json"
    file.write_text(json.dumps(ROWS))
    return file


def test_default_knows_the_verbs_that_open_advice():
    verbs = VerbList()
    assert {"add", "be", "beware", "do", "make", "panic", "run", "singe", "stir"} <= verbs.bases()
    assert {"adding", "being", "doing", "making", "panicking", "running", "singeing"} <= verbs.ing_forms()
    assert not {"the", "a", "in", "it", "you", "can", "must", "will", "adding", "made"} & verbs.bases()
    assert ("go", "goes", "went", "gone", "going") in verbs.rows()
    assert ("add", "adds", "added", "added", "adding") in verbs.rows()


def test_default_knows_the_forms_that_spelling_rules_miss():
    rows = VerbList().rows()
    assert {
        ("lie", "lies", "lay", "lain", "lying"),
        ("mimic", "mimics", "mimicked", "mimicked", "mimicking"),
        ("overfeed", "overfeeds", "overfed", "overfed", "overfeeding"),
        ("program", "programs", "programmed", "programmed", "programming"),
        ("redo", "redoes", "redid", "redone", "redoing"),
        ("sting", "stings", "stung", "stung", "stinging"),
    } <= set(rows)
    assert [row[-1] for row in rows if row[0] == "travel"] == ["traveling", "travelling"]


def test_default_rows_are_whole_sorted_and_distinct():
    rows = VerbList().rows()
    assert all(len(row) == 5 and all(re.fullmatch("[a-z]+", form) for form in row) for row in rows)
    assert len(set(rows)) == len(rows)
    verbs = build_verbs.read_verbs()
    assert verbs == sorted(set(verbs))
    assert len(verbs) >= 2500
    assert list(dict.fromkeys(row[0] for row in rows)) == verbs


@pytest.mark.slow
def test_default_is_what_the_builder_makes_of_the_list():
    pytest.importorskip("lemminflect", reason="lemminflect builds verbs.json; it comes with reinstruct[dev]")
    assert (build_verbs.HERE / PACKAGED).read_bytes() == build_verbs.render(build_verbs.build(build_verbs.read_verbs()))


def test_default_names_its_bytes():
    assert VerbList().sha256 == hashlib.sha256((build_verbs.HERE / PACKAGED).read_bytes()).hexdigest()
    with pytest.raises(RecipeError, match="packaged verb list has changed since the plan was made"):
        VerbList(sha256="0" * 64).rows()


def test_default_needs_no_lemminflect_and_the_builder_says_so():
    lines = [
        "import sys; sys.modules['lemminflect'] = None",
        "from reinstruct.stages.verbs import VerbList; print(len(VerbList().rows()) > 2500)",
        "from reinstruct.stages.build_verbs import build; build(['go'])",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert "RecipeError: building verbs.json needs lemminflect: pip install 'reinstruct[dev]'" in done.stderr


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_read_a_file(path, scheme):
    verbs = VerbList.read(f"{scheme}{path}")
    assert verbs.rows() == tuple(map(tuple, ROWS))
    assert (verbs.bases(), verbs.ing_forms()) == ({"be", "go"}, {"being", "going"})


def test_identity_is_the_content_not_the_place(path, tmp_path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    here, there = (describe(VerbList.read(str(file)), identity=True) for file in (path, copy))
    assert here == there != describe(VerbList(), identity=True)


def test_a_list_that_changed_is_refused(path):
    verbs = VerbList.read(str(path))
    path.write_text(json.dumps(ROWS[:1]))
    with pytest.raises(RecipeError, match="has changed since the plan was made"):
        verbs.rows()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("not json", "not JSON"),
        ("{}", "no rows"),
        ("[]", "no rows"),
        ('[["go", "going"], "be"]', 'row 1: "be"'),
        ('[["go"]]', r'row 0: \["go"\]'),
        ('[["go", 3]]', r'row 0: \["go", 3\]'),
        ('[["", "going"]]', r'row 0: \["", "going"\]'),
    ],
)
def test_a_file_that_is_no_list_is_refused_by_row(path, content, named):
    path.write_text(content)
    with pytest.raises(RecipeError, match=rf"verbs\.json.*{named}.*"):
        VerbList.read(str(path))


def test_a_file_that_is_not_there(tmp_path):
    for uri in (str(tmp_path / "none.json"), f"file://{tmp_path}/none.json", "nosuch://bucket/none.json"):
        with pytest.raises(RecipeError, match="cannot be read"):
            VerbList.read(uri)


def test_a_uri_needs_its_hash():
    with pytest.raises(RecipeError, match=r"VerbList\.read"):
        VerbList(uri="gs://bucket/verbs.json")
