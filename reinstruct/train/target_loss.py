"""The trainers: TRL's, with the loss of target tokens and with checkpoints of our own.

The one rule: a step's loss is the mean over all its target tokens, however they are dealt to passes and processes.
Prompts are most of a row, and to a small model its vocabulary is half of the work. TRL leaves prompts out on GPUs only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor
from transformers import Trainer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl.trainer.sft_trainer import SFTTrainer

from reinstruct.train.batches import IGNORED
from reinstruct.train.model import state_dtype
from reinstruct.train.saving import SCHEDULER, Saving, copied, write_optimizer, write_weights


class HeldOutTrainer(SFTTrainer):
    """TRL's trainer, whose `eval_loss` is the mean over all held-out target tokens, not over passes.

    Its checkpoints go through `saving`. `whole` weights are copied and written beside the training; others (adapters,
    which are small, and shards) are written by transformers, and only made durable beside it.
    """

    first_label = 1  # nothing comes before the first token of a row, from which it could be told
    held_out_targets = 0
    saving: Saving | None = None
    whole = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # the step's target tokens are counted and given to compute_loss, whatever the model itself does with them
        self.model_accepts_loss_kwargs = True
        hold_exactly(self.model)

    def create_accelerator_and_postprocess(self) -> None:
        """As the Trainer does; but accelerate leaves FSDP to GPUs unless told that these CPUs are to shard, too."""
        super().create_accelerator_and_postprocess()
        told: Any = self.args.fsdp_plugin_args
        if told and not self.is_fsdp_enabled:
            state: Any = self.accelerator.state
            state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, FullyShardedDataParallelPlugin(**told)
            self.is_fsdp_enabled = True

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        assert self.saving, "set before the first step"
        with self.saving.checkpoint(self.state.global_step, self.state.best_global_step):
            Trainer._save_checkpoint(self, model, trial)  # TRL would write a card, too

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
        share = (inputs["labels"][:, self.first_label :] != IGNORED).sum() * passes / self.held_out_targets
        return loss * share.to(loss.device), logits, labels

    def save_whole(self, folder: Path, dtype: Any = None) -> None:
        """The trained model in one piece, however the processes divided it, with weights of this type, if any."""
        model: Any = self.model
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            self._save(str(folder), self._gathered(dtype))
        else:
            if dtype:
                model.to(dtype)
            self.save_model(str(folder))
        if dtype and self.args.should_save:
            state_dtype(folder, dtype)
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
        if self.is_deepspeed_enabled:
            unset_hf_deepspeed_config()  # or models loaded from now on would be divided, too

    def _gathered(self, dtype: Any) -> dict[str, torch.Tensor]:
        """What is saved, in the memory of the first process; one at a time where others are held up for it."""
        model: Any = self.model
        left_out = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        left_out -= {name for name, _ in model.named_parameters()}  # tied weights are one
        if self.is_deepspeed_enabled:
            shards: Any = self.accelerator.get_state_dict(self.model_wrapped) or {}
        else:
            sharded: Any = self.model_wrapped
            shards = sharded.state_dict()
            if hasattr(model, "peft_config"):  # of which adapters are saved alone
                left_out |= {name for name, weight in sharded.named_parameters() if not weight.requires_grad}
        gathered: dict[str, torch.Tensor] = {}
        for name, shard in shards.items():  # in one order everywhere: processes fetch each together
            if name in left_out:
                continue
            weight = shard.full_tensor() if isinstance(shard, DTensor) else shard
            if self.args.should_save:
                gathered[name] = copied(weight).to(dtype or weight.dtype)
        return gathered


class TargetLossTrainer(HeldOutTrainer):
    """The same with the loss below, for CPUs."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs["labels"]
        # padding on the right is never seen from a row: without its mask attention is causal alone, and faster
        asked = {name: value for name, value in inputs.items() if name not in ("labels", "attention_mask")}
        outputs = model(**asked, logits_to_keep=target_positions(labels), use_cache=False)
        loss = target_loss(outputs.logits, labels, num_items_in_batch)
        if num_items_in_batch is not None:  # of all processes, whose gradients are averaged
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


def hold_exactly(model: Any) -> None:
    """Have trained weights in float32: of models in four bits TRL makes bf16 of them, too coarse for small steps."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


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
