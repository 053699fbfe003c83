"""Several processes as the training operator starts them: bare torchrun in its environment, and one of them killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import msgspec
import psutil
import pyarrow.parquet as pq
import pytest

from reinstruct.errors import RecipeError, TrainingError
from reinstruct.records import Example, to_table
from reinstruct.store import LocalStore
from reinstruct.train.checkpoints import Checkpoints
from reinstruct.train.job import Job, check, run
from reinstruct.train.profiles import DEEPSPEED, divided
from reinstruct.train.settings import Sft
from tests.conftest import tiny_model
from tests.encoder_decoders import FAMILIES, made_base, rows

WORDS = ["river", "hill", "mill", "town", "sea"]
STEPS = 30
NO_DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


def job_in(folder, base="org/name", rank=0, **changed):
    said = [Example(id=f"e{n}", prompt=f"{WORDS[n % 5]} " * (1 + n % 7), target=f" {WORDS[n % 3]}!") for n in range(24)]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(said, Example), folder / "rows.parquet")
    settings = Sft(epochs=STEPS / 6, learning_rate=1e-2, batch_size=4, max_tokens=256, lora_rank=rank, lora_dropout=0)
    settings = replace(settings, precision="float32")  # what is compared here would differ more in bf16
    place = {"work": str(folder / "work"), "out": str(folder / "out")}
    job = Job(kind="sft", data=(str(folder / "rows.parquet"),), base=base, settings=settings, **place)
    return msgspec.structs.replace(job, **changed)


def test_profiles_are_known_and_have_their_library(tmp_path):
    with pytest.raises(RecipeError, match="profile is 'zero4'; accepted: ddp or fsdp or zero2 or zero3"):
        check(job_in(tmp_path, profile="zero4"), find=str)

    def find(name):
        return None if name == "deepspeed" else name

    check(job_in(tmp_path, profile="fsdp"), find)
    with pytest.raises(TrainingError, match=r'profile zero2 needs deepspeed: pip install "reinstruct\[deepspeed\]"'):
        check(job_in(tmp_path, profile="zero2"), find)


@pytest.mark.parametrize("profile", DEEPSPEED)
def test_deepspeed_sums_gradients_in_float32(profile):
    told = divided(profile)["deepspeed"]
    assert (told["data_types"]["grad_accum_dtype"], told["communication_data_type"]) == ("fp32", "fp32")


@pytest.mark.parametrize("profile", ["fsdp", "zero3"])
def test_weights_of_four_bits_are_not_cut_into_shards(tmp_path, profile):
    job = job_in(tmp_path, rank=4, profile=profile)
    quantized = msgspec.structs.replace(job, settings=replace(job.settings, quantize="4bit"))
    with pytest.raises(RecipeError, match=f"profile is '{profile}'; accepted: ddp or zero2, where quantize is 4bit"):
        check(quantized, find=str)


def pods(job):
    """Two agents of torchrun, each with one process, in the environment of a PyTorchJob's master and worker."""
    path = Path(job.work).parent / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    size = {"WORLD_SIZE": "2", "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "-m", "reinstruct.train", "--config", str(path)]
    started = []
    for rank in ("0", "1"):
        here = {"RANK": rank, "PET_NODE_RANK": rank, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        environment = {**os.environ, **address, **size, **here}
        log = path.with_name(f"pod-{rank}.log").open("w")
        started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    return started


def trains_on(agent):
    """The training process of an agent."""
    return next(child for child in psutil.Process(agent.pid).children() if "reinstruct.train" in child.cmdline())


def finished(job):
    """Exit codes of both pods, run to their end."""
    return [agent.wait(timeout=300) for agent in pods(job)]


def told(folder):
    return json.loads((folder / "out" / "metrics.json").read_text())


def tensors(folder, name="model"):
    from safetensors.torch import load_file

    return load_file(folder / "out" / f"{name}.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A base, and a function of the rank of adapters: the folder of a job that one process did undisturbed."""
    folder = tmp_path_factory.mktemp("alone")
    base = tiny_model(folder / "base")

    @cache
    def done(rank):
        run(job_in(folder / str(rank), base, rank))
        return folder / str(rank)

    return base, done


def expect_same(folder, other):
    """Loss curves and weights that differ by rounding alone."""
    assert told(folder)["curve"] == [[step, pytest.approx(loss, abs=2e-3)] for step, loss in told(other)["curve"]]
    assert len(told(folder)["curve"]) == STEPS
    expect_close(tensors(folder), tensors(other))
    assert (folder / "out" / "config.json").read_text() == (other / "out" / "config.json").read_text()


def expect_close(ours, theirs):
    assert {name: weight.shape for name, weight in ours.items()} == {name: each.shape for name, each in theirs.items()}
    assert all(ours[name].allclose(theirs[name], atol=5e-3) for name in ours)


def expect_whole_adapters(folder, other, base):
    """Adapters in one piece, of which the base makes the model that lies beside them."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    expect_close(*(tensors(each, "adapter/adapter_model") for each in (folder, other)))
    plain = AutoModelForCausalLM.from_pretrained(base)
    merged = PeftModel.from_pretrained(plain, str(folder / "out" / "adapter")).merge_and_unload().state_dict()
    assert all(merged[name].allclose(weight, atol=1e-6) for name, weight in tensors(folder).items())


def killed_and_done_again(job):
    """The last complete checkpoint of a job whose second pod was killed, and which then was done to its end."""
    kept, folder = Checkpoints(LocalStore(job.work)), Path(job.work).parent
    agents = pods(job)
    deadline = time.monotonic() + 600
    while max(kept.complete(), default=0) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    trains_on(agents[1]).send_signal(signal.SIGKILL)
    assert all(agent.wait(timeout=300) for agent in agents)
    assert "is gone or out of reach" in (folder / "pod-0.log").read_text()
    assert not (folder / "out").exists()
    reached = kept.complete()[-1]
    assert finished(msgspec.structs.replace(job, checkpoint_s=60.0)) == [0, 0]
    return reached


ZERO = [pytest.param(name, marks=NO_DEEPSPEED) for name in DEEPSPEED]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["ddp", "fsdp", *ZERO])
def test_a_killed_process_ends_the_job_everywhere_and_the_next_one_goes_on(alone, tmp_path, profile):
    base, done = alone
    reached = killed_and_done_again(job_in(tmp_path, base, profile=profile, checkpoint_s=0.0))
    assert 3 <= reached < STEPS
    assert told(tmp_path)["checkpoints"]["went_on_from"] == reached
    expect_same(tmp_path, done(0))


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["fsdp", *ZERO])
def test_adapters_are_trained_beside_weights_in_shards(alone, tmp_path, profile):
    base, done = alone
    assert finished(job_in(tmp_path, base, 4, profile=profile)) == [0, 0]
    expect_same(tmp_path, done(4))
    expect_whole_adapters(tmp_path, done(4), base)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["fsdp", *ZERO])
def test_weights_that_were_in_shards_have_the_type_that_is_stated(alone, tmp_path, profile):
    """That of the base: a round of training keeps it."""
    from reinstruct.train.model import load_model, load_tokenizer, stored_dtype

    small, _ = alone
    base = str(tmp_path / "base")
    load_tokenizer(small).save_pretrained(base)
    load_model(small, load_tokenizer(small)).bfloat16().save_pretrained(base)
    job = job_in(tmp_path, base, profile=profile)
    assert finished(msgspec.structs.replace(job, settings=replace(job.settings, epochs=0.5))) == [0, 0]
    assert str(stored_dtype(job.out)) == "torch.bfloat16"
    assert {str(weight.dtype) for weight in tensors(tmp_path).values()} == {"torch.bfloat16"}


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["fsdp", *ZERO])
def test_shards_computed_in_bf16_learn_as_one_process_does(alone, tmp_path, profile):
    base, _ = alone
    one, two = (job_in(tmp_path / name, base, profile=profile) for name in ("one", "two"))
    settings = replace(one.settings, epochs=2, precision="bf16")
    one, two = (msgspec.structs.replace(job, settings=settings) for job in (one, two))
    expected = [[step, pytest.approx(loss, abs=0.02)] for step, loss in run(one)["curve"]]
    assert finished(two) == [0, 0]
    assert told(tmp_path / "two")["curve"] == expected


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["ddp", *ZERO])
def test_encoder_decoders_are_trained_by_two_processes_as_by_one(tmp_path, profile):
    base = made_base(tmp_path / "base", FAMILIES[0])
    settings = Sft(epochs=2, learning_rate=5e-3, batch_size=4, max_tokens=256, held_out=0.2, eval_steps=4, keep="best")
    settings = replace(settings, precision="float32")
    one, two = (job_in(tmp_path / name, base, settings=settings) for name in ("one", "two"))
    for job in (one, two):
        pq.write_table(to_table(rows(24), Example), job.data[0])
    alone = run(one)
    assert finished(msgspec.structs.replace(two, profile=profile)) == [0, 0]
    both = told(tmp_path / "two")
    for name in ("curve", "held_out"):
        assert both[name] == [[step, pytest.approx(loss, abs=2e-3)] for step, loss in alone[name]]
    assert alone["curve"][-1][1] < 0.7 * alone["curve"][0][1]
    expect_close(tensors(tmp_path / "two"), tensors(tmp_path / "one"))
