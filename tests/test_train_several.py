"""A run whose fine-tunings are done by several processes: the model of one process, and what is told of it."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from reinstruct.commit import Result, result_of
from reinstruct.corpus.open import open_source
from reinstruct.errors import RecipeError, TrainingError
from reinstruct.plan import Step, read
from reinstruct.planfile import Plan, specs
from reinstruct.recipes.reinstruct import Prompts
from reinstruct.records import Pair
from reinstruct.runner import LocalRunner
from reinstruct.serving import existing_model
from reinstruct.stages.instruct import PutToModel
from reinstruct.store import LocalStore
from reinstruct.train.settings import Sft
from reinstruct.train.several import PROCESSES, processes_here, run_by
from tests.conftest import tiny_model
from tests.test_train_processes import job_in

pytestmark = pytest.mark.slow


class Moves:
    """A watcher that remembers how far the training was."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def step_found(self, step: Step, result: Result) -> None: ...
    def step_started(self, step: Step, shards: int, left: int) -> None: ...
    def shard_finished(self, step: Step, shard: int) -> None: ...
    def step_finished(self, step: Step, result: Result) -> None: ...

    def shard_moved(self, step: Step, shard: int, done: int, total: int, tokens: int) -> None:
        if step.name == "tuned":
            self.seen.append((done, total))


def plan_of(folder: Path, **settings: object) -> Plan:
    """Pairs that a tiny model is tuned on."""
    said = [
        {"id": f"p{n}", "instruction": f"Say {n % 7}" * (1 + n % 5), "output": f"It is {n % 3}."} for n in range(32)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    pairs = read(open_source(str(folder / "pairs.jsonl"), Pair), name="pairs")
    asked = pairs.map(PutToModel(Prompts().chat), name="asked")
    base = existing_model(tiny_model(folder / "base"))
    tuned = base.train(
        asked, "tuned", Sft(**{"epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "precision": "float32", **settings})
    )
    assert tuned.step is not None
    return Plan(recipe="test", steps=specs(tuned.step), data=asked.step.id, models={"tuned": tuned.step.id})


def tuned_by(processes: int, folder: Path, plan: Plan, watcher: Moves):
    """Figures and weights."""
    store = LocalStore(folder / f"by-{processes}")
    LocalRunner(store, watcher, workers=2, train_processes=processes).run(plan)
    shard = result_of(store, plan.models["tuned"]).shards[0]
    return shard.metrics, load_file(store.path(shard.model) / "model.safetensors")


def test_several_processes_make_the_model_of_one_and_tell_how_far_they_are(tmp_path):
    plan, watcher = plan_of(tmp_path), Moves()
    one, ours = tuned_by(1, tmp_path, plan, Moves())
    two, theirs = tuned_by(2, tmp_path, plan, watcher)
    assert two["curve"] == [[step, pytest.approx(loss, abs=2e-3)] for step, loss in one["curve"]]
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(weight, atol=5e-3) for name, weight in theirs.items())
    assert [each["packing"]["passes_per_step"] for each in (one, two)] == [1, 2]
    assert watcher.seen[-1] == (24, 24)


def test_an_error_of_theirs_is_told_in_words(tmp_path):
    job = job_in(tmp_path, tiny_model(tmp_path / "base"), settings=Sft(max_tokens=2))
    with pytest.raises(TrainingError, match=r"^no usable training example \(max_tokens is 2\)"):
        run_by(1, job)


def test_a_number_of_processes_that_is_none_is_refused():
    assert processes_here({PROCESSES: "3"}) == 3
    with pytest.raises(RecipeError, match="REINSTRUCT_TRAIN_PROCESSES is 'two'; accepted: a whole number"):
        processes_here({PROCESSES: "two"})


def trainers(parent: psutil.Process) -> list[psutil.Process]:
    """The processes that train, without torchrun itself."""
    found = []
    for each in parent.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or a zombie
            words = each.cmdline()
            if "reinstruct.train" in words and "torch.distributed.run" not in words:
                found.append(each)
    return found


def test_they_end_with_the_run(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.test_train_several import *; folder = Path(sys.argv[1]); "
        "tuned_by(2, folder, plan_of(folder, epochs=5000), Moves())"
    )
    log = (tmp_path / "log").open("w")
    argv = [sys.executable, "-c", script, str(tmp_path)]
    run = subprocess.Popen(argv, cwd=Path(__file__).parents[1], stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while len(started := trainers(psutil.Process(run.pid))) < 2 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(started) == 2, (tmp_path / "log").read_text()
    run.kill()
    run.wait()
    assert psutil.wait_procs(started, timeout=60)[1] == []
