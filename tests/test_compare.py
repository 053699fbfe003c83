"""Recipes are compared on equal terms: flags reach those who take them, shared steps are done once, figures hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reinstruct.compare import as_markdown, distinct, figures, merged, plan_comparison, publish_all, save_all
from reinstruct.corpus.open import open_source
from reinstruct.errors import RecipeError
from reinstruct.llm import Reply, Scripted
from reinstruct.plan import Model, read
from reinstruct.planfile import Plan, newest, specs, steps_of
from reinstruct.records import Document
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.store import LocalStore
from tests.conftest import SEED
from tests.fake_server import Call, FakeServer
from tests.in_process import make_rows

NAMES = ["reinstruct", "tegit"]
BACK_TRANSLATION = ["reinstruct", "humpback", "back_and_forth", "kun", "tegit", "cycle_instruct"]


@pytest.fixture
def flags(corpus_file: Path) -> list[str]:
    return ["--corpus", str(corpus_file), "--seed", str(SEED), "--base", "scratch:tiny"]


def planned(flags: list[str], *more: str) -> dict[str, Plan]:
    return plan_comparison(NAMES, [*flags, *more], limit=30, held_out="0.1")


def stage_settings(plan: Plan, step: str, stage: int = 0) -> dict:
    action = next(spec.action for spec in plan.steps if spec.name == step)
    return action["stages"][stage] if "stages" in action else action["stage"]


def test_a_flag_goes_to_every_recipe_that_takes_it(flags):
    plans = planned(flags, "--candidates", "7", "--with-seed", "--upsample=3")
    assert list(plans) == NAMES
    for plan in plans.values():
        assert stage_settings(plan, "candidates")["size"] == 7
    assert stage_settings(plans["reinstruct"], "tag-seed")["times"] == 3
    (joined,) = [spec for spec in plans["tegit"].steps if spec.name == "concat"]
    assert len(joined.inputs) == 2


def test_a_recipe_is_compared_with_itself_under_labels(flags):
    names = ["reinstruct@few", "reinstruct@many", "tegit"]
    own = ["--reinstruct@many.size", "9", "--reinstruct.rules", "loose", "--reinstruct@few.size=3"]
    plans = plan_comparison(names, [*flags, *own], limit=30, held_out="0.1")
    assert list(plans) == names
    assert [stage_settings(plans[name], "sample")["size"] for name in names] == [3, 9, 0]
    assert [stage_settings(plans[name], "select")["min_chars"] for name in names[:2]] == [200, 200]
    with pytest.raises(RecipeError, match=r"'tegit@': accepted behind @ is a label"):
        plan_comparison(["tegit@", "tegit"], flags, limit=30, held_out="0.1")


def test_a_flag_may_name_its_recipe(flags):
    plans = planned(flags, "--tegit.size", "5", "--reinstruct.sft.epochs", "2")
    assert [stage_settings(plans[name], "sample")["size"] for name in NAMES] == [0, 5]
    trained = {name: next(s.action for s in plan.steps if s.name == "final") for name, plan in plans.items()}
    assert [trained[name]["settings"]["epochs"] for name in NAMES] == [2.0, 3.0]


def test_all_of_back_translation_is_compared_on_one_corpus_and_budget(flags):
    budget = ["--candidates", "7", "--cycle_instruct.per-side", "7"]
    plans = plan_comparison(BACK_TRANSLATION, [*flags, *budget], limit=30, held_out=0.1)
    assert len({plan.corpus for plan in plans.values()}) == 1
    asked = {
        name: stage_settings(plan, "candidates")["size"] for name, plan in plans.items() if takes(plan, "candidates")
    }
    assert set(asked.values()) == {7}
    assert set(plans) - set(asked) == {"cycle_instruct"}
    names = [spec.name for spec in merged(plans).steps]
    assert [names.count(name) for name in ("base", "corpus", "seed")] == [1, 1, 1]


def takes(plan: Plan, step: str) -> bool:
    return step in {spec.name for spec in plan.steps}


@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        (["tegit"], [], "two recipes or more"),
        (["tegit", "tegit"], [], "two recipes or more"),
        (NAMES, ["--candidate", "7"], r"no recipe takes --candidate.*--candidates"),
        (NAMES, ["--tegit.upsample", "7"], "no recipe takes --tegit.upsample"),
        (["tegit", "nobody"], [], "no recipe 'nobody'"),
        (NAMES, ["--candidates", "many"], "candidates is 'many'"),
    ],
)
def test_what_cannot_be_compared_is_told(names, more, words, flags):
    with pytest.raises(RecipeError, match=words):
        plan_comparison(names, [*flags, *more], limit=None, held_out=None)


def test_steps_that_recipes_share_are_planned_once(flags):
    plans = planned(flags)
    together = merged(plans)
    ids = [spec.id for spec in together.steps]
    assert len(ids) == len(set(ids)) < sum(len(plan.steps) for plan in plans.values())
    assert set(ids) == {spec.id for plan in plans.values() for spec in plan.steps}
    assert list(steps_of(together)) == ids, "an order that can be run"
    names = [spec.name for spec in together.steps]
    assert [names.count(name) for name in ("base", "corpus", "seed", "backward", "designer")] == [1, 1, 1, 1, 1]
    assert names.count("loss-base") == 2, "each recipe asks in its own way"


def small_plan(corpus_file: Path, recipe: str, prompt: str, **settings) -> Plan:
    corpus = read(open_source(str(corpus_file), Document), name="corpus")
    ask = WriteInstruction(Model(uri="m"), Template(prompt + "{response}"), **settings)
    data = corpus.map(ask, name="guess")
    return Plan(recipe=recipe, steps=specs(data.step), data=data.step.id, corpus=corpus.step.id)


class Counting(Scripted):
    """Ten tokens read and three written for each reply."""

    def complete(self, requests, sampling):
        for batch in super().complete(requests, sampling):
            yield [(asked, Reply(reply.text, prompt_tokens=10, completion_tokens=3)) for asked, reply in batch]


def test_a_run_file_stands_for_its_recipe_with_what_it_says(flags, tmp_path):
    trial = tmp_path / "trial.toml"
    trial.write_text(
        'recipe = "tegit"\nlimit = 5\n[inputs]\nbase = "org/other"\n[settings]\ncandidates = 7\nsize = 4\n'
    )
    plans = plan_comparison(["reinstruct", str(trial)], [*flags, "--tegit.size", "3"], limit=None, held_out="0.1")
    assert list(plans) == NAMES
    assert stage_settings(plans["tegit"], "candidates")["size"] == 7
    assert stage_settings(plans["tegit"], "sample")["size"] == 3, "a flag goes before the file"
    assert plans["tegit"].settings["base"] == "scratch:tiny"
    labelled = plan_comparison(["tegit", f"{trial}@own"], [*flags, "--tegit@own.size=2"], limit=30, held_out="0.1")
    assert {name: stage_settings(plan, "sample")["size"] for name, plan in labelled.items()} == {
        "tegit": 0,
        "tegit@own": 2,
    }
    with pytest.raises(
        RecipeError, match=r"tegit and .*trial.toml are both tegit; tell them apart as .*trial.toml@LABEL"
    ):
        plan_comparison(["tegit", str(trial)], flags, limit=30, held_out="0.1")


@pytest.fixture
def plans(corpus_file: Path) -> dict[str, Plan]:
    return {name: small_plan(corpus_file, name, f"{name}: ") for name in ("varied", "dull")}


@pytest.fixture
def store(tmp_path: Path, plans) -> LocalStore:
    """Both plans done: one asks something else of every river, the other what rivers are."""

    def answer(prompt: str) -> str:
        river = prompt.partition("river ")[2].partition(".")[0]
        return f"How long is river {river}?" if prompt.startswith("varied") and river else "What is a river then?"

    store = LocalStore(tmp_path / "store")
    for plan in plans.values():
        make_rows(store, steps_of(plan)[plan.data], lambda model: Counting(answer))
    return store


def test_figures_of_finished_plans(store, plans, corpus_file):
    varied, dull = figures(store, plans, {"varied": {"final": 2.5}, "dull": {}})
    assert (varied.recipe, varied.documents, varied.synthetic, varied.rows) == ("varied", 40, 40, 40)
    assert (varied.tokens_read, varied.tokens_written) == (400, 120)
    assert varied.seconds > 0
    assert (varied.instruction_words, dull.instruction_words) == (5, 5)
    assert (varied.mean_instruction_words, dull.mean_instruction_words) == (5, 5)
    words = [len(json.loads(line)["text"].split()) for line in corpus_file.read_text().splitlines()]
    assert varied.mean_output_words == pytest.approx(sum(words) / 40)
    # 38 rivers, one of them twice, and a text of none: how-long, long-is, is-river, (river-N) x 38 and the dull four
    assert varied.distinct_instructions == pytest.approx((3 + 38 + 4) / 160)
    assert dull.distinct_instructions == pytest.approx(4 / 160)
    assert varied.distinct_outputs == dull.distinct_outputs, "both answer with the same texts"
    assert (varied.openings, dull.openings) == (2 / 40, 1 / 40)
    assert varied.nll == {"base": None, "seed-only": None, "final": 2.5}


def test_a_plan_without_a_pair_has_dashes(store, plans, corpus_file):
    mute = small_plan(corpus_file, "mute", "mute: ", max_unreadable=1.0)
    make_rows(store, steps_of(mute)[mute.data], lambda model: Counting(lambda prompt: ""))
    made = figures(store, {**plans, "mute": mute}, {"varied": {}, "dull": {}, "mute": {}})
    assert (made[2].synthetic, made[2].output_words, made[2].openings) == (0, None, None)
    assert made[1].distinct_instructions == pytest.approx(4 / 160), "the empty one does not shorten the others' sample"
    assert "| synthetic pairs kept | 40 | 40 | 0 |" in as_markdown(made)
    assert "| distinct openings | 0.050 | 0.025 | – |" in as_markdown(made)


def test_each_plan_is_published_in_a_folder_of_its_own(store, plans):
    together = save_all(store, plans)
    assert newest(store).id == together.id
    made = publish_all(store, plans)
    for name, plan in plans.items():
        summary = json.loads(store.path(f"{name}/run.json").read_text())
        assert (summary["plan"], summary["rows"]) == (plan.id, 40)
        assert Path(summary["dataset"]) == store.path(f"{name}/dataset")
        assert list(Path(summary["dataset"]).glob("*.parquet"))
        assert Path(summary["report"]).is_file()
    assert not store.path("dataset").exists()
    assert json.loads(store.get("compare.json"))[1]["recipe"] == "dull"
    assert store.get("compare.md").decode() == as_markdown(made)


@pytest.mark.parametrize(
    ("texts", "most_words", "share"),
    [
        (["a b a b"], 99, 2 / 3),  # a-b, b-a, a-b
        (["a b", "a b"], 99, 1 / 2),  # never across texts
        (["a b", "a b", "c d"], 4, 1 / 2),  # the third begins after four words
        (["我爱你"], 99, 1.0),
        (["one"], 99, None),
        ([], 99, None),
    ],
)
def test_distinct_word_pairs(texts, most_words, share):
    assert distinct(texts, most_words) == share


@pytest.mark.slow
def test_a_comparison_compiles_to_one_pipeline(flags, tmp_path):
    pytest.importorskip("kfp", reason="pipelines are compiled with kfp: pip install 'reinstruct[pipelines]'")
    import yaml

    from pipelines.compare_recipes import compile_comparison

    plans = planned(flags)
    compile_comparison(plans, store="gs://bucket/runs", path=tmp_path / "p.yaml")
    (spec,) = yaml.load_all((tmp_path / "p.yaml").read_text(), yaml.CSafeLoader)
    tasks = {task["taskInfo"]["name"]: task for task in spec["root"]["dag"]["tasks"].values()}
    titles = [task["taskInfo"]["name"] for task in spec["root"]["dag"]["tasks"].values()]
    steps = [spec for spec in merged(plans).steps if spec.name != "concat"]
    assert len(titles) == len(steps) + 2
    assert titles.count("base") == 1
    for name, plan in plans.items():
        given = tasks[f"publish-{name}"]["inputs"]["parameters"]
        assert given["folder"]["runtimeValue"]["constant"] == name
        assert given["plan"]["runtimeValue"]["constant"] == f"plans/{plan.id}.json"
    with pytest.raises(RecipeError, match="accepted"):
        compile_comparison(plans, store="gs://bucket/runs", path=tmp_path / "p.json")


class Author(FakeServer):
    """Designs a task where one is asked for, and has one reply to everything else."""

    def answer(self, call: Call) -> dict:
        fields = " What do rivers carry?\n#input#:\n#output#: They carry water from the hills to the sea."
        text = fields if call.prompt.endswith("#instruction#:") else "What do rivers carry?"
        return {"choices": [{"index": 0, "finish_reason": "stop", "text": text}], "usage": {}}


def compare(folder: Path, flags: list[str], server: str) -> str:
    """Standard output of the command; the smallest trainings there are."""
    small = ["--sft.epochs", "0.1", "--sft.max-tokens", "1024", "--candidates", "12", "--tegit@both.with-seed"]
    argv = [sys.executable, "-m", "reinstruct", "compare", "tegit", "tegit@both", *flags, *small, "--limit", "40"]
    run = subprocess.run(
        [*argv, "--server", server, "--out", str(folder / "out")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_command_compares_and_does_nothing_twice(tmp_path, flags):
    rows = [json.loads(line) for line in SEED.read_text().splitlines()]
    short = tmp_path / "seed.jsonl"
    short.write_text("".join(json.dumps(row) + "\n" for row in rows if len(row["output"]) < 400))
    corpus = tmp_path / "guides.jsonl"
    prose = "Rivers carry water from the hills to the sea, and they feed the towns that stand beside them. "
    texts = [f"Notes on river {n}. {prose * 6}It is {n} miles long, as the people say." for n in range(40)]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    flags = ["--corpus", str(corpus), "--seed", str(short), *flags[4:]]
    with Author() as server:
        first = compare(tmp_path, flags, server.url)
        asked = len(server.calls)
        again = compare(tmp_path, flags, server.url)
        assert len(server.calls) == asked > 0
    out = tmp_path / "out"
    made = json.loads((out / "compare.json").read_text())
    assert [(each["recipe"], each["synthetic"]) for each in made] == [("tegit", 12), ("tegit@both", 12)]
    alone, both = (each["nll"] for each in made)
    assert alone["base"] == both["base"] > 0
    assert alone["final"] != both["final"]
    trained = {name: len(list((out / "steps").glob(f"{name}-*"))) for name in ("base", "designer", "final")}
    assert trained == {"base": 1, "designer": 1, "final": 2}
    assert all((out / name / "models" / "final" / "config.json").is_file() for name in ("tegit", "tegit@both"))
    assert "synthetic pairs kept" in first
    assert first.splitlines()[-8:] == again.splitlines()[-8:]
