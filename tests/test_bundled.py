"""Models that come with the package."""

import json
import shutil
from dataclasses import replace

import pytest

from reinstruct.bundled import BUNDLED, FOLDER, bundled_fingerprint, bundled_folder, bundled_names, planned_folder
from reinstruct.errors import RecipeError
from reinstruct.plan import Step, Train
from reinstruct.records import Example
from reinstruct.serve import weights
from reinstruct.serving import existing_model, location, served_name
from reinstruct.store import open_store
from reinstruct.train.job import make_job
from reinstruct.train.settings import Sft
from tests.conftest import ROOT

MOST_BYTES = 12_000_000
MINI = BUNDLED + "mini"
COMMON = """
a about after again all also am an and any are as at be because been before began but by came can come could day did
do does down each even every eyes face first for found from gave get give go going good great had hand hands has have
he head heard her here him himself his house how i if in into is it its just know last left life like little long look
looked made make man many may me men might more most much must my never new next night no not nothing now of off old
on once one only or other our out over own part people place said same saw say see seemed set shall she should side so
some something still such take than that the their them then there these they thing things think this those thought
through time to told too took two under until up upon us use very was water way we well went were what when where
which while who whole will with without woman word words work world would years yes you young your
"""


def test_the_files_are_those_of_a_model_and_small():
    for uri in bundled_names():
        files = [path for path in bundled_folder(uri).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= MOST_BYTES
        names = {path.name for path in files}
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "metrics.json"} <= names
        assert not [path for path in files if path.suffix in (".bin", ".pkl", ".pt")]


def test_mini_is_there_and_its_card_names_its_figures():
    assert MINI in bundled_names()
    figures = json.loads((bundled_folder(MINI) / "metrics.json").read_text())
    card = (bundled_folder(MINI) / "README.md").read_text()
    assert f"{figures['held_out']['bits_per_byte']:.4f}" in card
    assert "Public domain" in card


def test_the_package_takes_the_files_along():
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["reinstruct"]
    packed = {path for pattern in wanted for path in (ROOT / "reinstruct").glob(pattern)}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= packed


def test_a_mistyped_name_is_named():
    with pytest.raises(
        RecipeError, match=r"no bundled model 'bundled:mnii' \(did you mean 'bundled:mini'\?\); accepted"
    ):
        existing_model("bundled:mnii")
    with pytest.raises(RecipeError, match=r"no bundled model 'bundled:'"):
        bundled_folder("bundled:")
    with pytest.raises(RecipeError, match=r"no bundled model 'bundled:\.\./x'"):
        bundled_folder("bundled:../x")


def test_it_is_found_wherever_a_model_is_named(tmp_path):
    model, folder = existing_model(MINI), str(bundled_folder(MINI))
    assert (model.uri, location(model, open_store(str(tmp_path)))) == (MINI, folder)
    assert weights(MINI) == folder
    assert make_job({"kind": "sft", "data": ["x"], "work": "w", "out": "o", "base": MINI}).base == folder
    assert ":" not in served_name(model)


def test_another_content_is_another_model_and_another_step(tmp_path):
    model = existing_model(MINI)
    for name in ("config.json", "model.safetensors"):
        copy = tmp_path / name / "mini"
        shutil.copytree(bundled_folder(MINI), copy)
        assert bundled_fingerprint(MINI, copy.parent) == model.fingerprint
        changed = tmp_path / f"changed-{name}" / "mini"
        shutil.copytree(copy, changed)
        (changed / name).write_bytes((changed / name).read_bytes() + b" ")
        other = bundled_fingerprint(MINI, changed.parent)
        assert other != model.fingerprint
        changed_model = replace(model, fingerprint=other)
        assert Step("tune", Train(changed_model, Sft()), Example).id != Step("tune", Train(model, Sft()), Example).id
        with pytest.raises(RecipeError, match=f"planned with bundled:mini of content {model.fingerprint}; .* {other}"):
            planned_folder(MINI, model.fingerprint, changed.parent)


def test_the_card_is_no_part_of_the_content(tmp_path):
    shutil.copytree(bundled_folder(MINI), tmp_path / "mini")
    (tmp_path / "mini" / "README.md").write_text("other")
    assert bundled_fingerprint(MINI, tmp_path) == existing_model(MINI).fingerprint


@pytest.mark.slow
def test_it_writes_words():
    """Of the words it draws, most are common ones or have been written by people: the tokenizer has them whole."""
    import re

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(bundled_folder(MINI))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    written = ""
    for opening in ("The old man looked at", "Before you write a plan,", "It was a cold night, and"):
        ids = tokenizer(opening, return_tensors="pt").input_ids
        drawn = model.generate(ids, do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=80, pad_token_id=0)
        written += tokenizer.decode(drawn[0, ids.shape[1] :], skip_special_tokens=True) + "\n"
    words = re.findall(r"[a-z']+", written.lower())
    whole = {token.replace("Ġ", "").lower() for token in tokenizer.get_vocab() if token.startswith("Ġ")}
    assert len(words) > 90
    common = COMMON.split()
    assert sum(word in common for word in words) / len(words) > 0.4
    assert sum(word in whole for word in words) / len(words) > 0.75
    assert len(set(words)) > len(words) / 4
