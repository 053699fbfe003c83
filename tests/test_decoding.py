"""Tokens drawn from logits that are written down."""

from __future__ import annotations

import pytest

from reinstruct.llm import Sampling


def chosen(sampling: Sampling, logits: list[float], steps: int = 1, prompt: list[int] | None = None) -> list[int]:
    import torch

    from reinstruct.decoding import Chooser

    chooser = Chooser([(prompt or [0], steps, 7)], sampling, "cpu")
    return [int(chooser.choose(torch.tensor([logits]))) for _ in range(steps)]


@pytest.mark.slow
def test_presence_is_subtracted_once_and_frequency_each_time():
    logits = [3.0, 2.5, 1.2, 0.0]
    assert chosen(Sampling(presence_penalty=1.0), logits, 5) == [0, 1, 0, 0, 0]
    assert chosen(Sampling(frequency_penalty=1.0), logits, 5) == [0, 1, 0, 1, 2]


@pytest.mark.slow
def test_penalties_of_the_reply_spare_the_prompt():
    assert chosen(Sampling(presence_penalty=2.0), [3.0, 2.5], prompt=[0]) == [0]
    assert chosen(Sampling(repetition_penalty=2.0), [3.0, 2.5], prompt=[0]) == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "possible"),
    [({"top_k": 2}, {0, 1}), ({"min_p": 0.5}, {0, 1}), ({"top_k": 3, "min_p": 0.5}, {0, 1}), ({}, {0, 1, 2, 3})],
    ids=str,
)
def test_limits_leave_these_tokens_to_draw_from(limits, possible):
    logits = [1.0, 0.9, 0.1, 0.0]
    assert set(chosen(Sampling(temperature=1.0, **limits), logits, steps=300)) == possible
