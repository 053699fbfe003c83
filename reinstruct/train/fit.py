"""The training loop shared by pretraining and fine-tuning: TRL's SFTTrainer on rows that are token ids already.

The one rule: the rows and their order are fixed before the first step, so a resumed run and an undisturbed one
take the same steps.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from reinstruct.identity import digest
from reinstruct.train.checkpoints import mark, prepare
from reinstruct.train.lora import Lora, merged, with_adapters
from reinstruct.train.rows import Row, order

if TYPE_CHECKING:
    from reinstruct.train.job import Progress

CPU_TOKENS = 1024  # of one forward pass; larger ones fall out of the cache and are slower
GPU_TOKENS = 16384
KEPT_CHECKPOINTS = 2
CHECKPOINTING_FROM = 1_000_000_000  # parameters; above, activations are recomputed to save memory
IGNORED = -100  # the label torch leaves out of the loss


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
    """A finished training. `seconds` and `tokens_per_s` tell of the steps of this attempt alone."""

    curve: list[tuple[int, float]]
    seconds: float
    tokens_per_s: float

    @property
    def loss(self) -> float:
        """Mean over the last tenth of the steps: that of one step is noise."""
        last = self.curve[-max(1, len(self.curve) // 10) :]
        return sum(loss for _, loss in last) / len(last)

    def metrics(self) -> dict[str, Any]:
        curve = [[step, round(loss, 4)] for step, loss in self.curve]
        rounded = {"loss": round(self.loss, 4), "seconds": round(self.seconds, 1), "curve": curve}
        return {"steps": len(curve), "tokens_per_s": round(self.tokens_per_s), **rounded}


def processes() -> PartialState:
    """The processes of this job, as torchrun made them; without a GPU they must be told that they compute on CPUs."""
    return PartialState(cpu=not torch.cuda.is_available())


class TargetLossTrainer(SFTTrainer):
    """For CPUs: logits are computed for target tokens alone, and not in TRL's chunks, which save memory that nobody
    lacks here. Prompts are most of a row, and to a small model its vocabulary is half of the work.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(compute_loss_func=target_loss, **kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        wanted = {"logits_to_keep": target_positions(inputs["labels"])}
        return Trainer.compute_loss(self, model, {**inputs, **wanted}, *args, **kwargs)


def target_positions(labels: torch.Tensor) -> torch.Tensor:
    """The positions, in any row of `labels` [rows, tokens], whose next token is a target."""
    return (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]


def target_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Mean loss of the target tokens, from logits [rows, target positions, vocabulary]."""
    wanted = labels[:, 1:][:, target_positions(labels)].flatten()
    total = torch.nn.functional.cross_entropy(
        outputs.logits.float().flatten(0, 1), wanted, ignore_index=IGNORED, reduction="sum"
    )
    return total / ((wanted != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def fit(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    schedule: Schedule,
    *,
    work: Path,
    out: Path,
    checkpoint_s: float,
    dtype: Any = torch.float32,
    progress: Progress | None = None,
    trainer_type: type[SFTTrainer] = SFTTrainer if torch.cuda.is_available() else TargetLossTrainer,
) -> Fitted:
    """Train `model` on `rows` and save it with its tokenizer in `out` (as `dtype`). Goes on from `work`."""
    lengths = [len(row.ids) for row in rows]
    planned = order(lengths, schedule.batch, schedule.steps, schedule.seed)
    checkpoints = work / "checkpoints"
    with processes().main_process_first():
        resume = prepare(checkpoints, _fingerprint(rows, schedule))
    watch = _Watch(checkpoint_s, progress)
    trainer = trainer_type(
        model=with_adapters(model, schedule.lora, schedule.seed) if schedule.lora else model,
        args=_arguments(schedule, checkpoints, max(lengths), model.num_parameters()),
        train_dataset=_dataset(rows).select(planned),
        processing_class=tokenizer,
        data_collator=Collate(tokenizer.pad_token_id),
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
    tokens = sum(lengths[row] for row in planned[watch.first_step * schedule.batch :])
    return Fitted(curve, seconds, tokens / seconds)


@dataclass(frozen=True)
class Collate:
    """Rows of a dataset as one batch, padded on the right to the longest of them. Tensors are [rows, tokens]."""

    pad: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        labels = torch.full((len(rows), longest), IGNORED)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for index, row in enumerate(rows):
            sequence = torch.tensor(row["input_ids"])
            ids[index, : len(sequence)] = sequence
            labels[index, row["prompt_tokens"] : len(sequence)] = sequence[row["prompt_tokens"] :]
            mask[index, : len(sequence)] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def shares(batch: int, processes: int, fitting: int) -> tuple[int, int]:
    """How a process does its share of a batch: (sequences of one pass, passes), multiplied exactly the share.

    `fitting` sequences fit into one pass.
    """
    share = batch // processes
    size = max(size for size in range(1, share + 1) if share % size == 0 and size <= max(1, fitting))
    return size, share // size


class _Watch(TrainerCallback):
    """Tells progress, asks for a checkpoint every `checkpoint_s` seconds and marks it once it is written."""

    def __init__(self, checkpoint_s: float, progress: Progress | None) -> None:
        self.checkpoint_s = checkpoint_s
        self.progress = progress
        self.first_step = 0
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # saving is a joint act of all processes, whose clocks differ: the first one decides
        due = [time.monotonic() - self._saved >= self.checkpoint_s]
        if args.world_size > 1:
            broadcast_object_list(due)
        if due[0] and state.global_step < state.max_steps:
            control.should_save = True
        if self.progress and state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            mark(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._saved = time.monotonic()


def _arguments(schedule: Schedule, folder: Path, longest: int, parameters: int) -> SFTConfig:
    on_gpu = torch.cuda.is_available()
    fitting = (GPU_TOKENS if on_gpu else CPU_TOKENS) // longest
    size, passes = shares(schedule.batch, processes().num_processes, fitting)
    return SFTConfig(
        output_dir=str(folder),
        max_steps=schedule.steps,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=passes,
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
        save_strategy="no",  # _Watch asks
        save_total_limit=KEPT_CHECKPOINTS,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
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


def _dataset(rows: Sequence[Row]) -> datasets.Dataset:
    """Four bytes a token: lists of Python numbers would take ten times that."""
    values = np.concatenate([np.asarray(row.ids, dtype=np.int32) for row in rows])
    offsets = np.array([0, *accumulate(len(row.ids) for row in rows)], dtype=np.int64)
    ids: Any = pa.LargeListArray.from_arrays(offsets, values)  # pyright: ignore[reportArgumentType]
    table: Any = pa.table({"input_ids": ids, "prompt_tokens": [row.prompt_tokens for row in rows]})
    return datasets.Dataset(table)


def _fingerprint(rows: Sequence[Row], schedule: Schedule) -> str:
    """Tells one job's checkpoints from another's in the same folder."""
    content = hashlib.sha256()
    for row in rows:
        content.update(b"%d:%d:" % (len(row.ids), row.prompt_tokens))
        content.update(row.ids.tobytes())
    return digest([asdict(schedule), content.hexdigest()])
