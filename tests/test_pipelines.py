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
from fake_server import Call, FakeServer
from kfp_processes import KFP_TASK, run_pipeline

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

ROOT = Path(__file__).parents[1]
STORE = "gs://bucket/runs"


def inputs_of(recipe, folder):
    """A URI for each input the recipe must have, by what its signature says the input is."""
    needed = [wanted for wanted in recipe.inputs if wanted.required]
    has_corpus = any(wanted.record_type is Document for wanted in needed)
    uris = {}
    for wanted in needed:
        if wanted.record_type is None:
            uris[wanted.name] = "scratch:tiny" if has_corpus else "org/name"
        else:
            row = (
                {"text": "Stir the soup."} if wanted.record_type is Document else {"instruction": "Add", "output": "4"}
            )
            (folder / f"{wanted.name}.jsonl").write_text(json.dumps(row) + "\n")
            uris[wanted.name] = str(folder / f"{wanted.name}.jsonl")
    return uris


def planned(folder, name="reinstruct"):
    return plan_run(Ask(name, inputs_of(recipes.find(name), folder)))


def compiled(plan, path, **settings):
    """The compiled file, and its tasks: step id ("" for the last) -> (task, its container)."""
    compile_plan(plan, store=STORE, path=path, **settings)
    (spec,) = yaml.safe_load_all(path.read_text())
    tasks = {}
    for task in spec["root"]["dag"]["tasks"].values():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        container = spec["deploymentSpec"]["executors"][label]["container"]
        tasks[parameter(task, "step")] = (task, container)
    assert len(tasks) == len(spec["root"]["dag"]["tasks"])
    return spec, tasks


def parameter(task, name):
    given = task["inputs"]["parameters"].get(name, {})
    return given.get("runtimeValue", {}).get("constant", "")


def edges(spec):
    """Step id ("" for the last) -> the ids of the steps its task waits for."""
    tasks = spec["root"]["dag"]["tasks"]
    step_of = {name: parameter(task, "step") for name, task in tasks.items()}
    return {
        step_of[name]: {step_of[before] for before in task.get("dependentTasks", [])} for name, task in tasks.items()
    }


def everything_before(graph, node):
    return {b for direct in graph[node] for b in (direct, *everything_before(graph, direct))}


@pytest.mark.parametrize("name", recipes.names())
def test_each_step_has_its_task(name, tmp_path):
    plan = planned(tmp_path, name)
    _, tasks = compiled(plan, tmp_path / "p.yaml")
    steps = {id: step for id, step in steps_of(plan).items() if not isinstance(step.action, Concat)}
    assert tasks.keys() == steps.keys() | {""}
    for id, (task, container) in tasks.items():
        verb = verb_of(steps[id]) if id else "publish"
        assert container["command"] == ["python", "-m", "reinstruct.container"]
        assert container["args"] == [verb, "--executor-input", "{{$}}"]
        assert task["taskInfo"]["name"] == (steps[id].name if id else "publish")
        assert not task["cachingOptions"].get("enableCache")
        for given in ("store", "plan"):
            assert task["inputs"]["parameters"][given] == {"componentInputParameter": given}


@pytest.mark.parametrize("name", recipes.names())
def test_tasks_wait_for_what_the_plan_says(name, tmp_path):
    plan = planned(tmp_path, name)
    spec, _ = compiled(plan, tmp_path / "p.yaml")
    steps, made = steps_of(plan), edges(spec)
    needs = {id: {needed.id for needed in step.needs} for id, step in steps.items()}
    for id in made.keys() - {""}:
        assert everything_before(made, id) == everything_before(needs, id) & made.keys()
    assert everything_before(made, "") == made.keys() - {""}


def test_a_concatenation_has_no_task_and_its_inputs_are_waited_for(tmp_path):
    spec, _ = compiled(planned(tmp_path), tmp_path / "p.yaml")
    before = {id.rpartition("-")[0]: {b.rpartition("-")[0] for b in found} for id, found in edges(spec).items() if id}
    assert before["corpus"] == set()
    assert before["guess"] == {"deduplicate", "backward"}
    assert before["final"] == {"tag-seed", "tag-synthetic", "base"}
    assert before["loss-final"] == {"held-out", "final"}
    assert "concat" not in before


def test_two_compiles_are_equal(tmp_path):
    plan = planned(tmp_path)
    compile_plan(plan, store=STORE, path=tmp_path / "a.yaml")
    compile_plan(plan, store=STORE, path=tmp_path / "new folder" / "b.yaml")
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "new folder" / "b.yaml").read_bytes()


def test_store_and_plan_are_parameters_with_defaults(tmp_path):
    plan = planned(tmp_path)
    spec, _ = compiled(plan, tmp_path / "p.yaml")
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    saved_as = save(open_store(str(tmp_path / "store")), plan)
    assert {name: found["defaultValue"] for name, found in parameters.items()} == {"store": STORE, "plan": saved_as}


@pytest.mark.parametrize("recipe", ["reinstruct", "Self_Instruct", "_" + "long_name" * 12])
def test_pipeline_names_suit_dns(recipe, tmp_path):
    plan = msgspec.structs.replace(planned(tmp_path), recipe=recipe)
    name = compiled(plan, tmp_path / "p.yaml")[0]["pipelineInfo"]["name"]
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)
    assert name.endswith(plan.id[-12:])


def test_torch_is_only_where_it_is_needed(tmp_path):
    plan, images = planned(tmp_path), Images(worker="w:1", trainer="t:1")
    verbs = {"": "publish", **{id: verb_of(s) for id, s in steps_of(plan).items() if not isinstance(s.action, Concat)}}

    def trainers(**settings):
        tasks = compiled(plan, tmp_path / "p.yaml", images=images, **settings)[1]
        assert {container["image"] for _, container in tasks.values()} == {"w:1", "t:1"}
        return {id for id, (_, container) in tasks.items() if container["image"] == "t:1"}

    by_torch = {id for id, verb in verbs.items() if verb in ("train", "measure")}
    asking = {id for id, verb in verbs.items() if verb == "ask"}
    assert trainers() == by_torch | asking
    assert trainers(servers={"": ("http://vllm:8000",)}) == by_torch
    backward_served = trainers(servers={"backward": ("http://vllm:8000",)}) - by_torch
    assert {id.rpartition("-")[0] for id in backward_served} == {"rewrite"}


def test_tasks_are_told_their_servers(tmp_path):
    servers = {"rewriter": ("http://b:1", "http://c:1"), "backward": ("http://a:1",)}
    _, tasks = compiled(planned(tmp_path), tmp_path / "p.yaml", servers=servers)
    told = {parameter(task, "servers") for id, (task, _) in tasks.items() if id}
    assert told == {'{"backward":["http://a:1"],"rewriter":["http://b:1","http://c:1"]}'}


def test_refuses_what_it_cannot_compile(tmp_path):
    plan = planned(tmp_path)
    with pytest.raises(RecipeError, match=r"p\.json: accepted: .*\.yaml"):
        compile_plan(plan, store=STORE, path=tmp_path / "p.json")
    plan.steps[0].id = "corpus-0123456789ab"
    with pytest.raises(RecipeError, match="planned by another version"):
        compile_plan(plan, store=STORE, path=tmp_path / "p.yaml")
    assert not (tmp_path / "p.yaml").exists()


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


def test_stock_kfp_still_refuses_container_components(tmp_path):
    plan = planned(tmp_path)
    compile_plan(plan, store=str(tmp_path), path=tmp_path / "p.yaml")
    with pytest.raises(RuntimeError, match="only supports running Lightweight Python Components"):
        run_pipeline(tmp_path / "p.yaml", tmp_path / "outputs", KFP_TASK)


class Author(FakeServer):
    """Answers every prompt with one line."""

    def answer(self, call: Call) -> dict:
        text = "Logging keeps a record of what a program did."
        return {"choices": [{"index": 0, "finish_reason": "stop", "text": text}], "usage": {}}


def small_plan(folder, **settings):
    """REInstruct on the docstrings of one standard module and a few seed pairs."""
    seed = folder / "seed.jsonl"
    seed.write_text("".join((ROOT / "examples" / "seed.jsonl").read_text().splitlines(keepends=True)[:24]))
    sft = {"epochs": 1.0, "learning_rate": 1e-4, "max_tokens": 256}
    settings = {"rules": "loose", "writing.max_tokens": 8, "rewriting.max_tokens": 8, "sft": sft, **settings}
    inputs = {"corpus": "pydoc:logging", "seed": str(seed), "base": "scratch:tiny"}
    return plan_run(Ask("reinstruct", inputs, settings, held_out=0.2))


def run_in(folder, plan, servers):
    """Save, compile and run; the store the pipeline was pointed at by its parameter."""
    store = open_store(str(folder / "store"))
    save(store, plan)
    compile_plan(plan, store=STORE, path=folder / "p.yaml", servers=servers)
    run_pipeline(folder / "p.yaml", folder / "outputs", store=store.root)
    return store


def published(store):
    return pl.read_parquet(store.path("dataset"))


@pytest.mark.slow
def test_the_pipeline_runs_and_never_does_a_step_twice(tmp_path):
    with Author() as server:
        store = run_in(tmp_path, small_plan(tmp_path), {"": (server.url,)})
        asked = len(server.calls)
    plan = small_plan(tmp_path)
    pairs = published(store)
    by_origin = dict(pairs.group_by("origin").len().iter_rows())
    assert by_origin["seed"] == result_of(store, plan.steps[0].id).rows
    assert by_origin["synthetic"] >= 20
    assert set(pairs.filter(pl.col("origin") == "synthetic")["output"]) == {"x"}
    assert asked
