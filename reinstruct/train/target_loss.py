"""The loss of the target tokens; on CPUs, logits are computed for target tokens alone.

The one rule: a step's loss is the mean over all its target tokens, however they are dealt to passes and processes.
Prompts are most of a row, and to a small model its vocabulary is half of the work. TRL leaves prompts out on GPUs only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl.trainer.sft_trainer import SFTTrainer

from reinstruct.train.batches import IGNORED
from reinstruct.train.saving import SCHEDULER, Saving, write_optimizer, write_weights


class HeldOutTrainer(SFTTrainer):
    """TRL's trainer, whose `eval_loss` is the mean over all held-out target tokens, not over passes.

    Its checkpoints go through `saving`. `whole` weights are copied and written beside the training; others (adapters,
    which are small, and shards) are written by transformers, and only made durable beside it.
    """

    held_out_targets = 0
    saving: Saving | None = None
    whole = False

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        assert self.saving, "set before the first step"
        with self.saving.checkpoint(self.state.global_step, self.state.best_global_step):
            super()._save_checkpoint(model, trial)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not (self.whole and self.saving and output_dir and _internal_call):
            super().save_model(output_dir, _internal_call)
        elif self.args.should_save:
            write_weights(self.model, Path(output_dir), self.saving)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not (self.whole and self.saving):
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            write_optimizer(self.optimizer, Path(output_dir), self.saving)
            schedule: Any = self.lr_scheduler
            torch.save(schedule.state_dict(), Path(output_dir) / SCHEDULER)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        passes: int = len(self.eval_dataset)  # pyright: ignore[reportArgumentType]
        share = (inputs["labels"][:, 1:] != IGNORED).sum() * passes / self.held_out_targets
        return loss * share.to(loss.device), logits, labels


class TargetLossTrainer(HeldOutTrainer):
    """The same with the loss below, for CPUs."""

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
