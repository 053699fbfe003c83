"""What settings of fine-tuning do, on a model of one layer (slow: each test trains it)."""

import json
import math
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from reinstruct.errors import TrainingError
from reinstruct.records import Example, to_table
from reinstruct.train.job import Job, run
from reinstruct.train.settings import Sft
from tests.conftest import tiny_model

pytestmark = pytest.mark.slow

WORDS = ["river", "hill", "mill", "town", "sea"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def trained(base, tmp_path):
    """Trains once under a name; the folder it was saved in."""
    said = [Example(id=f"e{n}", prompt=f"{WORDS[n % 5]} " * (1 + n % 7), target=f" {WORDS[n % 3]}!") for n in range(24)]
    pq.write_table(to_table(said, Example), tmp_path / "rows.parquet")

    def train(name, base=base, progress=None, checkpoint_s=60.0, loader_workers=0, pass_tokens=0, **settings):
        usual = {"epochs": 1, "learning_rate": 1e-2, "batch_size": 4, "max_tokens": 256, "precision": "float32"}
        told = Sft(**{**usual, **settings})
        place = {"work": str(tmp_path / name / "work"), "out": str(tmp_path / name / "out")}
        job = Job(kind="sft", data=(str(tmp_path / "rows.parquet"),), base=str(base), settings=told, **place)
        here = {"checkpoint_s": checkpoint_s, "loader_workers": loader_workers, "pass_tokens": pass_tokens}
        job = msgspec.structs.replace(job, **here)
        run(job, progress)
        return tmp_path / name / "out"

    return train


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")


def weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


def told(folder):
    return json.loads((folder / "metrics.json").read_text())


def logged(folder, name):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def test_workers_that_make_batches_change_nothing(trained):
    assert weights(trained("none")) == weights(trained("two", loader_workers=2))


def test_smaller_passes_change_nothing_but_rounding(trained, tmp_path):
    usual, small = (trained(f"{most}", pass_tokens=most, held_out=0.2, eval_steps=3) for most in (0, 20))
    assert told(usual)["packing"]["passes_per_step"] == 1 < told(small)["packing"]["passes_per_step"]
    expected, found = tensors(usual), tensors(small)
    assert all(expected[name].allclose(found[name], atol=1e-5) for name in expected)
    assert told(small)["held_out"] == [[step, pytest.approx(loss, abs=2e-4)] for step, loss in told(usual)["held_out"]]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4]),
        ("cosine", [0.4 + 0.6 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]),
    ],
)
def test_learning_rate_falls_to_its_end(trained, schedule, rates):
    folder = trained(schedule, schedule=schedule, end_ratio=0.4)
    assert logged(folder, "learning_rate") == pytest.approx([1e-2 * rate for rate in rates[:6]], rel=1e-6)
    assert [round(loss, 4) for loss in logged(folder, "loss")] == [loss for _, loss in told(folder)["curve"]]


def test_warmup_comes_before(trained):
    rates = logged(trained("warm", schedule="linear", end_ratio=0.5, warmup_ratio=1 / 3), "learning_rate")
    assert rates == pytest.approx([0, 5e-3, 1e-2, 8.75e-3, 7.5e-3, 6.25e-3])


def test_a_constant_rate_is_warmed_up_too(trained):
    assert logged(trained("warm", warmup_ratio=1 / 3), "learning_rate") == pytest.approx(
        [0, 5e-3, 1e-2, 1e-2, 1e-2, 1e-2]
    )


def test_epochs_and_tokens_are_those_of_rows_that_were_trained_on(trained, capsys):
    figures = told(trained("some", held_out=0.25, eval_steps=3, epochs=2, weights=("web=2", "sed=2")))
    assert figures["epochs"] == pytest.approx(2, abs=0.4)
    assert figures["target_tokens"] < told(trained("all"))["target_tokens"]
    assert "weights of sed, web are not used: rows are of no stated origin" in capsys.readouterr().err


def test_recomputing_activations_changes_nothing_but_rounding(trained):
    plain, recomputed = tensors(trained("plain")), tensors(trained("recomputed", checkpointing="yes"))
    assert all(plain[name].allclose(recomputed[name], atol=1e-5) for name in plain)


def test_noise_and_dropout_are_drawn_by_the_seed_and_leave_the_saved_model_plain(trained):
    plain = trained("plain")
    for settings in ({"neftune_alpha": 5.0}, {"dropout": 0.2}):
        one, two = (trained(f"{next(iter(settings))}-{n}", **settings) for n in (1, 2))
        assert weights(one) == weights(two) != weights(plain)
        assert (one / "config.json").read_text() == (plain / "config.json").read_text()
    assert told(trained("noisy", neftune_alpha=5.0))["packing"]["packed"] is False


def test_bf16_is_another_rounding(trained):
    exact, rounded = told(trained("exact", precision="float32")), told(trained("rounded", precision="bf16"))
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert rounded["curve"] != exact["curve"]


def held_out_loss(folder, rows_of):
    """Loss of the held-out rows under a saved model, by the measure that is used everywhere else."""
    from reinstruct.train.loss import nll_sums
    from reinstruct.train.model import load_model, load_tokenizer
    from reinstruct.train.rows import encode_all, read_examples
    from reinstruct.train.schedule import split

    tokenizer = load_tokenizer(str(folder))
    rows = encode_all(read_examples([str(rows_of)]), tokenizer, 256).rows
    held_out = split(rows, 0.3, 0)[1]
    sums = nll_sums(load_model(str(folder), tokenizer), rows)
    return sum(sums[row] for row in held_out) / rows.targets_of(held_out)


def test_the_best_step_is_kept(trained, tmp_path):
    settings = {"epochs": 6, "learning_rate": 0.1, "held_out": 0.3, "eval_steps": 3}
    best = trained("best", keep="best", **settings)
    curve = told(best)["held_out"]
    assert [step for step, _ in curve] == [*range(3, told(best)["steps"], 3), told(best)["steps"]]
    step, loss = min(curve, key=lambda point: point[1])
    assert told(best)["kept_step"] == step < told(best)["steps"]
    assert held_out_loss(best, tmp_path / "rows.parquet") == pytest.approx(loss, abs=2e-4)
    last = trained("last", **settings)
    assert told(last)["held_out"] == curve
    assert held_out_loss(last, tmp_path / "rows.parquet") == pytest.approx(curve[-1][1], abs=2e-4)


def test_training_stops_when_nothing_gets_better(trained):
    settings = {"epochs": 20, "learning_rate": 0.1, "held_out": 0.3, "eval_steps": 2, "keep": "best"}
    found = told(trained("patient", patience=2, **settings))
    assert found["steps"] == found["kept_step"] + 4 < found["settings"]["epochs"] * 4


class StopEarly(Exception):
    """Raised in the middle of a training, as a kill would end it."""


def test_interrupted_training_keeps_and_stops_as_an_undisturbed_one(trained):
    settings = {"epochs": 20, "learning_rate": 0.1, "held_out": 0.3, "eval_steps": 2, "keep": "best", "patience": 2}
    whole = trained("whole", **settings)
    stop_at = told(whole)["kept_step"] + 3

    def stop(done, total):
        if done == stop_at:
            raise StopEarly

    with pytest.raises(StopEarly):
        trained("cut", progress=stop, checkpoint_s=0.0, **settings)
    cut = trained("cut", **settings)
    assert weights(cut) == weights(whole)
    for name in ("steps", "kept_step", "held_out", "curve"):
        assert told(cut)[name] == told(whole)[name]
    assert logged(cut, "loss") == logged(whole, "loss")


def test_a_loss_that_is_no_number_ends_the_training(trained, tmp_path):
    with pytest.raises(TrainingError, match=r"(loss|grad_norm) is (nan|inf) at step \d: nothing of it was saved"):
        trained("wild", learning_rate=1e30)
    assert not (tmp_path / "wild" / "out").exists()


def delta(adapters, alpha_by_rank):
    """What adapters add, by the name of the weight."""
    from safetensors.torch import load_file

    found = load_file(adapters / "adapter_model.safetensors")
    pairs = {name.removesuffix(".lora_A.weight") for name in found if name.endswith(".lora_A.weight")}
    return {
        name.removeprefix("base_model.model.") + ".weight": alpha_by_rank
        * found[f"{name}.lora_B.weight"]
        @ found[f"{name}.lora_A.weight"]
        for name in pairs
    }


def test_adapters_are_gone_on_from(trained, base):
    first = trained("first", lora_rank=4)
    second = trained("second", first, lora_rank=4, lora_continue=True)
    start, end = tensors(base), tensors(second)
    for name, added in delta(second / "adapter", 16 / 4).items():
        assert end[name].allclose(start[name] + added, atol=1e-5)
    assert told(second)["curve"][0][1] < told(first)["curve"][0][1]  # the same rows


def test_there_must_be_adapters_to_go_on_from(trained, base):
    with pytest.raises(TrainingError, match=r"lora_continue: .* has no adapter/"):
        trained("none", lora_rank=4, lora_continue=True)
    first = trained("first", lora_rank=4)
    with pytest.raises(TrainingError, match=r"lora_rank is 8; the adapters of .* to go on from have rank 4"):
        trained("other", first, lora_rank=8, lora_continue=True)
    with pytest.raises(TrainingError, match=r"lora_alpha is 32; the adapters of .* to go on from have alpha 16"):
        trained("other", first, lora_rank=4, lora_alpha=32, lora_continue=True)
