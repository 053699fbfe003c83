"""From flags and run files to a checked plan."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reinstruct.errors import CorpusError, RecipeError
from reinstruct.planfile import Plan, steps_of
from reinstruct.planning import Ask, plan_run
from reinstruct.preflight import check_data
from reinstruct.runfile import Wanted, read_run_file, wanted
from tests.conftest import ROOT, SEED

EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def ask(name: str, *flags: str, **given: Any) -> Wanted:
    return wanted(name, flags, **{"out": "", "limit": None, "held_out": None, **given})


@pytest.fixture
def run_file(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "run.toml"
        path.write_text(text)
        return str(path)

    return write


FILE = """
recipe = "reinstruct"
out = "there"
limit = 5
held_out = 0.2
[inputs]
corpus = "c.jsonl"
seed = "s.jsonl"
base = "org/base"
[settings]
upsample = 3
[settings.sft]
epochs = 1
[columns.corpus]
text = "body"
"""


def test_a_run_file_says_all(run_file):
    asked = ask(run_file(FILE))
    assert asked.out == "there"
    assert asked.ask == Ask(
        recipe="reinstruct",
        inputs={"corpus": "c.jsonl", "seed": "s.jsonl", "base": "org/base"},
        settings={"upsample": 3, "sft": {"epochs": 1}},
        columns={"corpus": {"text": "body"}},
        limit=5,
        held_out=0.2,
    )


def test_flags_beat_the_run_file(run_file):
    flags = ("--upsample", "4", "--corpus=d.jsonl", "--seed-columns", "output=answer, input=context", "--compat")
    asked = ask(run_file(FILE), *flags, out="here", limit=0, held_out=0.0)
    assert (asked.out, asked.ask.limit, asked.ask.held_out) == ("here", 0, 0.0)
    assert asked.ask.settings == {"upsample": "4", "sft": {"epochs": 1}, "compat": "true"}
    assert asked.ask.inputs["corpus"] == "d.jsonl"
    assert asked.ask.columns == {"corpus": {"text": "body"}, "seed": {"output": "answer", "input": "context"}}


def test_a_recipes_name_alone_will_do():
    asked = ask("reinstruct", "--random-seed", "7", "--rules", "loose", "--sft.learning-rate=1e-4")
    assert asked.out == "runs/reinstruct"
    assert asked.ask.settings == {"random_seed": "7", "rules": "loose", "sft.learning_rate": "1e-4"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--upsampel", "3"], "reinstruct takes no --upsampel (did you mean '--upsample'?); `reinstruct recipes"),
        (["--random-sed", "3"], "reinstruct takes no --random-sed (did you mean '--random-seed'?)"),
        (["--upsample"], "--upsample needs a value"),
        (["--upsample", "--compat"], "--upsample needs a value"),
        (["stray"], "'stray' is neither a flag nor the value of one"),
        (["--corpus-columns", "body"], "--corpus-columns is 'body'; accepted: field=column, separated by commas"),
        (["--corpus-columns", "text="], "--corpus-columns is 'text='; accepted: field=column"),
    ],
)
def test_wrong_flags_are_told(flags: list[str], words: str):
    with pytest.raises(RecipeError) as told:
        ask("reinstruct", *flags)
    assert str(told.value).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'recipe = "reinstruct"\nreceipe = 1',
            "unknown entry 'receipe' (did you mean 'recipe'?); accepted: recipe, out",
        ),
        ('recipe = "reinstruct"\nlimit = "x"', "is wrong: Expected `int`, got `str` - at `$.limit`"),
        ("limit = 1", "is wrong: Object missing required field `recipe`"),
        ("recipe =", "is wrong: Invalid value (at "),
        ('recipe = "reinstrct"', "no recipe 'reinstrct' (did you mean 'reinstruct'?); there are: "),
    ],
)
def test_wrong_run_files_are_told(run_file, text: str, words: str):
    with pytest.raises(RecipeError) as told:
        ask(run_file(text))
    assert words in str(told.value)


def test_run_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(RecipeError, match=r"cannot read the run file .*no\.toml: No such file"):
        read_run_file(str(tmp_path / "no.toml"))
    (tmp_path / "latin.toml").write_bytes(b'recipe = "caf\xe9"')
    with pytest.raises(RecipeError, match=r"the run file .*latin\.toml is wrong: 'utf-8'"):
        read_run_file(str(tmp_path / "latin.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_read(path: Path):
    assert ask(str(path)).ask.inputs


TEXT = "Rivers carry water from the hills to the sea, and feed the towns beside them. "


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    corpus, seed = tmp_path / "corpus.jsonl", tmp_path / "seed.jsonl"
    corpus.write_text("".join(json.dumps({"id": f"{n}", "text": TEXT * 10}) + "\n" for n in range(40)))
    seed.write_text("".join(SEED.read_text().splitlines(keepends=True)[:60]))
    return {"corpus": str(corpus), "seed": str(seed), "base": "org/base"}


def plan(files: dict[str, str], **given: Any) -> Plan:
    return plan_run(Ask("reinstruct", files, **given))


@pytest.mark.parametrize(
    ("change", "given", "words"),
    [
        ({"base": "scratch:tny"}, {}, "no base 'scratch:tny' (did you mean 'scratch:tiny'?); accepted: scratch:tiny"),
        ({"base": "./nowhere"}, {}, "no model at ./nowhere: expected a folder or bucket with config.json"),
        ({"base": ""}, {}, "reinstruct needs --base"),
        ({"rewrite": "x"}, {}, "reinstruct takes no input 'rewrite' (did you mean 'rewrites'?); it takes: corpus"),
        ({}, {"limit": -1}, "limit is -1; accepted: a whole number of documents, 0 for all"),
        ({}, {"held_out": 1.0}, "held_out is 1.0; accepted: a share from 0 (measure nothing) to below 1"),
        ({}, {"held_out": float("nan")}, "held_out is nan"),
        (
            {},
            {"columns": {"base": {"a": "b"}}},
            "columns of base are given, but they can",
        ),
        ({}, {"columns": {"rewrites": {"output": "b"}}}, "columns of rewrites are given"),
        ({}, {"columns": {"sed": {"a": "b"}}}, "reinstruct takes no input 'sed' (did you mean 'seed'?)"),
        ({}, {"settings": {"upsample": 0}}, "upsample is 0; accepted: "),
        ({}, {"settings": {"sft.epoch": 1}}, "unknown field of sft 'epoch'"),
    ],
)
def test_wrong_wishes_are_told_while_planning(files, change, given, words: str):
    with pytest.raises(RecipeError) as told:
        plan({**files, **change}, **given)
    assert str(told.value).startswith(words)


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"text": "body"}, "has no column 'body' for the field 'text'"), ({"txt": "text"}, "no field 'txt' in Document")],
)
def test_wrong_columns_are_told_while_planning(files, columns, words: str):
    with pytest.raises(CorpusError, match=words):
        plan(files, columns={"corpus": columns})


def test_columns_and_limit_reach_the_reading(files, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"body": TEXT}) + "\n")
    made = plan({**files, "corpus": str(other)}, columns={"corpus": {"text": "body"}}, limit=3)
    read = next(step for step in steps_of(made).values() if step.name == "corpus")
    assert (read.action.source.columns, read.action.limit) == ((("text", "body"),), 3)
    assert next(step for step in steps_of(made).values() if step.name == "seed").action.limit == 0


def test_holding_nothing_out_measures_nothing(files):
    assert plan(files, held_out=0).losses == {}
    assert list(plan(files).losses) == ["base", "seed-only", "final"]
    names = {step.name for step in plan(files, held_out=0).steps}
    assert {"seed-train", "held-out", "seed-only"}.isdisjoint(names)


def test_pairs_of_a_file_are_measured_on_and_the_seed_is_trained_on_whole(files, tmp_path):
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"instruction": "Add 1 and 1.", "output": "2"}) + "\n")
    asked = ask("tegit", *[part for name, uri in files.items() for part in (f"--{name}", uri)], held_out=str(test)).ask
    assert (asked.held_out, asked.test) == (0.0, str(test))
    made = plan_run(asked)
    steps = {step.name: step for step in steps_of(made).values()}
    assert list(made.losses) == ["base", "seed-only", "final"]
    assert [step.name for step in steps["held-out"].inputs] == ["test"]
    assert [step.name for step in steps["ask-seed"].inputs] == ["seed"]
    assert made.settings["held_out"] == str(test)
    with pytest.raises(CorpusError, match=r"held_out is '0,1', neither a share nor pairs .*: cannot read 0,1"):
        plan_run(replace(asked, test="0,1"))


def test_a_method_without_a_seed_is_measured_on_pairs_of_a_file(files):
    inputs = {name: files[name] for name in ("corpus", "base")}
    assert plan_run(Ask("cycle_instruct", inputs)).losses == {}
    assert list(plan_run(Ask("cycle_instruct", inputs, test=files["seed"])).losses) == ["base", "final"]


def small_seed(files: dict[str, str], *rows: dict[str, str]) -> dict[str, str]:
    Path(files["seed"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


PAIR = {"instruction": "Add.", "output": "Take two. Take two more. That is four."}


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.001, r"loss-base has nothing to measure: every row of seed is turned away \(for_training 1\); .*--held-out"),
        (0.999, r"backward has nothing to learn from: every row of seed is turned away \(held_out 1\); .*--held-out"),
    ],
)
def test_a_seed_too_small_to_be_split_is_told_before_anything_runs(files, share: float, words: str):
    made = plan(small_seed(files, PAIR), held_out=share)
    with pytest.raises(RecipeError, match=words):
        check_data(made)


def test_a_small_seed_is_enough_where_nothing_is_measured(files):
    check_data(plan(small_seed(files, PAIR), held_out=0))


def test_a_seed_that_teaches_no_rewriting_is_told_before_anything_runs(files):
    made = plan(small_seed(files, {"instruction": "Add.", "output": "Four."}), held_out=0)
    with pytest.raises(RecipeError, match=r"rewriter has nothing to learn from: .*\(single_sentence 1\)$"):
        check_data(made)


def test_too_little_text_for_a_base_from_scratch_is_told_before_anything_runs(files):
    from_scratch = {**files, "base": "scratch:tiny"}
    check_data(plan(from_scratch))
    with pytest.raises(RecipeError, match=r"the corpus holds 780 characters, .* needs 20,000: .*--limit"):
        check_data(plan(from_scratch, limit=1))
    check_data(plan(files, limit=1))
