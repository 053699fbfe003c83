"""The loss of the target tokens, for CPUs: logits are computed for target tokens alone.

The one rule: a step's loss is the mean over all its target tokens, however they are dealt to passes and processes.
Prompts are most of a row, and to a small model its vocabulary is half of the work. TRL leaves prompts out on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from reinstruct.train.batches import IGNORED


class TargetLossTrainer(SFTTrainer):
    """TRL's trainer with the loss below."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = True  # the step's target tokens are counted and given to compute_loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs["labels"]
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        outputs = model(**asked, logits_to_keep=target_positions(labels), use_cache=False)
        loss = target_loss(outputs.logits, labels, num_items_in_batch)
        if num_items_in_batch is not None:  # of all processes, whose gradients are averaged
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def target_positions(labels: torch.Tensor) -> torch.Tensor:
    """The positions, in any row of `labels` [rows, tokens], whose next token is a target."""
    return (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]


def target_loss(logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Loss of the target tokens over their number, from logits [rows, target positions, vocabulary]."""
    wanted = labels[:, 1:][:, target_positions(labels)].flatten()
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted, ignore_index=IGNORED, reduction="sum"
    )
    return total / ((wanted != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
