"""LoRA: small trainable matrices beside frozen weights (Hu et al. 2021, https://arxiv.org/abs/2106.09685), by peft.

The one rule: adapters live only while training. What is saved is the merged model, so every engine can load it and
the next round of training starts from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Every linear layer but the output layer: its name differs between architectures, peft finds them all.
TARGETS = "all-linear"


@dataclass(frozen=True)
class Lora:
    """The update of a weight is `alpha / rank` times a product of two matrices of that rank."""

    rank: int
    alpha: int
    dropout: float


def with_adapters(model: Any, lora: Lora, seed: int) -> Any:
    """The model with frozen weights and fresh adapters. Their random start depends on `seed` alone."""
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def merged(model: Any) -> Any:
    """The plain model with what its adapters learnt added to its weights."""
    return model.merge_and_unload()
