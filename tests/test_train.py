"""Training jobs: what is refused before it costs anything, what a kill leaves behind, and (slow) real training."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from reinstruct.errors import RecipeError, TrainingError
from reinstruct.records import Document, Example, Message, to_table
from reinstruct.settings import presets_of
from reinstruct.store import LocalStore
from reinstruct.train.checkpoints import Checkpoints
from reinstruct.train.finished import building
from reinstruct.train.job import Job, check, make_job, read_job, run
from reinstruct.train.settings import Pretrain, Sft

SETTINGS = Sft(epochs=3.0, learning_rate=3e-3, batch_size=8, max_tokens=256)


def fields(**changed):
    return {"kind": "sft", "data": ["a.parquet"], "base": "org/name", "work": "w", "out": "o", **changed}


def test_job_is_read_from_json(tmp_path):
    path = tmp_path / "job.json"
    path.write_text(json.dumps(fields(settings={"epochs": 1, "max_tokens": 512}, checkpoint_s=5)))
    job = Job(kind="sft", data=("a.parquet",), base="org/name", work="w", out="o", checkpoint_s=5, settings=Sft())
    assert read_job(path) == msgspec.structs.replace(job, settings=Sft(epochs=1, max_tokens=512))
    path.write_text(json.dumps({"kind": "base", "data": [], "work": "w", "out": "o", "settings": {"size": "small"}}))
    assert read_job(path).settings == Pretrain("small")


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("reinstruct", Sft()),
        ("kun", Sft(epochs=4, learning_rate=1e-5)),
        ("crab", Sft(epochs=4, weights=("reverse=0.43",))),
        ("cycle_instruct", Sft(learning_rate=1e-4, schedule="cosine", warmup_ratio=0.03, batch_size=8, lora_rank=8)),
    ],
)
def test_presets_lie_under_what_is_given(preset, expected, tmp_path):
    assert make_job(fields(settings={"preset": preset})).settings == expected
    (tmp_path / "job.json").write_text(json.dumps(fields(settings={"seed": 7})))
    assert read_job(tmp_path / "job.json", preset).settings == replace(expected, seed=7)


def test_every_preset_is_one_and_unknown_ones_are_named():
    for preset in presets_of(Sft):
        make_job(fields(settings={"preset": preset}))
    with pytest.raises(RecipeError, match="preset is 'lima'; accepted: reinstruct, humpback, "):
        make_job(fields(settings={"preset": "lima"}))
    with pytest.raises(RecipeError, match="preset is 'humpback'; accepted: none for Pretrain"):
        make_job({"kind": "base", "data": ["a"], "work": "w", "out": "o", "settings": {"preset": "humpback"}})


def test_unknown_fields_are_all_named():
    with pytest.raises(RecipeError, match="unknown job fields: batches, lr "):
        make_job(fields(lr=1, batches=2))
    with pytest.raises(RecipeError, match="unknown settings fields: lr, size "):
        make_job(fields(settings={"lr": 1, "size": "tiny"}))


@pytest.mark.parametrize("wrong", [{"kind": "dpo"}, {"data": "a"}, {"settings": 3}, {"settings": {"epochs": "many"}}])
def test_wrong_types_are_refused(wrong):
    with pytest.raises(RecipeError, match="the job is wrong"):
        make_job(fields(**wrong))


def test_unreadable_jobs_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot read"):
        read_job(tmp_path / "none.json")
    (tmp_path / "job.json").write_text("[]")
    with pytest.raises(RecipeError, match="not a JSON object"):
        read_job(tmp_path / "job.json")


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 0},
        {"learning_rate": -1},
        {"schedule": "steps"},
        {"warmup_ratio": 1},
        {"batch_size": 0},
        {"max_tokens": 1},
        {"lora_rank": -1},
        {"lora_alpha": 0},
        {"lora_dropout": 1},
        {"end_ratio": 1.1},
        {"weights": ["seed"]},
        {"weights": ["seed=-1"]},
        {"order": "longest"},
        {"neftune_alpha": -1},
        {"lora_continue": True},
        {"quantize": "4bit"},
        {"held_out": 1},
        {"keep": "best"},
        {"patience": 1},
        {"precision": "fp8"},
        {"checkpointing": "maybe"},
        {"report_to": ["comet"]},
    ],
)
def test_wrong_settings_are_named(setting):
    (name,) = setting
    with pytest.raises(RecipeError, match=f"^{name} is .*accepted: "):
        check(make_job(fields(settings=setting)))


def test_sizes_are_known():
    with pytest.raises(RecipeError, match="size is 'huge'; accepted: tiny, mini, small"):
        check(make_job({"kind": "base", "data": ["a"], "work": "w", "out": "o", "settings": {"size": "huge"}}))


@pytest.fixture
def data(tmp_path):
    """Forty little examples, two of them of no use."""
    draw = random.Random(0)
    rows = [numbered(n, draw) for n in range(38)]
    rows += [Example(id="blank", prompt="Say:", target=" "), Example(id="long", prompt="fox " * 400, target="fox")]
    path = tmp_path / "examples.parquet"
    pq.write_table(to_table(rows, Example), path)
    return str(path)


def numbered(n, draw):
    words = " ".join(draw.choices(["river", "hill", "mill", "town", "sea"], k=draw.randint(2, 12)))
    if n % 2:
        return Example(id=f"e{n}", messages=(Message("user", f"Say {words}."),), target=f"I say {words}.")
    return Example(id=f"e{n}", prompt=f"Say {words}:", target=f" {words}.")


def test_missing_data_is_named(data, tmp_path):
    with pytest.raises(TrainingError, match=r"no training data at .*none\.parquet"):
        check(make_job(fields(data=[data, str(tmp_path / "none.parquet")])))
    with pytest.raises(TrainingError, match="no path given"):
        check(make_job(fields(data=[])))


def test_missing_libraries_are_named(data):
    def find(name):
        return None if name in ("torch", "trl") else name

    with pytest.raises(TrainingError, match=r'needs torch, trl: pip install "reinstruct\[train\]"'):
        check(make_job(fields(data=[data])), find)


def test_adapters_need_their_library_and_nothing_else_does(data):
    def find(name):
        return None if name == "peft" else name

    check(make_job(fields(data=[data])), find)
    with pytest.raises(TrainingError, match="lora_rank needs peft"):
        check(make_job(fields(data=[data], settings={"lora_rank": 8})), find)


def test_four_bits_need_their_library_and_a_gpu(data):
    job = make_job(fields(data=[data], settings={"quantize": "4bit", "lora_rank": 8}))
    with pytest.raises(TrainingError, match="quantize 4bit needs bitsandbytes"):
        check(job, lambda name: None if name == "bitsandbytes" else name)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_trackers_need_their_library(data, tracker):
    job = make_job(fields(data=[data], settings={"report_to": [tracker]}))
    with pytest.raises(TrainingError, match=f"report_to {tracker} needs {tracker}: pip install {tracker}"):
        check(job, lambda name: None if name.startswith(tracker) else name)
    check(job, str)


@pytest.mark.parametrize("base", ["", "/no/such/folder", "./none", "a/b/c", "scratch:tiny"])
def test_bases_that_are_no_model_are_refused(base, data):
    with pytest.raises(TrainingError, match=r"no model at .*config\.json, weights and tokenizer files, a hub id"):
        check(make_job(fields(data=[data], base=base)), find=str)


def test_folders_that_lack_something_are_refused(data, tmp_path):
    base = tmp_path / "model"
    base.mkdir()
    job = make_job(fields(data=[data], base=str(base)))
    for file, lacking in [
        ("", "config.json, weights, tokenizer files"),
        ("config.json", "weights, tokenizer files"),
        ("model.safetensors", "tokenizer files"),
    ]:
        if file:
            (base / file).touch()
        with pytest.raises(TrainingError, match=rf"missing: {lacking}\)"):
            check(job, find=str)
    (base / "tokenizer.json").touch()
    check(job, find=str)


def test_command_line_says_what_is_wrong(tmp_path):
    path = tmp_path / "job.json"
    path.write_text(json.dumps(fields(lr=1)))
    done = subprocess.run(
        [sys.executable, "-m", "reinstruct.train", "--config", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("unknown job fields: lr")
    assert json.loads(done.stdout) == {"error": done.stderr.strip(), "kind": "RecipeError"}


def build(out, content):
    with building(out) as folder:
        (folder / "metrics.json").write_text(content)
        assert content == "good"


def test_finished_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "models" / "out"
    with pytest.raises(AssertionError):
        build(out, "bad")
    assert not out.exists()
    build(out, "good")
    with pytest.raises(AssertionError):
        build(out, "bad")
    assert (out / "metrics.json").read_text() == "good"


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    draw = random.Random(0)
    words = ["river", "hill", "mill", "town", "sea", "say", "I", "fox", "the", "to", "of", "and"]
    rows = [Document(id=str(n), text=" ".join(draw.choices(words, k=300)) + ".") for n in range(30)]
    path = tmp_path_factory.mktemp("documents") / "documents.parquet"
    pq.write_table(to_table(rows, Document), path)
    return str(path)


def pretrain(documents, folder):
    job = Job(kind="base", data=(documents,), work=str(folder / "work"), out=str(folder / "out"), settings=Pretrain())
    return run(job)


@pytest.fixture(scope="module")
def base(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    pretrain(documents, folder)
    return str(folder / "out")


def sft_job(data, base, folder, **changed):
    settings = replace(SETTINGS, **changed)
    return Job(kind="sft", data=(data,), base=base, work=str(folder / "w"), out=str(folder / "o"), settings=settings)


def weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_base_learns_and_is_the_same_each_time(documents, base, tmp_path):
    metrics = pretrain(documents, tmp_path)
    assert weights(tmp_path / "out") == weights(base)
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(metrics["curve"]) == metrics["steps"] > 10
    assert metrics["loss"] < 0.8 * metrics["curve"][0][1]
    assert {"rows", "rejected", "epochs", "target_tokens", "tokens_per_s", "seconds", "settings"} < metrics.keys()


@pytest.mark.slow
def test_a_base_of_few_tokens_reads_enough_text(documents, tmp_path):
    places = {"data": (documents,), "work": str(tmp_path / "work"), "out": str(tmp_path / "out")}
    metrics = run(Job(kind="base", settings=Pretrain(tokens=1000), **places))
    assert metrics["steps"] == 1
    assert metrics["characters"] >= 20_000


@pytest.mark.slow
def test_an_interrupted_base_ends_with_the_same_weights(documents, tmp_path):
    def job(name):
        folder = tmp_path / name
        settings = Pretrain(tokens=20 * 1024)
        places = {"data": (documents,), "work": str(folder / "work"), "out": str(folder / "out")}
        return Job(kind="base", settings=settings, checkpoint_s=0.0, **places)

    def interrupt(done, total):
        if done == 7:
            raise StopEarly

    metrics = run(job("whole"))
    with pytest.raises(StopEarly):
        run(job("interrupted"), interrupt)
    seen = []
    assert run(job("interrupted"), lambda done, total: seen.append(done))["curve"] == metrics["curve"]
    assert seen[0] > 1
    assert seen[-1] == metrics["steps"] == 20
    assert weights(tmp_path / "interrupted" / "out") == weights(tmp_path / "whole" / "out")


@pytest.mark.slow
def test_wsd_holds_the_rate_and_lets_it_fall_in_the_last_tenth(tmp_path):
    import torch
    from transformers import get_scheduler

    from reinstruct.train.arguments import arguments
    from reinstruct.train.place import Place
    from reinstruct.train.schedule import Schedule

    def rates(steps, warmup_ratio):
        settings = Sft(schedule="wsd", learning_rate=1.0, warmup_ratio=warmup_ratio, end_ratio=0.1)
        told = arguments(Schedule(steps, 1, settings), Place(tmp_path, tmp_path / "out", LocalStore(tmp_path)), 1, 10)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        warmup, extra = int(told.warmup_steps), told.lr_scheduler_kwargs
        schedule = get_scheduler(told.lr_scheduler_type, optimizer, warmup, steps, scheduler_specific_kwargs=extra)
        found = []
        for _ in range(steps):
            found.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return found

    short, long = rates(50, 0.1), rates(100, 0.05)
    assert short[:46] == long[:46]
    assert short[5:46] == [1.0] * 41
    assert short[46:] == sorted(short[46:], reverse=True)
    assert 0.1 < short[-1] < 0.3


@pytest.mark.slow
def test_too_little_text_is_refused(tmp_path):
    pq.write_table(to_table([Document(id="a", text="fox")], Document), tmp_path / "a.parquet")
    with pytest.raises(TrainingError, match="3 characters given, 20000 needed"):
        pretrain(str(tmp_path / "a.parquet"), tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_fine_tuning_learns_is_repeatable_and_lists_what_it_refused(data, base, tmp_path):
    metrics = run(sft_job(data, base, tmp_path / "1"))
    run(sft_job(data, base, tmp_path / "2"))
    run(sft_job(data, base, tmp_path / "3", seed=1))
    assert weights(tmp_path / "1" / "o") == weights(tmp_path / "2" / "o") != weights(tmp_path / "3" / "o")
    assert (metrics["rows"], metrics["rejected"]) == (38, {"empty_target": 1, "prompt_too_long": 1})
    refused = [json.loads(line) for line in (tmp_path / "1" / "o" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["id"], row["reason"]) for row in refused] == [("blank", "empty_target"), ("long", "prompt_too_long")]
    assert (metrics["batch_size"], metrics["steps"]) == (8, 15)
    before, after = (measured(data, model, tmp_path / name)["nll"] for name, model in models(base, tmp_path))
    assert after < 0.8 * before


def models(base, folder):
    return [("before", base), ("after", str(folder / "1" / "o"))]


def measured(data, base, folder):
    return run(Job(kind="loss", data=(data,), base=base, work=str(folder), out=str(folder), settings=SETTINGS))


@pytest.mark.slow
def test_first_step_trains_on_what_the_loss_measures(data, base, tmp_path):
    metrics = run(sft_job(data, base, tmp_path, batch_size=8, epochs=0.1))
    measured(data, base, tmp_path / "loss")
    rows = [json.loads(line) for line in (tmp_path / "loss" / "rows.jsonl").read_text().splitlines()]
    epoch = list(range(len(rows)))
    random.Random(f"{SETTINGS.seed}:0").shuffle(epoch)
    first = [rows[index] for index in epoch[:8]]
    expected = sum(row["nll"] * row["tokens"] for row in first) / sum(row["tokens"] for row in first)
    assert metrics["curve"][0][1] == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
def test_loss_is_that_of_each_row_alone(data, base, tmp_path):
    import torch

    from reinstruct.train.model import load_model, load_tokenizer
    from reinstruct.train.rows import encode_all, read_examples

    metrics = measured(data, base, tmp_path / "loss")
    tokenizer = load_tokenizer(base)
    model = load_model(base, tokenizer).eval()
    sums = {}
    for row in encode_all(read_examples([data]), tokenizer, 256).rows:
        with torch.no_grad():
            scores = model(torch.tensor([list(row.ids)])).logits[0].log_softmax(-1)
        sums[row.id] = -sum(scores[at - 1, row.ids[at]].item() for at in range(row.prompt_tokens, len(row.ids)))
    for line in (tmp_path / "loss" / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["nll"] * row["tokens"] == pytest.approx(sums[row["id"]], rel=1e-4)
    assert metrics["nll"] == pytest.approx(sum(sums.values()) / metrics["tokens"], rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["nll"]))


@pytest.mark.slow
def test_model_carries_the_template_it_learnt_conversations_with(data, base, tmp_path):
    from reinstruct.train.model import load_tokenizer

    run(sft_job(data, base, tmp_path, epochs=0.1))
    turns = [{"role": "user", "content": "Hi"}]
    tuned = load_tokenizer(str(tmp_path / "o"))
    assert tuned.apply_chat_template(turns, add_generation_prompt=True, tokenize=False).endswith("### Assistant\n")
    assert load_tokenizer(base).chat_template is None


def step_saved(work):
    return max(Checkpoints(LocalStore(work)).complete(), default=0)


@pytest.mark.slow
def test_killed_training_ends_with_the_same_weights(data, base, tmp_path):
    run(sft_job(data, base, tmp_path / "whole"))
    job = msgspec.structs.replace(sft_job(data, base, tmp_path / "killed"), checkpoint_s=0.0)
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-m", "reinstruct.train", "--config", tmp_path / "job.json"]
    work = tmp_path / "killed" / "w"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while step_saved(work) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    reached = step_saved(work)
    assert 3 <= reached < 15
    assert not (tmp_path / "killed" / "o").exists()
    Checkpoints(LocalStore(work)).folder(99).mkdir()  # as if killed while writing it
    seen = []
    metrics = run(msgspec.structs.replace(job, checkpoint_s=60.0), lambda done, total: seen.append(done))
    assert seen == list(range(reached + 1, 16))
    assert [step for step, _ in metrics["curve"]] == list(range(1, 16))
    assert weights(tmp_path / "killed" / "o") == weights(tmp_path / "whole" / "o")


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")


@pytest.mark.slow
def test_adapters_learn_and_are_merged_into_the_linear_layers_alone(data, base, tmp_path):
    """A merged model is a plain one: the same files and tensors as its base, loaded by anything that loads that."""
    run(sft_job(data, base, tmp_path / "1", lora_rank=4))
    before, after = tensors(base), tensors(tmp_path / "1" / "o")
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if "_proj" in name}
    assert not list((tmp_path / "1" / "o").glob("adapter_*"))
    nll = {name: measured(data, model, tmp_path / name)["nll"] for name, model in models(base, tmp_path)}
    assert nll["after"] < 0.95 * nll["before"]


@pytest.mark.slow
def test_a_merged_model_can_be_trained_with_adapters_again(data, base, tmp_path):
    run(sft_job(data, base, tmp_path / "1", lora_rank=4))
    run(sft_job(data, str(tmp_path / "1" / "o"), tmp_path / "2", lora_rank=4))
    first, second = (measured(data, str(tmp_path / n / "o"), tmp_path / f"loss-{n}")["nll"] for n in "12")
    assert second < first


class StopEarly(Exception):
    """Raised in the middle of a training, as a kill would end it."""


@pytest.mark.slow
def test_interrupted_training_of_adapters_ends_with_the_same_weights(data, base, tmp_path):
    run(sft_job(data, base, tmp_path / "whole", lora_rank=4, lora_dropout=0.2))
    job = sft_job(data, base, tmp_path / "killed", lora_rank=4, lora_dropout=0.2)

    def stop_at_7(done, total):
        if done == 7:
            raise StopEarly

    with pytest.raises(StopEarly):
        run(msgspec.structs.replace(job, checkpoint_s=0.0), stop_at_7)
    reached = step_saved(tmp_path / "killed" / "w")
    assert 1 <= reached < 7
    seen = []
    run(job, lambda done, total: seen.append(done))
    assert seen == list(range(reached + 1, 16))
    assert weights(tmp_path / "killed" / "o") == weights(tmp_path / "whole" / "o")


@pytest.mark.slow
def test_two_processes_train_adapters_like_one(data, base, tmp_path):
    settings = {"epochs": 1, "lora_rank": 4, "lora_dropout": 0.0, "precision": "float32"}
    alone = run(sft_job(data, base, tmp_path / "alone", **settings))
    job = msgspec.structs.replace(sft_job(data, base, tmp_path / "both", **settings), checkpoint_s=0.0)
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "reinstruct.train", "--config", tmp_path / "job.json"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    both = json.loads((tmp_path / "both" / "o" / "metrics.json").read_text())
    assert both["curve"] == [[step, pytest.approx(loss, abs=1e-3)] for step, loss in alone["curve"]]
    assert [path.name for path in (tmp_path / "both").iterdir() if path.name.startswith(".")] == []
    assert tensors(tmp_path / "both" / "o").keys() == tensors(base).keys()
    kept = Checkpoints(LocalStore(tmp_path / "both" / "w"))
    assert {path.name for path in kept.folder(kept.complete()[-1]).glob("rng_state*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }


@pytest.mark.slow
def test_a_base_without_an_end_is_refused(data, base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    config = tmp_path / "base" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token": None, "pad_token": None}))
    with pytest.raises(TrainingError, match="no end-of-text token"):
        run(sft_job(data, str(tmp_path / "base"), tmp_path))
