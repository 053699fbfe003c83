"""vLLM's processes: started, waited for, started anew, ended. A stand-in for vLLM is served, by real processes."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.engines import Engine, Pool
from reinstruct.errors import LLMError, RecipeError
from reinstruct.layout import output_parts
from reinstruct.model_checks import check_models
from reinstruct.plan import read
from reinstruct.planfile import Plan, specs, steps_of
from reinstruct.records import Document, Pair
from reinstruct.runner import LocalRunner
from reinstruct.serve import adapters, usage, weights
from reinstruct.serving import existing_model, open_served, served_name
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.store import LocalStore
from reinstruct.tables import read_parts
from reinstruct.vllm_launch import (
    Serving,
    Vllm,
    command,
    devices_per_server,
    environment,
    find_vllm,
    free_port,
    lora_rank,
    template_for,
)
from reinstruct.vllm_server import last_words
from tests.conftest import ROOT
from tests.test_runner import Notes

FAKE = ROOT / "tests" / "fake_vllm"


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python that has the stand-in."""
    path = tmp_path / "python-with-vllm"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={FAKE} exec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "teacher")


def model_folder(path: Path) -> Path:
    path.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (path / name).write_text("{}")
    return path


def asking(corpus: Path, *models: Path) -> Plan:
    """A plan that asks each of the models about the corpus, one after the other."""
    documents = read(open_source(str(corpus), Document), name="corpus")
    steps = [
        documents.map(WriteInstruction(existing_model(str(model)), Template("Say: {response}")), name=f"ask-{n}")
        for n, model in enumerate(models)
    ]
    both = steps[0] + steps[1] if len(steps) > 1 else steps[0]
    return Plan(recipe="test", steps=specs(both.step), data=both.step.id)


def answered(model: Path) -> Counter:
    return Counter(json.loads(line)[1] for line in (model / "answered").read_text().splitlines())


def rows(store: LocalStore, plan: Plan) -> list[Pair]:
    parts = output_parts(store, steps_of(plan)[plan.data])
    return [pair for chunk in read_parts(store, parts, Pair) for pair in chunk.records]


def processes_of(folder: Path) -> list[str]:
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.slow
def test_a_run_serves_its_models_and_ends_the_servers(tmp_path, corpus_file, python, model):
    other = model_folder(tmp_path / "other")
    plan, store = asking(corpus_file, model, other), LocalStore(tmp_path / "store")
    engine = Engine("vllm", python=python)
    check_models(plan, {}, engine)
    LocalRunner(store, Notes(), workers=2, engine=engine).run(plan)
    assert len(rows(store, plan)) == 80
    for each in (model, other):
        assert sum(answered(each).values()) == 40, "one question for each document"
        assert not processes_of(each)
    LocalRunner(store, Notes(), workers=2, engine=Engine("vllm", python="/none")).run(plan)


@pytest.mark.slow
def test_a_server_that_dies_is_started_anew_and_nothing_is_answered_twice(tmp_path, corpus_file, python, model):
    (model / "dies-after").write_text("17")
    plan, store = asking(corpus_file, model), LocalStore(tmp_path / "store")
    LocalRunner(store, Notes(), workers=1, engine=Engine("vllm", python=python)).run(plan)
    assert not (model / "dies-after").exists()
    assert len(rows(store, plan)) == 40
    assert sum(answered(model).values()) == 40, "one question for each document"


@pytest.mark.slow
def test_a_server_that_cannot_start_ends_the_run_with_its_words(tmp_path, corpus_file, python, model):
    (model / "fails").write_text("no such weights")
    plan, store = asking(corpus_file, model), LocalStore(tmp_path / "store")
    with pytest.raises(LLMError, match=r"ended with code 1: ValueError: no such weights \(its log: .*teacher"):
        LocalRunner(store, Notes(), workers=1, engine=Engine("vllm", python=python)).run(plan)
    assert result_of(store, plan.data) is None


@pytest.mark.slow
def test_idle_servers_stay_until_their_place_is_needed(tmp_path, python, model):
    other = model_folder(tmp_path / "other")
    pool = Pool(Engine("vllm", python=python), tmp_path / "logs", lambda: False)
    with pool.serving("a", str(model)) as first:
        pool.make_room()
        assert all(replica.is_ready() for replica in first.replicas), "it is in use"
    with pool.serving("a", str(model)) as again:
        assert again is first
    with pool.serving("b", str(other)) as second:
        assert not any(replica.is_ready() for replica in first.replicas)
    pool.make_room()
    assert not any(replica.is_ready() for replica in second.replicas)
    pool.close()


def serve(python: str, model: Path, *flags: str) -> subprocess.Popen:
    argv = [sys.executable, "-m", "reinstruct", "serve", str(model), "--port", "0", "--python", python, *flags]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_served_models_end_with_the_command(python, model, ending):
    with serve(python, model, "--replicas", "2", "--", "--seed", "7") as process:
        urls = process.stdout.readline().strip().split(",")
        assert len(urls) == 2
        open_served(tuple(urls)).check()
        open_served(tuple(f"{url}#model=teacher" for url in urls)).check()
        assert processes_of(model)
        process.send_signal(ending)
        process.wait()
        assert "ready in" in process.stderr.read()
    for _ in range(100):
        if not processes_of(model):
            break
        time.sleep(0.1)
    assert not processes_of(model)


@pytest.mark.slow
def test_the_guard_passes_on_the_end_and_the_code():
    guard, pipe = [sys.executable, "-m", "reinstruct.guard", "5", sys.executable, "-c"], subprocess.PIPE
    with subprocess.Popen([*guard, "raise SystemExit(7)"], stdin=pipe) as process:
        assert process.wait() == 7
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
    with subprocess.Popen([*guard, deaf], stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"up\n"
        process.stdin.write(b"now")
        process.stdin.close()
        assert process.wait() == 256 - signal.SIGKILL


def test_without_vllm_the_error_says_what_to_do():
    with pytest.raises(RecipeError, match=r"has no vLLM: install it there .*REINSTRUCT_VLLM_PYTHON"):
        find_vllm(sys.executable)
    with pytest.raises(RecipeError, match="cannot run /no/python"):
        find_vllm("/no/python")


def test_vllm_is_found_and_what_it_lacks_is_named(python):
    assert find_vllm(python, needs=("json",)) == Vllm(python, ("vllm.entrypoints.openai.api_server", "--model"))
    with pytest.raises(RecipeError, match="lacks no_such_module: install reinstruct there too"):
        find_vllm(python, needs=("json", "no_such_module"))


def test_a_servers_flags_come_last_and_adapters_by_name(tmp_path):
    for name, rank in (("a", 4), ("b", 24)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    loras = {"x": str(tmp_path / "a"), "y": str(tmp_path / "b")}
    argv = command(Vllm("py", ("m", "serve")), Serving("org/m", "m", loras, ("--port", "9")), 8000)
    assert argv[:5] == ["py", "-m", "m", "serve", "org/m"]
    assert argv[argv.index("--max-lora-rank") + 1] == "32"
    assert argv[argv.index("--lora-modules") + 1 :] == [f"x={loras['x']}", f"y={loras['y']}", "--port", "9"]
    with pytest.raises(RecipeError, match=r"no LoRA adapter in .*expected adapter_config\.json"):
        lora_rank([str(tmp_path)])
    assert usage(["http://a"], Serving("org/m", "m")) == "use it with --server http://a"
    assert ", http://a#model=y" in usage(["http://a"], Serving("org/m", "m", loras))


def test_adapters_are_named_once(tmp_path):
    assert adapters([f"a={tmp_path}"]) == {"a": str(tmp_path)}
    for flags in (["a"], ["a=x", "a=y"], ["=x"]):
        with pytest.raises(RecipeError, match="--lora is"):
            adapters(flags)


def test_replicas_share_the_devices():
    def seen(given: list[str], replica: int, replicas: int) -> str:
        return environment(given, replica, replicas)["CUDA_VISIBLE_DEVICES"]

    assert [seen(["0", "1", "2", "3"], n, 2) for n in range(2)] == ["0,1", "2,3"]
    assert [seen(["5"], n, 2) for n in range(2)] == ["5", "5"]
    assert environment([], 1, 2)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert devices_per_server(("--seed", "1", "-tp", "4", "--pipeline-parallel-size=2")) == 8
    assert devices_per_server(()) == 1


def test_a_model_without_a_chat_template_gets_the_one_of_the_other_engines(tmp_path):
    folder = model_folder(tmp_path / "m")
    assert "### " in template_for(str(folder))
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert template_for(str(folder)) == template_for("org/name") == ""


def test_the_last_words_are_the_cause():
    log = """(APIServer pid=1) INFO 11-21 11:46:18 [x.py:195] Route
(EngineCore pid=2) ERROR 11-21 11:46:19 [core.py:14]     raise ValueError("a")
(EngineCore pid=2) ERROR 11-21 11:46:19 [core.py:14] ValueError: No space for the KV cache
RuntimeError: Engine core initialization failed. See root cause above.
"""
    assert last_words(log) == "ValueError: No space for the KV cache"
    assert last_words("api_server.py: error: unrecognized arguments: --x\n") == (
        "api_server.py: error: unrecognized arguments: --x"
    )
    assert last_words("Killed\n\n") == "Killed"
    assert last_words("") == "no output"


def test_what_is_served_is_a_model(tmp_path, model):
    assert weights(str(model)) == str(model)
    assert weights("org/name") == "org/name"
    (tmp_path / "run" / "models").mkdir(parents=True)
    model_folder(tmp_path / "run" / "models" / "final")
    with pytest.raises(RecipeError, match=r"is a run; name one of its models: .*run/models/final"):
        weights(str(tmp_path / "run"))
    for wrong in ("scratch:tiny", "gs://bucket/m", str(tmp_path / "none")):
        with pytest.raises(RecipeError):
            weights(wrong)


def test_two_versions_of_a_model_have_two_names(model):
    first = existing_model(str(model))
    assert served_name(first) != served_name(replace(first, fingerprint="other"))
    assert served_name(existing_model("org/name")) == "name"


def test_an_unknown_engine_is_refused_and_the_nearest_named():
    with pytest.raises(RecipeError, match=r"--engine is 'vlm'; accepted: transformers, vllm.*did you mean 'vllm'"):
        Engine("vlm")
    with pytest.raises(RecipeError, match="--models-at-once is 0"):
        Engine("vllm", models=0)
    with pytest.raises(RecipeError, match="--vllm-flags is '--seed 1'"):
        Engine(flags=("--seed", "1"))


def test_a_taken_port_is_refused():
    import socket

    from reinstruct.vllm_launch import expect_free

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RecipeError, match=r"--port .* cannot be used"):
            expect_free(taken.getsockname()[1])
    expect_free(free_port())
