"""The training loop shared by pretraining and fine-tuning: TRL's SFTTrainer on rows that are token ids already.

The one rule: the rows and their order are fixed before the first step, so a resumed run and an undisturbed one
take the same steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from accelerate import PartialState
from transformers import PrinterCallback
from transformers.utils.import_utils import is_flash_attn_2_available
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from reinstruct.identity import digest
from reinstruct.train import packing
from reinstruct.train.batches import Packed, Padded, keeps_apart
from reinstruct.train.checkpoints import prepare
from reinstruct.train.lora import Lora, merged, with_adapters
from reinstruct.train.target_loss import TargetLossTrainer
from reinstruct.train.tokens import TokenRows
from reinstruct.train.watch import Watch

if TYPE_CHECKING:
    from reinstruct.train.job import Progress

CPU_TOKENS = 1024  # of one forward pass; larger ones fall out of the cache and are slower
GPU_TOKENS = 4096  # with masks that are blocks, whose empty parts are computed too
PACKED_COST = 1.4  # on CPUs a token of packed rows costs that much more: the mask's empty parts are computed
FLASH_TOKENS = 16384  # with flash attention, which computes none of them
KEPT_CHECKPOINTS = 2
CHECKPOINTING_FROM = 1_000_000_000  # parameters; above, activations are recomputed to save memory


@dataclass(frozen=True)
class Schedule:
    """How to train: `steps` optimizer steps of `batch` sequences each, on all weights or on adapters (`lora`)."""

    steps: int
    batch: int
    learning_rate: float
    decay: str = "constant"  # constant | cosine | linear
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    beta2: float = 0.999
    seed: int = 0
    lora: Lora | None = None


@dataclass(frozen=True)
class Fitted:
    """A finished training. `seconds` and `tokens_per_s` tell of the steps of this attempt alone.

    `packing` says how long rows are and how full passes (`packing.statistics`), and whether rows are packed at all.
    """

    curve: list[tuple[int, float]]
    seconds: float
    tokens_per_s: float
    packing: dict[str, Any]

    @property
    def loss(self) -> float:
        """Mean over the last tenth of the steps: that of one step is noise."""
        last = self.curve[-max(1, len(self.curve) // 10) :]
        return sum(loss for _, loss in last) / len(last)

    def metrics(self) -> dict[str, Any]:
        curve = [[step, round(loss, 4)] for step, loss in self.curve]
        rounded = {"loss": round(self.loss, 4), "seconds": round(self.seconds, 1), "curve": curve}
        return {"steps": len(curve), "tokens_per_s": round(self.tokens_per_s), "packing": self.packing, **rounded}


def processes() -> PartialState:
    """The processes of this job, as torchrun made them; without a GPU they must be told that they compute on CPUs."""
    return PartialState(cpu=not torch.cuda.is_available())


def fit(
    model: Any,
    tokenizer: Any,
    rows: TokenRows,
    schedule: Schedule,
    *,
    work: Path,
    out: Path,
    checkpoint_s: float,
    dtype: Any = torch.float32,
    progress: Progress | None = None,
    loader_workers: int = 0,
    trainer_type: type[SFTTrainer] = SFTTrainer if torch.cuda.is_available() else TargetLossTrainer,
) -> Fitted:
    """Train `model` on `rows` and save it with its tokenizer in `out` (as `dtype`). Goes on from `work`."""
    planned = packing.order(rows.lengths, schedule.batch, schedule.steps, schedule.seed)
    layout, plan = _laid_out(model, planned, rows.lengths, schedule.batch)
    checkpoints = work / "checkpoints"
    with processes().main_process_first():
        resume = prepare(checkpoints, digest([asdict(schedule), rows.digest()]))
    watch = Watch(checkpoint_s, progress)
    trainer = trainer_type(
        model=with_adapters(model, schedule.lora, schedule.seed) if schedule.lora else model,
        args=_arguments(schedule, checkpoints, plan, model.num_parameters(), loader_workers),
        train_dataset=datasets.Dataset.from_dict({"rows": plan.passes}),
        processing_class=tokenizer,
        data_collator=Packed(rows) if layout.packed else Padded(rows, tokenizer.pad_token_id),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    seconds = time.monotonic() - started
    if schedule.lora:
        trainer.model = merged(trainer.model)
    if dtype != torch.float32:
        trainer.model.to(dtype)  # pyright: ignore[reportOptionalMemberAccess]
    trainer.save_model(str(out))
    (out / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
    curve = [(int(entry["step"]), entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    tokens = sum(rows.lengths[row] for row in planned[watch.first_step * schedule.batch :])
    return Fitted(curve, seconds, tokens / seconds, packing.statistics(plan, rows.lengths, layout))


def _laid_out(
    model: Any, planned: Sequence[int], lengths: Sequence[int], batch: int
) -> tuple[packing.Layout, packing.Plan]:
    """The layout that costs less: rows packed behind one another, or side by side where that is as good."""
    on_gpu, flash = torch.cuda.is_available(), is_flash_attn_2_available()
    fitting = (FLASH_TOKENS if flash else GPU_TOKENS) if on_gpu else CPU_TOKENS
    plans = {
        layout: packing.plan(
            planned, lengths, batch, max(fitting, *lengths), layout=layout, processes=processes().num_processes
        )
        for layout in (packing.PACKED, packing.PADDED)
    }
    packed, padded = (packing.computed(plan, lengths, layout) for layout, plan in plans.items())
    pays = on_gpu or packed * PACKED_COST < padded
    layout = packing.PACKED if pays and keeps_apart(model) else packing.PADDED
    if on_gpu and flash and layout.packed:
        model.set_attn_implementation("flash_attention_2")
    return layout, plans[layout]


def _arguments(schedule: Schedule, folder: Path, plan: packing.Plan, parameters: int, loader_workers: int) -> SFTConfig:
    on_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(folder),
        max_steps=schedule.steps,
        per_device_train_batch_size=1,  # one pass of the plan, with all its rows
        gradient_accumulation_steps=plan.per_step // processes().num_processes,
        train_sampling_strategy="sequential",  # the order is planned already
        learning_rate=schedule.learning_rate,
        lr_scheduler_type=schedule.decay,
        warmup_steps=math.ceil(schedule.warmup_ratio * schedule.steps),
        weight_decay=schedule.weight_decay,
        adam_beta2=schedule.beta2,
        seed=schedule.seed,
        use_cpu=not on_gpu,
        bf16=_bf16_is_fast(),
        gradient_checkpointing=on_gpu and parameters >= CHECKPOINTING_FROM,
        save_strategy="no",  # Watch asks
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
        dataloader_num_workers=loader_workers,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _bf16_is_fast() -> bool:
    """On GPUs that have it, and on CPUs with AMX; elsewhere bf16 is emulated and slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
