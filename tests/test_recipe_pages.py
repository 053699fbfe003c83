"""Every recipe has a page in the docs that names its paper, its inputs and each of its settings."""

import inspect
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from reinstruct import recipes
from reinstruct.planning import plan_run
from reinstruct.records import without_none
from reinstruct.runfile import wanted
from tests.conftest import ROOT, SEED


@pytest.mark.parametrize("name", recipes.names())
def test_the_page_of_a_recipe_names_all_it_takes(name: str):
    recipe = recipes.find(name)
    page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[a-z_]+", page.replace("-", "_").lower().replace("__", " ")))
    wanted = {each.name for each in (*recipe.inputs, *recipe.settings)}
    assert not wanted - named
    (paper,) = re.findall(r"https://arxiv.org/abs/([\d.]+)", inspect.getmodule(recipe.plan).__doc__ or "")[:1]
    assert paper in page


@pytest.mark.parametrize("name", recipes.names())
def test_the_page_of_a_recipe_names_the_fields_of_rules_that_are_its_own(name: str):
    recipe = recipes.find(name)
    page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text(encoding="utf-8").replace("-", "_")
    kinds = {setting.name: without_none(setting.type) for setting in recipe.settings}
    own = {s: kind for s, kind in kinds.items() if is_dataclass(kind) and kind.__module__ == recipe.plan.__module__}
    assert not [f"{s}.{part.name}" for s, kind in own.items() for part in fields(kind) if part.name not in page]


@pytest.mark.parametrize("name", recipes.names())
def test_the_run_files_shown_on_a_page_can_be_planned(name: str, tmp_path: Path):
    page = (ROOT / "docs" / "recipes" / f"{name}.md").read_text(encoding="utf-8")
    shown = [text for text in re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "recipe =" in text]
    assert shown
    for number, text in enumerate(shown):
        run_file = tmp_path / f"{number}.toml"
        run_file.write_text(text, encoding="utf-8")
        asked = wanted(str(run_file), [], out="", limit=None, held_out="0").ask
        inputs = {given: str(SEED) if given in ("corpus", "seed") else "org/base" for given in asked.inputs}
        plan = plan_run(replace(asked, inputs=inputs, columns={"corpus": {"text": "output"}}))
        assert plan.recipe == name
