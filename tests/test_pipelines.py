"""Pipelines compiled from plans: every step has its task, and the compiled file runs, with processes for containers."""

import ast
import json
import re
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("kfp", reason="pipelines are compiled with kfp: pip install 'reinstruct[pipelines]'")

import polars as pl
import yaml

from pipelines.from_plan import Images, compile_plan
from reinstruct import recipes
from reinstruct.commit import result_of
from reinstruct.container import verb_of
from reinstruct.errors import RecipeError
from reinstruct.plan import Concat
from reinstruct.planfile import save, steps_of
from reinstruct.planning import Ask, plan_run
from reinstruct.records import Document
from reinstruct.store import open_store
from tests.fake_server import Call, FakeServer
from tests.kfp_processes import KFP_TASK, run_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(r"ignore:.*(current local runner|non-Python base image)")]

ROOT = Path(__file__).parents[1]
STORE = "gs://bucket/runs"


def inputs_of(recipe, folder):
    """A URI for each input the recipe must have, by what its signature says the input is."""
    needed = [wanted for wanted in recipe.inputs if wanted.required]
    has_corpus = any(wanted.record_type is Document for wanted in needed)
    uris = {}
    for wanted in needed:
        file = folder / f"{wanted.name}.jsonl"
        if wanted.record_type is None:
            uris[wanted.name] = "scratch:tiny" if has_corpus else "org/name"
        else:
            row = {"text": "Stir."} if wanted.record_type is Document else {"instruction": "Add.", "output": "4"}
            file.write_text(json.dumps(row) + "\n")
            uris[wanted.name] = str(file)
    return uris


def compiled(plan, path, **settings):
    """The compiled pipeline."""
    compile_plan(plan, store=STORE, path=path, **settings)
    (spec,) = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    return spec


def constant(task, name):
    return task["inputs"]["parameters"].get(name, {}).get("runtimeValue", {}).get("constant", "")


def tasks_of(spec):
    """Step id ("" for the last) -> (task, its container)."""
    found = {}
    for task in spec["root"]["dag"]["tasks"].values():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        found[constant(task, "step")] = (task, spec["deploymentSpec"]["executors"][label]["container"])
    assert len(found) == len(spec["root"]["dag"]["tasks"])
    return found


def edges(spec):
    """Step id ("" for the last) -> the ids of the steps its task waits for."""
    tasks = spec["root"]["dag"]["tasks"]
    ids = {name: constant(task, "step") for name, task in tasks.items()}
    return {ids[name]: {ids[needed] for needed in task.get("dependentTasks", [])} for name, task in tasks.items()}


def everything_before(graph, node):
    return {found for direct in graph[node] for found in (direct, *everything_before(graph, direct))}


def name_of(step_id):
    return step_id.rpartition("-")[0]


@pytest.fixture(scope="module", params=recipes.names())
def any_recipe(request, tmp_path_factory):
    """A recipe's plan and what it compiles to."""
    folder = tmp_path_factory.mktemp(request.param)
    plan = plan_run(Ask(request.param, inputs_of(recipes.find(request.param), folder)))
    return plan, compiled(plan, folder / "p.yaml")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return plan_run(Ask("reinstruct", inputs_of(recipes.find("reinstruct"), tmp_path_factory.mktemp("reinstruct"))))


@pytest.fixture(scope="module")
def short_plan(plan):
    """The plan's first step alone."""
    return msgspec.structs.replace(plan, steps=plan.steps[:1])


def test_each_step_has_its_task(any_recipe):
    plan, spec = any_recipe
    steps = {id: step for id, step in steps_of(plan).items() if not isinstance(step.action, Concat)}
    tasks = tasks_of(spec)
    assert tasks.keys() == steps.keys() | {""}
    for id, (task, container) in tasks.items():
        verb = verb_of(steps[id]) if id else "publish"
        assert container["command"] == ["python", "-m", "reinstruct.container"]
        assert container["args"] == [verb, "--executor-input", "{{$}}"]
        assert task["taskInfo"]["name"] == (steps[id].name if id else "publish")
        assert not task["cachingOptions"].get("enableCache")
        for given in ("store", "plan"):
            assert task["inputs"]["parameters"][given] == {"componentInputParameter": given}


def test_each_task_makes_one_artifact(any_recipe):
    _, spec = any_recipe
    for task, container in tasks_of(spec).values():
        (made,) = spec["components"][task["componentRef"]["name"]]["outputDefinitions"]["artifacts"].items()
        kind = "system.Model" if container["args"][0] == "train" else "system.Dataset"
        assert (made[0], made[1]["artifactType"]["schemaTitle"]) == ("made", kind)


def test_tasks_wait_for_what_the_plan_says(any_recipe):
    plan, spec = any_recipe
    made = edges(spec)
    needs = {id: {needed.id for needed in step.needs} for id, step in steps_of(plan).items()}
    for id in made.keys() - {""}:
        assert everything_before(made, id) == everything_before(needs, id) & made.keys()
    assert everything_before(made, "") == made.keys() - {""}


def test_a_concatenation_has_no_task_and_its_inputs_are_waited_for(plan, tmp_path):
    made = edges(compiled(plan, tmp_path / "p.yaml"))
    before = {name_of(id): {name_of(needed) for needed in found} for id, found in made.items()}
    assert before["corpus"] == set()
    assert before["guess"] == {"candidates", "backward"}
    assert before["final"] == {"tag-seed", "tag-synthetic", "base"}
    assert before["loss-final"] == {"held-out", "final"}
    assert "concat" not in before


def test_two_compiles_are_equal(plan, tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "new folder" / "b.yaml"
    compile_plan(plan, store=STORE, path=first)
    compile_plan(plan, store=STORE, path=second)
    assert first.read_bytes() == second.read_bytes()


def test_store_and_plan_are_parameters_with_defaults(short_plan, tmp_path):
    parameters = compiled(short_plan, tmp_path / "p.yaml")["root"]["inputDefinitions"]["parameters"]
    saved_as = save(open_store(str(tmp_path / "store")), short_plan)
    assert {name: found["defaultValue"] for name, found in parameters.items()} == {"store": STORE, "plan": saved_as}


@pytest.mark.parametrize("recipe", ["reinstruct", "Self_Instruct", "_" + "long_name" * 12])
def test_pipeline_names_suit_dns(recipe, short_plan, tmp_path):
    plan = msgspec.structs.replace(short_plan, recipe=recipe)
    name = compiled(plan, tmp_path / "p.yaml")["pipelineInfo"]["name"]
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)
    assert name.endswith(plan.id[-12:])


def test_torch_is_only_where_it_is_needed(plan, tmp_path):
    def trainers(**servers):
        images = Images(worker="w:1", trainer="t:1")
        tasks = tasks_of(compiled(plan, tmp_path / "p.yaml", images=images, servers=servers))
        assert {container["image"] for _, container in tasks.values()} == {"w:1", "t:1"}
        return {name_of(id) for id, (_, container) in tasks.items() if container["image"] == "t:1"}

    trained = {"base", "backward", "rewriter", "final", "seed-only"}
    by_torch = trained | {"loss-base", "loss-seed-only", "loss-final"}
    assert trainers() == by_torch | {"guess", "rewrite"}
    assert trainers(backward=("http://vllm:8000",)) == by_torch | {"rewrite"}
    assert trainers(**{"": ("http://vllm:8000",)}) == by_torch


def test_tasks_are_told_their_servers(short_plan, tmp_path):
    servers = {"rewriter": ("http://b:1", "http://c:1"), "backward": ("http://a:1",)}
    tasks = tasks_of(compiled(short_plan, tmp_path / "p.yaml", servers=servers))
    told = {constant(task, "servers") for id, (task, _) in tasks.items() if id}
    assert told == {'{"backward":["http://a:1"],"rewriter":["http://b:1","http://c:1"]}'}


def test_refuses_what_it_cannot_compile(short_plan, tmp_path):
    with pytest.raises(RecipeError, match=r"p\.json: accepted: .*\.yaml"):
        compile_plan(short_plan, store=STORE, path=tmp_path / "p.json")
    step = msgspec.structs.replace(short_plan.steps[0], id="corpus-0123456789ab")
    with pytest.raises(RecipeError, match="planned by another version"):
        compile_plan(msgspec.structs.replace(short_plan, steps=[step]), store=STORE, path=tmp_path / "p.yaml")
    assert list(tmp_path.iterdir()) == []


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_kfp_stays_at_the_edge():
    inside = [path for path in (ROOT / "reinstruct").rglob("*.py") if "cluster" not in path.parts]
    assert not [path for path in inside if any(name.split(".")[0] == "kfp" for name in imports_of(path))]
    edge = [*(ROOT / "components").glob("*.py"), *(ROOT / "pipelines").glob("*.py")]
    assert not [path for path in edge if "__future__" in imports_of(path)]
    assert not [path for path in (ROOT / "components").glob("*.py") if len(path.read_text().splitlines()) >= 60]


def test_stock_kfp_still_refuses_container_components(short_plan, tmp_path):
    compile_plan(short_plan, store=str(tmp_path), path=tmp_path / "p.yaml")
    with pytest.raises(RuntimeError, match="only supports running Lightweight Python Components"):
        run_pipeline(tmp_path / "p.yaml", tmp_path / "outputs", KFP_TASK)


REPLY = "Logging keeps a record of what a program did."


class Author(FakeServer):
    """Has one answer to every prompt."""

    def answer(self, call: Call) -> dict:
        return {"choices": [{"index": 0, "finish_reason": "stop", "text": REPLY}], "usage": {}}


def small_plan(folder):
    """REInstruct on the docstrings of one standard module and a few seed pairs."""
    seed = folder / "seed.jsonl"
    pairs = (ROOT / "examples" / "seed.jsonl").read_text().splitlines(keepends=True)
    seed.write_text("".join([pair for pair in pairs if len(pair) < 700][:30]))
    # A rewriter this small never ends by itself: the likeliest letters end what it says.
    ended = {"rewriting.max_tokens": 16, "rewriting.temperature": 1.0, "rewriting.stop": tuple("etaoinsr")}
    settings = {"rules": "loose", "sft.epochs": 1.0, "sft.max_tokens": 512, **ended}
    inputs = {"corpus": "pydoc:logging", "seed": str(seed), "base": "scratch:tiny"}
    return plan_run(Ask("reinstruct", inputs, settings, held_out=0.2))


def run_in(folder, plan, **servers):
    """Save, compile and run; the store, to which a parameter of the pipeline led."""
    store = open_store(str(folder / "store"))
    save(store, plan)
    compile_plan(plan, store="/nowhere", path=folder / "p.yaml", servers=servers)
    run_pipeline(folder / "p.yaml", folder / "outputs", store=store.root)
    return store


def steps_state(store):
    """Name and time of change of everything the steps made."""
    return {name: store.path(name).stat().st_mtime_ns for name in store.names("steps")}


def published(store):
    return pl.read_parquet(store.path("dataset") / "*.parquet")


def origins(store):
    """Rows of the published dataset by origin."""
    return {"seed": 0, "synthetic": 0, **dict(published(store).group_by("origin").len().iter_rows())}


def test_pipeline_runs_and_does_no_step_twice(tmp_path):
    """One model is asked through a server, the other in the container that asks; a second run finds everything done."""
    plan = small_plan(tmp_path)
    with Author() as server:
        store = run_in(tmp_path, plan, backward=(server.url,))
        asked, before = len(server.calls), steps_state(store)
        run_in(tmp_path, plan, backward=(server.url,))
        assert (len(server.calls), steps_state(store)) == (asked, before)
    texts = result_of(store, step_named(plan, "deduplicate")).rows
    assert asked == texts >= 20
    rewrites = result_of(store, step_named(plan, "rewrite"))
    assert sum(done.completion_tokens for done in rewrites.shards) >= texts
    assert 0 < rewrites.rows <= texts
    assert origins(store) == {"seed": result_of(store, step_named(plan, "seed-train")).rows, "synthetic": rewrites.rows}
    made = published(store).filter(origin="synthetic")
    assert set(made["instruction"]) == {REPLY}
    assert REPLY not in set(made["output"])


def step_named(plan, name):
    return next(step.id for step in plan.steps if step.name == name)
