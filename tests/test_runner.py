"""The local runner: real processes, resume, and clear failures."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import pytest

from reinstruct.commit import Result, result_of
from reinstruct.container import task_from_executor_input, verb_of, write_executor_output
from reinstruct.corpus.open import open_source
from reinstruct.engines import Engine
from reinstruct.errors import CorpusError, RecipeError
from reinstruct.model_checks import check_models
from reinstruct.plan import Step, read
from reinstruct.planfile import Plan, newest, save, specs
from reinstruct.records import Document
from reinstruct.runner import LocalRunner
from reinstruct.stage import Transform
from reinstruct.stages.gather import DropDuplicates
from reinstruct.stages.text import KeepLengths
from reinstruct.store import LocalStore
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.found: list[str] = []

    def step_found(self, step: Step, result: Result) -> None:
        self.found.append(step.name)

    def step_started(self, step: Step, shards: int, left: int) -> None: ...
    def shard_moved(self, step: Step, shard: int, done: int, total: int, tokens: int) -> None: ...
    def shard_finished(self, step: Step, shard: int) -> None: ...

    def step_finished(self, step: Step, result: Result) -> None:
        self.ran.append(step.name)


def plan_of(corpus: Path) -> Plan:
    kept = read(open_source(str(corpus), Document), name="corpus").map(KeepLengths("text", 50, 9999), name="lengths")
    target = kept.gather(DropDuplicates()).step
    return Plan(recipe="test", steps=specs(target), data=target.id)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_a_plan_runs_once_and_is_found_the_second_time(store, corpus_file):
    plan, first, second = plan_of(corpus_file), Notes(), Notes()
    LocalRunner(store, first, workers=2).run(plan)
    assert (first.ran, first.found) == (["corpus", "lengths", "drop-duplicates"], [])
    assert result_of(store, plan.data).rows == 38
    LocalRunner(store, second, workers=2).run(plan)
    assert (second.ran, second.found) == ([], ["corpus", "lengths", "drop-duplicates"])
    assert newest(store).id == plan.id


def test_a_corpus_of_which_nothing_is_left_ends_the_run_each_time(store, corpus_file):
    kept = read(open_source(str(corpus_file), Document), name="corpus").map(KeepLengths("text", 9999), name="lengths")
    target = kept.gather(DropDuplicates()).step
    plan, notes = Plan(recipe="test", steps=specs(target), data=target.id), Notes()
    for _ in range(2):  # when it is found out, and when it is found done
        with pytest.raises(CorpusError, match=r"step lengths let none of 40 documents through: too_short 40\. Is it"):
            LocalRunner(store, notes, workers=2).run(plan)
    assert "drop-duplicates" not in notes.ran
    lengths = next(step.id for step in plan.steps if step.name == "lengths")
    command = [sys.executable, "-m", "reinstruct.container", "map"]
    flags = ["--store", store.root, "--plan", save(store, plan), "--step", lengths]
    pod = subprocess.run([*command, *flags], capture_output=True, text=True)
    assert (pod.returncode, msgspec.json.decode(pod.stdout)["kind"]) == (2, "CorpusError")


def test_what_a_killed_attempt_left_is_swept_when_the_step_closes(store, corpus_file):
    plan = plan_of(corpus_file)
    orphan = store.path(f"steps/{plan.data}/parts/00000-killed.parquet")
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half a par")
    LocalRunner(store, Notes(), workers=1).run(plan)
    assert not orphan.exists()


def test_a_corpus_that_changed_since_planning_is_an_error_in_words(store, corpus_file):
    plan = plan_of(corpus_file)
    corpus_file.write_text('{"text": "something else"}\n')
    with pytest.raises(CorpusError, match=r"corpus, shard 0: .*corpus\.jsonl"):
        LocalRunner(store, Notes(), workers=1).run(plan)
    assert store.names(f"steps/{plan.steps[0].id}/done") == []


def container(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reinstruct.container", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_the_container_refuses_what_is_not_its_step(store, corpus_file):
    plan = plan_of(corpus_file)
    LocalRunner(store, Notes(), workers=1).run(plan)
    flags = ["--store", store.root, "--plan", f"plans/{plan.id}.json"]
    wrong = container("gather", *flags, "--step", plan.steps[0].id)
    assert wrong.returncode == 2
    assert "run by the verb 'read', not 'gather'" in wrong.stdout
    missing = container("read", *flags, "--step", "corpus-0")
    assert "no step 'corpus-0'" in missing.stdout
    done = container("read", *flags, "--step", plan.steps[0].id)
    assert msgspec.json.decode(done.stdout.splitlines()[-1])["rows"] == 40


def test_a_process_ends_with_its_runner():
    code = "import time, reinstruct.container as c; c.die_with_parent(); print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "up\n"
        child.stdin.close()
        assert child.wait(timeout=10) == 3


def test_executor_input_and_output_follow_kubeflows_protocol(tmp_path: Path):
    artifact = {"name": "made", "type": {"schemaTitle": "system.Dataset"}, "uri": f"{tmp_path}/made", "metadata": {}}
    text = msgspec.json.encode(
        {
            "inputs": {"parameterValues": {"store": "s", "plan": "p", "step": "x", "servers": '{"": ["http://a"]}'}},
            "outputs": {"artifacts": {"made": {"artifacts": [artifact]}}, "outputFile": f"{tmp_path}/out/file.json"},
        }
    ).decode()
    task = task_from_executor_input(text)
    assert (task.store, task.plan, task.step, task.servers) == ("s", "p", "x", {"": ("http://a",)})
    write_executor_output(text, {"rows": 3, "uri": "s/steps/x"})
    answer = msgspec.json.decode((tmp_path / "out" / "file.json").read_bytes())
    assert answer["artifacts"]["made"]["artifacts"][0]["metadata"] == {"rows": 3, "uri": "s/steps/x"}
    assert msgspec.json.decode((tmp_path / "made").read_bytes())["rows"] == 3


def test_servers_for_models_nobody_asks_are_refused(corpus_file):
    with pytest.raises(RecipeError, match="no model 'backwards' is asked"):
        check_models(plan_of(corpus_file), {"backwards": ("http://127.0.0.1:1",)}, Engine())


def test_a_run_killed_at_any_moment_goes_on_to_the_same_rows(tmp_path: Path, corpus_file):
    """A real `kill -9` of the whole runner, at growing delays, until one run gets through."""
    store = LocalStore(tmp_path / "killed")
    script = (
        "import sys; from tests.test_runner import *; "
        "LocalRunner(LocalStore(sys.argv[1]), Notes(), workers=2).run(plan_of(Path(sys.argv[2])))"
    )
    argv = [sys.executable, "-c", script, store.root, str(corpus_file)]
    kills = 0
    for delay in (0.6, 1.0, 1.4, 1.8, 60):
        process = subprocess.Popen(argv, cwd=Path(__file__).parents[1], start_new_session=True)
        try:
            process.wait(timeout=delay)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
    assert kills >= 1
    plan = plan_of(corpus_file)
    undisturbed = LocalStore(tmp_path / "undisturbed")
    LocalRunner(undisturbed, Notes(), workers=2).run(plan)
    (killed,), (whole,) = result_of(store, plan.data).parts, result_of(undisturbed, plan.data).parts
    assert (killed.rows, killed.sha256) == (whole.rows, whole.sha256)


@dataclass(frozen=True)
class Sleeps(Transform[Document, Document]):
    """Takes five minutes a row and says nothing."""

    def apply(self, record: Document) -> Document:
        time.sleep(300)
        return record


def sleeping(store: str, corpus: str) -> None:
    step = read(open_source(corpus, Document), name="corpus").map(Sleeps(), name="sleeps").step
    LocalRunner(LocalStore(store), Notes(), workers=2).run(Plan(recipe="test", steps=specs(step), data=step.id))


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the runner", "to all, as a terminal does"])
def test_an_interrupted_run_ends_at_once_with_its_workers(tmp_path: Path, corpus_file, send):
    code = "import sys; from tests.test_runner import sleeping; sleeping(*sys.argv[1:])"
    argv = [sys.executable, "-c", code, str(tmp_path / "store"), str(corpus_file)]
    with subprocess.Popen(argv, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob("store/steps/sleeps-*/logs/*")):
                assert time.monotonic() < deadline, "the step does not begin"
                time.sleep(0.05)
            started = psutil.Process(process.pid).children(recursive=True)
            assert started
            send(process.pid, signal.SIGINT)
            assert process.communicate(timeout=60)[1].endswith("KeyboardInterrupt\n")
            assert psutil.wait_procs(started, timeout=10)[1] == []
        finally:
            process.kill()


def test_verbs_name_the_kind_of_step(corpus_file):
    from reinstruct.planfile import steps_of

    assert [verb_of(step) for step in steps_of(plan_of(corpus_file)).values()] == ["read", "map", "gather"]
