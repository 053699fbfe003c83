"""What a training does on GPUs alone, as far as CPUs can do it too: TRL's loss, types of weights and gradients."""

import random
from dataclasses import replace

import pytest

from reinstruct.errors import TrainingError
from reinstruct.records import Example
from reinstruct.store import LocalStore
from reinstruct.train import outside
from reinstruct.train.settings import Sft
from tests.conftest import tiny_model

pytestmark = pytest.mark.slow

SETTINGS = Sft(learning_rate=3e-3, lora_dropout=0.0, held_out=0.2, eval_steps=3)
ADAPTERS = replace(SETTINGS, lora_rank=4)
# words of a target, by the layout that is cheaper for them on a CPU
LENGTHS = {"packed": lambda draw: draw.randint(1, 16), "side by side": lambda draw: draw.randint(40, 60)}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def rows_of(tokenizer, layout):
    """Thirty rows; of those side by side, eight do not fit into one pass."""
    from reinstruct.train.rows import encode_all

    draw = random.Random(0)
    said = [" ".join(draw.choices(["hill", "mill", "town"], k=LENGTHS[layout](draw))) for _ in range(30)]
    return encode_all(
        [Example(id=str(n), prompt="Say:", target=text) for n, text in enumerate(said)], tokenizer, 999
    ).rows


def fitted(folder, base, layout, trainer_type=None, settings=SETTINGS, change=lambda model: None):
    """Six steps of eight rows."""
    from reinstruct.train.fit import fit
    from reinstruct.train.lora import with_adapters
    from reinstruct.train.model import load_model, load_tokenizer
    from reinstruct.train.place import Place
    from reinstruct.train.schedule import Schedule

    tokenizer = load_tokenizer(base)
    model = load_model(base, tokenizer)
    model = with_adapters(model, settings, base) if settings.lora_rank else model
    change(model)
    rows, place = rows_of(tokenizer, layout), Place(folder, folder / "out", LocalStore(folder))
    split = {"trained": range(24), "held_out": range(24, 30)}
    done = fit(model, tokenizer, rows, Schedule(6, 8, settings), place, trainer_type=trainer_type, **split)
    assert done.packing["packed"] is (layout == "packed")
    return done


def losses(curve):
    return [loss for _, loss in curve]


@pytest.mark.parametrize("layout", LENGTHS)
@pytest.mark.parametrize("settings", [SETTINGS, ADAPTERS], ids=["whole", "adapters"])
def test_trl_loss_for_gpus_trains_like_the_plain_one_for_cpus(base, tmp_path, layout, settings):
    from reinstruct.train.target_loss import HeldOutTrainer, TargetLossTrainer

    plain = fitted(tmp_path / "plain", base, layout, TargetLossTrainer, settings)
    of_trl = fitted(tmp_path / "trl", base, layout, HeldOutTrainer, settings)
    assert losses(of_trl.curve) == pytest.approx(losses(plain.curve), abs=2e-3)
    assert losses(of_trl.held_out) == pytest.approx(losses(plain.held_out), abs=2e-3)
    assert len(of_trl.held_out) == 2
    assert of_trl.curve[-1][1] < of_trl.curve[0][1]


def test_a_step_is_the_mean_over_its_tokens_also_where_a_model_counts_none(base, tmp_path):
    """Gemma 3n and others say of themselves that they take no count of a step's tokens."""
    from reinstruct.train.target_loss import HeldOutTrainer

    def counts_none(model):
        model.accepts_loss_kwargs = False

    usual = fitted(tmp_path / "usual", base, "side by side", HeldOutTrainer)
    changed = fitted(tmp_path / "changed", base, "side by side", HeldOutTrainer, change=counts_none)
    assert usual.packing["passes_per_step"] > 1
    assert losses(changed.curve) == pytest.approx(losses(usual.curve), abs=1e-5)


def test_adapters_of_a_model_in_four_bits_are_stepped_in_float32(base, tmp_path):
    """TRL makes bf16 of them; bitsandbytes, which packs the four bits, needs a GPU."""
    from safetensors.torch import load_file

    from reinstruct.train.target_loss import HeldOutTrainer

    def says_four_bits(model):
        model.is_loaded_in_4bit = True

    fitted(tmp_path, base, "packed", HeldOutTrainer, ADAPTERS, says_four_bits)
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in saved.values()} == {"torch.float32"}
    steps = [weight for name, weight in saved.items() if "lora_B" in name]
    assert any((weight != weight.bfloat16().float()).any() for weight in steps)


def test_shards_sum_their_gradients_in_float32(tmp_path):
    """As accelerate makes FSDP's policy on a GPU that computes in bf16."""
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin

    from reinstruct.train.arguments import arguments
    from reinstruct.train.place import Place
    from reinstruct.train.schedule import Schedule

    def policy(precision):
        place = Place(tmp_path, tmp_path / "out", LocalStore(tmp_path), profile="fsdp")
        told = arguments(Schedule(6, 8, Sft(precision=precision)), place, 1, 10)
        plugin = FullyShardedDataParallelPlugin(**told.fsdp_plugin_args)
        if told.bf16:
            plugin.set_mixed_precision("bf16")
        return plugin.mixed_precision_policy

    rounded = policy("bf16")
    assert (rounded.param_dtype, rounded.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert rounded.output_dtype is torch.float32
    assert policy("float32") is None


def test_memory_that_is_too_small_is_one_sentence_with_the_way_out(tmp_path):
    import torch

    said = "CUDA out of memory. Tried to allocate 2.00 GiB. \nOf the allocated memory 70 GiB are by PyTorch"
    way_out = r"Tried to allocate 2\.00 GiB\. \): pass_tokens of the job .*, the setting checkpointing .* goes on from"
    with pytest.raises(TrainingError, match=way_out) as raised, outside.told(tmp_path):
        raise torch.OutOfMemoryError(said)
    assert "\n" not in str(raised.value)
    with pytest.raises(TrainingError, match="can't allocate memory"), outside.told(tmp_path):
        torch.empty(1 << 60)
