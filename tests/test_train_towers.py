"""Bases that see besides reading: text trains its own part of them, alone and by two processes."""

import pytest

from reinstruct.errors import RecipeError
from reinstruct.train.job import run
from tests.conftest import tiny_model
from tests.test_train_processes import expect_close, expect_same, finished, job_in, tensors, told

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """As Gemma 3 of four billion parameters and more is published, but small."""
    import torch
    from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

    folder = tmp_path_factory.mktemp("base")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(folder / "letters"))
    tokenizer.save_pretrained(folder)
    words, size = len(tokenizer), {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": words + 3,
    }
    seen = {"hidden_size": 16, "intermediate_size": 16, "image_size": 28, "patch_size": 14}
    marks = {"image_token_index": words, "boi_token_index": words + 1, "eoi_token_index": words + 2}
    text |= {"sliding_window": 32, "max_position_embeddings": 200, **size}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Gemma3Config(text_config=text, vision_config={**seen, **size}, mm_tokens_per_image=4, **marks)
        Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def alone(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    run(job_in(folder, base))
    return folder


def of_text(weights):
    return {name: weight for name, weight in weights.items() if "language_model" in name}


def beside_text(weights):
    return {name: weight for name, weight in weights.items() if "language_model" not in name}


def test_only_what_text_reaches_is_trained(base, alone):
    from safetensors.torch import load_file

    before, after = load_file(f"{base}/model.safetensors"), tensors(alone)
    assert after.keys() == before.keys()
    assert beside_text(before)
    assert all(after[name].equal(weight) for name, weight in beside_text(before).items())
    assert not any(after[name].equal(weight) for name, weight in of_text(before).items())
    assert told(alone)["loss"] < 0.8 * told(alone)["curve"][0][1]


def test_two_processes_train_it_as_one_does(base, alone, tmp_path):
    assert finished(job_in(tmp_path, base)) == [0, 0], (tmp_path / "pod-0.log").read_text()
    expect_same(tmp_path, alone)


def test_adapters_lie_on_the_text_alone(base, tmp_path):
    from safetensors.torch import load_file

    run(job_in(tmp_path, base, 4))
    adapters = tensors(tmp_path, "adapter/adapter_model")
    assert of_text(adapters)
    assert not beside_text(adapters)
    expect_close(beside_text(tensors(tmp_path)), beside_text(load_file(f"{base}/model.safetensors")))


def test_dropout_and_positions_are_those_of_the_text(base):
    from reinstruct.train.model import load_model, load_tokenizer, longest_sequence, with_dropout_of

    model = load_model(base, load_tokenizer(base), dropout=0.25)
    assert longest_sequence(model, 999) == 200
    assert model.model.language_model.layers[0].self_attn.attention_dropout == 0.25
    with_dropout_of(base, model.config)
    assert model.config.text_config.attention_dropout == 0.0


def test_dropout_that_a_base_cannot_take_is_refused(tmp_path):
    from transformers import MambaConfig, MambaForCausalLM

    from reinstruct.train.model import load_model, load_tokenizer

    base = str(tmp_path / "base")
    tokenizer = load_tokenizer(tiny_model(tmp_path / "letters"))
    MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1)).save_pretrained(base)
    with pytest.raises(RecipeError, match=r"dropout is 0.1; accepted: 0 for .*, whose configuration names none"):
        load_model(base, tokenizer, dropout=0.1)
    load_model(base, tokenizer)
