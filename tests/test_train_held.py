"""Frozen weights beside adapters: held in 16 bits on GPUs, in 32 everywhere else."""

import json
from dataclasses import replace

import pytest

from reinstruct.records import Example
from reinstruct.store import LocalStore
from reinstruct.train.settings import Sft
from tests.conftest import tiny_model

ADAPTERS = Sft(learning_rate=3e-3, lora_rank=4, lora_dropout=0.0, precision="bf16")


@pytest.mark.parametrize(
    ("settings", "device", "bf16", "expected"),
    [
        (ADAPTERS, "cuda", True, "bfloat16"),
        (replace(ADAPTERS, lora_continue=True), "cuda", True, "bfloat16"),
        (ADAPTERS, "cuda", False, "float32"),
        (ADAPTERS, "cpu", True, "float32"),
        (replace(ADAPTERS, quantize="4bit"), "cuda", True, "float32"),
        (Sft(), "cuda", True, "float32"),
    ],
)
def test_only_frozen_weights_on_a_gpu_that_computes_in_16_bits_are_held_so(settings, device, bf16, expected):
    import torch

    from reinstruct.train.lora import held_dtype

    assert held_dtype(settings, device, bf16=bf16) is getattr(torch, expected)


@pytest.mark.slow
def test_adapters_of_32_bits_learn_the_same_on_weights_of_16(tmp_path):
    import torch
    from safetensors.torch import load_file

    from reinstruct.train.fit import fit
    from reinstruct.train.lora import with_adapters
    from reinstruct.train.model import load_model, load_tokenizer
    from reinstruct.train.place import Place
    from reinstruct.train.rows import encode_all
    from reinstruct.train.schedule import Schedule

    base = tiny_model(tmp_path / "base")
    tokenizer = load_tokenizer(base)
    rows = encode_all(
        [Example(id=str(n), prompt="a b c" * (1 + n % 3), target="yes!") for n in range(16)], tokenizer, 64
    )
    curves = []
    for dtype in (torch.float32, torch.bfloat16):
        model = with_adapters(load_model(base, tokenizer, dtype=dtype), ADAPTERS, base)
        assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {dtype}
        place = Place(tmp_path / str(dtype), tmp_path / str(dtype) / "out", LocalStore(tmp_path / str(dtype)))
        curves.append([loss for _, loss in fit(model, tokenizer, rows.rows, Schedule(12, 4, ADAPTERS), place).curve])
        saved = load_file(place.out / "adapter_model.safetensors")
        assert {weight.dtype for weight in saved.values()} == {torch.float32}
        assert json.loads((place.out / "adapter_config.json").read_text())["r"] == 4
    assert curves[0][-1] < 0.98 * curves[0][0]
    assert curves[1] == pytest.approx(curves[0], abs=0.02)
