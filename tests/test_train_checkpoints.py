"""Checkpoints: what counts after a kill or damage, in a folder and in a bucket, and what writing them costs."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from reinstruct.errors import RecipeError, StoreError, TrainingError
from reinstruct.records import Example, to_table
from reinstruct.store import LocalStore
from reinstruct.train.alone import alone
from reinstruct.train.checkpoints import OTHER, Checkpoints, Found, owner
from reinstruct.train.finished import building, tried
from reinstruct.train.job import Job, check, run
from reinstruct.train.model_card import licence_of
from reinstruct.train.settings import Sft
from tests.conftest import tiny_model
from tests.memory_store import MemoryStore


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    return LocalStore(tmp_path / "store") if request.param == "folder" else MemoryStore(tmp_path / "scratch")


def write(kept, step, best=None, ranks=None):
    """A checkpoint as the processes of a training write it."""
    for rank in range(kept.processes) if ranks is None else ranks:
        kept.folder(step).mkdir(parents=True, exist_ok=True)
        (kept.folder(step) / f"rng_state_{rank}.pth").write_text(f"random {step}")
        if rank == 0:
            (kept.folder(step) / "model.safetensors").write_text(f"weights {step}")
        kept.commit(step, rank, best)


def test_only_checkpoints_with_a_manifest_count(store):
    kept = Checkpoints(store, processes=2)
    assert kept.prepare("job") == Found(0, {})
    write(kept, 9)
    write(kept, 10)
    write(kept, 11, ranks=[1])
    kept.folder(12).mkdir()
    assert kept.complete() == [9, 10]
    assert kept.prepare("job") == Found(10, dict.fromkeys(["checkpoint-11", "checkpoint-12"], "it was not finished"))
    assert not kept.folder(11).exists()
    assert [path.name for path in sorted(kept.fetch(10).iterdir()) if path.suffix != ".json"] == [
        "model.safetensors",
        "rng_state_0.pth",
        "rng_state_1.pth",
    ]


def test_checkpoints_outlive_the_disk_they_were_written_on(tmp_path):
    store = MemoryStore(tmp_path / "scratch")
    kept = Checkpoints(store)
    kept.prepare("job")
    write(kept, 3)
    shutil.rmtree(tmp_path / "scratch")
    assert kept.prepare("job") == Found(3, {})
    assert (kept.fetch(3) / "model.safetensors").read_text() == "weights 3"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: path.write_text("weights ?"), "model.safetensors is not what was written: its SHA-256 differs"),
        (lambda path: path.write_text("weig"), "model.safetensors has 4 bytes, not 9"),
        (lambda path: path.unlink(), "model.safetensors is missing"),
        (lambda path: path.with_name("manifest.json").write_text("{"), "manifest.json is damaged"),
    ],
)
def test_damaged_checkpoints_are_passed_over_with_a_word(damage, fault, tmp_path):
    kept = Checkpoints(LocalStore(tmp_path))
    kept.prepare("job")
    write(kept, 1)
    write(kept, 2)
    damage(kept.folder(2) / "model.safetensors")
    assert kept.prepare("job") == Found(1, {"checkpoint-2": fault})
    assert kept.complete() == [1]
    write(kept, 2)
    assert kept.prepare("job") == Found(2, {})


def test_each_training_has_checkpoints_of_its_own_and_may_be_gone_back_to(store):
    kept = Checkpoints(store)
    kept.prepare("job")
    write(kept, 9)
    home = kept.home.removeprefix("checkpoints/")
    assert kept.prepare("other job") == Found(0, {f"{home}/checkpoint-9": OTHER})
    assert kept.complete() == []
    write(kept, 4)
    assert kept.prepare("job").step == 9
    assert Checkpoints(store).complete() == [9]


def test_so_many_are_kept_and_the_best_ones_of_those(store):
    kept = Checkpoints(store, keep=2)
    kept.prepare("job")
    for step, best in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3)]:
        write(kept, step, best)
        kept.retire()
    assert kept.complete() == [3, 4, 5]
    assert not kept.folder(2).exists()


def test_a_checkpoint_whose_best_one_is_gone_does_not_count(tmp_path):
    kept = Checkpoints(LocalStore(tmp_path), keep=3)
    kept.prepare("job")
    for step, best in [(1, 1), (2, 2), (3, 2)]:
        write(kept, step, best)
    (kept.folder(2) / "model.safetensors").unlink()
    assert kept.prepare("job") == Found(
        1,
        {
            "checkpoint-2": "model.safetensors is missing",
            "checkpoint-3": "the best one so far, checkpoint-2, is gone",
        },
    )


def test_two_processes_that_finish_together_make_one_checkpoint(store):
    kept = Checkpoints(store, processes=2)
    kept.prepare("job")
    for step in range(1, 21):
        both = [threading.Thread(target=write, args=(kept, step, None, [rank])) for rank in (0, 1)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert kept.complete() == list(range(1, 21))
    assert kept.prepare("job") == Found(20, {})


def test_files_belong_to_the_process_whose_number_they_carry():
    names = {
        **dict.fromkeys(["model.safetensors", "rng_state.pth", "rng_state_0.pth", ".metadata", "__0_0.distcp"], 0),
        **dict.fromkeys(["zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"], 0),
        **dict.fromkeys(["rng_state_3.pth", "__3_1.distcp", "bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt"], 3),
    }
    assert {name: owner(name) for name in names} == names


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint_s", "held_s", "apart"), [(60.0, 5.0, 100.0), (60.0, 1.0, 60.0), (200.0, 5.0, 200.0), (0.0, 5.0, 0.0)]
)
def test_checkpoints_that_hold_the_training_up_are_further_apart(tmp_path, checkpoint_s, held_s, apart):
    from reinstruct.train.saving import Saving
    from reinstruct.train.watch import Watch

    clock, args = Clock(), SimpleNamespace(world_size=1)
    state = SimpleNamespace(global_step=1, max_steps=9, is_world_process_zero=True, log_history=[])

    def asked_for(seconds):
        clock.now += seconds
        control = SimpleNamespace(should_save=False)
        watch.on_step_end(args, state, control)
        return control.should_save

    kept = Checkpoints(LocalStore(tmp_path))
    kept.prepare("job")
    with Saving(kept, 0, clock) as saving:
        watch = Watch(saving, checkpoint_s, tmp_path / "log.jsonl", None)
        watch.on_train_begin(args, state, None)
        assert asked_for(checkpoint_s)
        with saving.checkpoint(1, None):
            clock.now += held_s
        watch.on_save(args, state, None)
        saving.wait()
        assert not apart or not asked_for(apart - 1)
        assert asked_for(1)
    assert saving.figures()["lost_s"] == held_s


@pytest.fixture
def job(tmp_path):
    """Trains a model of one layer in ten steps."""
    words = ["river", "hill", "mill", "town", "sea"]
    said = [Example(id=f"e{n}", prompt=f"{words[n % 5]} " * (1 + n % 7), target=f" {words[n % 3]}!") for n in range(20)]
    said = [replace(row, origin="seed", licence="cc0-1.0") if n < 12 else row for n, row in enumerate(said)]
    pq.write_table(to_table(said, Example), tmp_path / "rows.parquet")
    settings = Sft(epochs=2, learning_rate=1e-2, batch_size=4, max_tokens=256)
    place = {"work": str(tmp_path / "work"), "out": str(tmp_path / "out")}
    return Job(kind="sft", data=(str(tmp_path / "rows.parquet"),), base="org/name", settings=settings, **place)


def test_wrong_places_and_numbers_are_refused_before_anything_is_spent(job):
    with pytest.raises(RecipeError, match="keep_checkpoints is 0; accepted: a number above 0"):
        check(replace(job, keep_checkpoints=0), find=str)
    with pytest.raises(StoreError, match="no store for 'floppy://a'"):
        check(replace(job, checkpoints="floppy://a"), find=str)
    with pytest.raises(RecipeError, match="loader_workers is -1; accepted: 0 or more"):
        check(replace(job, loader_workers=-1), find=str)
    with pytest.raises(RecipeError, match="pass_tokens is -1; accepted: 0 or more"):
        check(replace(job, pass_tokens=-1), find=str)


def test_nothing_but_a_finished_job_is_ever_replaced(job, tmp_path):
    """`out` is replaced whole, so it must hold nothing else."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "of last year").write_text("precious")
    for out in ("", ".", str(tmp_path / "models"), str(tmp_path / "rows.parquet")):
        with pytest.raises(RecipeError, match="accepted: a folder that is new, empty or was made by a job"):
            check(replace(job, out=out), find=str)
    done = tmp_path / "done"
    (done / "work").mkdir(parents=True)
    (done / "metrics.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"out is .*done, in which work lies \(.*\); accepted: a folder of its own"):
        check(replace(job, out=str(done), work=str(done / "work")), find=str)
    check(replace(job, out=str(done)), find=str)
    (tmp_path / "empty").mkdir()
    check(replace(job, out=str(tmp_path / "empty")), find=str)


def test_a_folder_of_the_same_name_stands_until_the_new_one_is_whole(tmp_path):
    out = tmp_path / "out"
    for content in ("first", "second"):
        with building(out) as folder:
            assert not out.exists() or (out / "a").read_text() == "first"
            (folder / "a").write_text(content)
    assert (out / "a").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_jobs_do_not_train_in_one_folder(tmp_path):
    work = str(tmp_path / "work")
    with alone(work), pytest.raises(TrainingError, match="another process is training in"), alone(work):
        pytest.fail("the second was let in")
    with alone(work):
        pass


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def elsewhere(job, folder, **changed):
    return replace(job, work=str(folder / "work"), out=str(folder / "out"), **changed)


def weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


class StopEarly(Exception):
    """Raised in the middle of a training, as a kill would end it."""


def stop_at(step):
    def progress(done, total):
        time.sleep(0.05)  # a checkpoint is under way meanwhile
        if done == step:
            raise StopEarly

    return progress


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_steps_and_nothing_else(job, base, tmp_path, capsys):
    job = replace(job, base=base)
    whole = run(elsewhere(job, tmp_path / "whole"))
    cut = elsewhere(
        job, tmp_path / "cut", checkpoint_s=0.0, checkpoints=str(tmp_path / "elsewhere"), keep_checkpoints=3
    )
    with pytest.raises(StopEarly):
        run(cut, stop_at(8))
    kept = Checkpoints(LocalStore(tmp_path / "elsewhere"))
    steps = kept.complete()
    assert len(steps) == 3
    (kept.folder(steps[-1]) / "optimizer.pt").write_bytes(b"half")
    metrics = run(cut)
    assert metrics["checkpoints"]["went_on_from"] == steps[-2]
    assert f"checkpoint-{steps[-1]} is passed over: optimizer.pt has 4 bytes" in capsys.readouterr().err
    assert metrics["curve"] == whole["curve"]
    assert weights(cut.out) == weights(tmp_path / "whole" / "out")
    assert not (tmp_path / "cut" / "work" / "checkpoints").exists()


LIMITED = """\
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from reinstruct.train.__main__ import main
sys.argv[1:] = ["--config", sys.argv[2]]
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint_s", "place"), [(0.0, "work/checkpoints/checkpoint-1"), (60.0, "out")], ids=["checkpoint", "model"]
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_done(job, base, tmp_path, checkpoint_s, place):
    job = replace(job, base=base, checkpoint_s=checkpoint_s)
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-c", LIMITED, "40000", str(tmp_path / "job.json")]  # bytes; the weights are 100,000
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("cannot write ")
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert Checkpoints(LocalStore(job.work)).complete() == []
    if checkpoint_s:
        run(job)
        assert (tmp_path / "out" / "manifest.json").exists()


def spoil_a_number(folder):
    change_weights(folder, lambda weights: weights["model.norm.weight"].fill_(float("nan")))


def lose_a_weight(folder):
    change_weights(folder, lambda weights: weights.pop("model.norm.weight"))


def state_another_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))


def cut_the_file(folder):
    (folder / "model.safetensors").write_bytes(weights(folder)[:5000])


def change_weights(folder, change):
    from safetensors.torch import load_file, save_file

    loaded = load_file(folder / "model.safetensors")
    change(loaded)
    save_file(loaded, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_a_number, "model.norm.weight holds values that are no numbers"),
        (lose_a_weight, "its files lack model.norm.weight"),
        (state_another_type, "config.json says bfloat16, its weights are float32"),
        (cut_the_file, "model.safetensors cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "it cannot be loaded and asked"),
    ],
)
def test_a_model_of_no_use_does_not_appear(base, tmp_path, spoil, said):
    def save():
        with building(tmp_path / "out", tried) as folder:
            shutil.copytree(base, folder, dirs_exist_ok=True)
            spoil(folder)

    with pytest.raises(TrainingError, match=f"the trained model is of no use: {said}"):
        save()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_base_is_not_gone_on_from(job, base, tmp_path, capsys):
    """Of two iterations of a model, whose tokenizer and rows are the same."""
    other = tiny_model(tmp_path / "other", seed=5)
    with pytest.raises(StopEarly):
        run(replace(job, base=base, checkpoint_s=0.0), stop_at(8))
    steps = Checkpoints(LocalStore(job.work)).complete()
    metrics = run(replace(job, base=other))
    assert metrics["checkpoints"]["went_on_from"] == 0
    assert f"checkpoint-{steps[-1]} is passed over: it is of another training, and stays" in capsys.readouterr().err
    run(elsewhere(replace(job, base=other), tmp_path / "alone"))
    assert weights(job.out) == weights(tmp_path / "alone" / "out")


def test_the_licence_of_a_base_is_what_its_card_states(tmp_path):
    for stated in ("mit", '"mit"', "'mit'"):
        (tmp_path / "README.md").write_text(f"---\ntags: [a]\nlicense: {stated}\n---\n\nlicense: none of this\n")
        assert licence_of(str(tmp_path)) == "mit"
    for without in (str(tmp_path / "none"), "org/never-fetched", "no/hub/id"):
        assert licence_of(without) == ""


@pytest.mark.slow
def test_a_finished_model_names_its_files_and_carries_its_card(job, base):
    run(replace(job, base=base, settings=dataclasses.replace(job.settings, lora_rank=2)))
    out = Path(job.out)
    named = {file["name"]: file for file in json.loads((out / "manifest.json").read_text())["files"]}
    assert named.keys() == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - {"manifest.json"}
    assert "adapter/adapter_model.safetensors" in named
    assert named["model.safetensors"]["sha256"] == hashlib.sha256(weights(out)).hexdigest()
    card = (out / "README.md").read_text()
    rows = Path(job.data[0])
    assert f"| rows.parquet | {rows.stat().st_size:,} | {hashlib.sha256(rows.read_bytes()).hexdigest()} |" in card
    for line in ("| seed | 12 |", "| none stated | 8 |", "| cc0-1.0 | 12 |", "| epochs | 2 |", "| Rows | 20 |"):
        assert line in card
    assert str(rows.parent) not in card
