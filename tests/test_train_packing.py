"""Rows that share forward passes: dealt evenly and always alike, and never seeing one another."""

import random
from collections import Counter

import pytest

from reinstruct.train.packing import PACKED, PADDED, alike, evenly, padded_size, plan, statistics

LENGTHS = [random.Random(n).randint(1, 300) for n in range(100)]


@pytest.mark.parametrize("layout", [PACKED, PADDED])
@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("capacity", [1, 300, 1000, 100_000])
def test_steps_keep_their_rows_and_passes_their_capacity(layout, processes, capacity):
    planned = random.Random(0).choices(range(100), k=9 * 16)
    made = plan(planned, LENGTHS, 16, capacity, processes=processes, layout=layout)
    assert made.per_step % processes == 0
    every = list(made.passes)
    assert len(every) == len(made) == 9 * made.per_step
    assert all(len(rows) == 1 or layout.size(rows, LENGTHS) <= capacity for rows in every)
    for step in range(9):
        passes = every[step * made.per_step : (step + 1) * made.per_step]
        assert all(passes)
        assert Counter(row for rows in passes for row in rows) == Counter(planned[step * 16 : (step + 1) * 16])


@pytest.mark.parametrize("layout", [PACKED, PADDED], ids=["packed", "padded"])
def test_rows_that_do_not_split_evenly_over_processes_have_a_pass_each_at_most(layout):
    """Rows that are measured are as many as are held out."""
    assert sorted(plan([0, 1, 2], [600] * 3, 3, 1024, layout=layout, processes=2).passes) == [[0], [1], [2]]


def test_passes_are_even():
    loads = [sum(LENGTHS[row] for row in rows) for rows in evenly(range(100), LENGTHS, 7)]
    assert max(loads) <= 1.01 * sum(LENGTHS) / 7


def test_rows_of_like_length_stand_together_and_little_is_padded():
    dealt = alike(range(100), LENGTHS, 7)
    assert len(dealt) == 7
    ranges = [sorted(LENGTHS[row] for row in rows) for rows in dealt]
    assert all(ranges[at][0] >= ranges[at + 1][-1] for at in range(6))
    sizes = [padded_size(rows, LENGTHS) for rows in dealt]
    assert sum(sizes) < 1.2 * sum(LENGTHS)
    assert max(sizes) < 1.3 * sum(sizes) / 7


def test_statistics_tell_how_full_passes_are():
    lengths = [10, 20, 30, 40]
    made = plan(list(range(4)), lengths, 4, 60, layout=PACKED)
    assert list(made.passes) == [[3, 0], [2, 1]]
    assert statistics(made, lengths, PACKED) == {
        "packed": True,
        "layout": "behind one another",
        "row_tokens": {"min": 10, "median": 25, "p95": 40, "max": 40},
        "passes_per_step": 2,
        "rows_per_pass": 2.0,
        "efficiency": 1.0,
        "efficiency_if_padded": 0.625,
        "balance": 1.0,
    }
    made = plan(list(range(4)), lengths, 4, 60, layout=PADDED)
    assert list(made.passes) == [[3], [2], [1, 0]]
    assert statistics(made, lengths, PADDED)["efficiency"] == round(100 / 110, 3)


ARCHITECTURES = {
    "llama": {},
    "mistral": {"sliding_window": 4},
    "qwen3": {"head_dim": 16},
    "gpt_neox": {},
}


def tiny(architecture, implementation="sdpa"):
    """A model of random weights, small but with every part of its architecture."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    common = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2} if architecture != "mamba" else {}
    config = AutoConfig.for_model(architecture, **common, **heads, **ARCHITECTURES.get(architecture, {}))
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation)


def numbered_rows():
    from reinstruct.train.tokens import Row, TokenRows

    draw = random.Random(7)
    lengths = [12, 5, 9, 3, 17]
    return TokenRows.of([Row(str(n), [draw.randrange(97) for _ in range(k)], k // 2) for n, k in enumerate(lengths)])


def loss_and_gradients(model, batches):
    """Of the mean over all target tokens in these batches, as a training step computes it."""
    from reinstruct.train.target_loss import target_loss, target_positions

    count = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
    model.zero_grad()
    total = 0.0
    for batch in batches:
        labels = batch.pop("labels")
        logits = model(**batch, logits_to_keep=target_positions(labels), use_cache=False).logits
        loss = target_loss(logits, labels, count)
        loss.backward()
        total += loss.item()
    return total, {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_packed_rows_give_the_loss_and_gradients_of_single_rows(architecture, implementation):
    import torch

    from reinstruct.train.batches import Packed, Padded, keeps_apart

    model, rows = tiny(architecture, implementation), numbered_rows()
    assert keeps_apart(model)
    packed, padded = Packed(rows), Padded(rows, 0)
    alone = loss_and_gradients(model, [packed([{"rows": [row]}]) for row in range(5)])
    for batches in (
        [packed([{"rows": [4, 3, 0, 1, 2]}])],
        [packed([{"rows": [2, 1]}]), packed([{"rows": [0, 4, 3]}])],
        [padded([{"rows": [0, 1, 2, 3, 4]}])],
    ):
        loss, gradients = loss_and_gradients(model, batches)
        assert loss == pytest.approx(alone[0], rel=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, alone[1][name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_models_that_carry_a_state_are_not_packed():
    from reinstruct.train.batches import keeps_apart

    assert not keeps_apart(tiny("mamba", "eager"))
    assert not keeps_apart(tiny("mamba", "eager").bfloat16())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_weights_of_16_bits_are_no_reason_not_to_pack(architecture):
    from reinstruct.train.batches import keeps_apart

    assert keeps_apart(tiny(architecture).bfloat16())


@pytest.mark.slow
def test_no_label_is_the_first_token_of_a_row():
    from reinstruct.train.batches import Packed
    from reinstruct.train.tokens import Row, TokenRows

    rows = TokenRows.of([Row("a", [5, 6, 7], 0), Row("b", [8, 9], 1)])
    batch = Packed(rows)([{"rows": [0, 1]}])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9]]
