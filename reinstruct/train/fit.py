"""The training loop shared by pretraining and fine-tuning: TRL's SFTTrainer on rows that are token ids already.

The one rule: the rows and their order are fixed before the first step, so a resumed run and an undisturbed one
take the same steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import msgspec
import numpy as np
import pyarrow as pa
import torch
from datasets.table import InMemoryTable
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from transformers.utils.import_utils import is_flash_attn_2_available

from reinstruct.architecture import ENCODER_DECODER, architecture_of, opening
from reinstruct.train import packing
from reinstruct.train.arguments import arguments, in_bf16, processes
from reinstruct.train.batches import Collate, Packed, Padded, keeps_apart
from reinstruct.train.checkpoints import Checkpoints, Found
from reinstruct.train.encoded import Encoded, EncodedLossTrainer
from reinstruct.train.packing import PACKED, PADDED, Layout, Plan
from reinstruct.train.place import Place
from reinstruct.train.saving import Saving
from reinstruct.train.schedule import Schedule, fingerprint, order
from reinstruct.train.target_loss import HeldOutTrainer, TargetLossTrainer
from reinstruct.train.tokens import TokenRows
from reinstruct.train.turns import Turns
from reinstruct.train.watch import Watch

CPU_TOKENS = 1024  # of one forward pass; larger ones fall out of the cache and are slower
GPU_TOKENS = 4096  # with masks that are blocks, whose empty parts are computed too
FLASH_TOKENS = 16384  # with flash attention, which computes none of them
PACKED_COST = 1.4  # on CPUs a token of packed rows costs that much more: the mask's empty parts are computed

_FOUND = msgspec.json.Decoder(Found)


@dataclass(frozen=True)
class Fitted:
    """A finished training. `seconds` and `tokens_per_s` tell of the steps of this attempt alone.

    `curve` and `held_out` are (step, mean loss of a target token in nats); `kept` is the step whose weights were saved.
    `packing` says how long rows are and how full passes (`packing.statistics`); `checkpoints` how many were written in
    this attempt, the seconds that its steps waited for them, and where it went on from.
    """

    curve: list[tuple[int, float]]
    held_out: list[tuple[int, float]]
    kept: int
    seconds: float
    tokens_per_s: float
    packing: dict[str, Any]
    checkpoints: dict[str, Any]

    @property
    def loss(self) -> float:
        """Mean over the last tenth of the steps: that of one step is noise."""
        last = self.curve[-max(1, len(self.curve) // 10) :]
        return sum(loss for _, loss in last) / len(last)

    def metrics(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"steps": len(self.curve), "tokens_per_s": round(self.tokens_per_s)}
        figures |= {"packing": self.packing, "loss": round(self.loss, 4), "seconds": round(self.seconds, 1)}
        if self.held_out:
            figures |= {"held_out": _rounded(self.held_out), "kept_step": self.kept}
        return figures | {"checkpoints": self.checkpoints, "curve": _rounded(self.curve)}


def fit(
    model: Any,
    tokenizer: Any,
    rows: TokenRows,
    schedule: Schedule,
    place: Place,
    *,
    trained: Sequence[int] = (),
    held_out: Sequence[int] = (),
    saved: Callable[[Any], None] = lambda model: None,
    dtype: Any = None,
    start: Callable[[], str] = str,
    trainer_type: type[HeldOutTrainer] | None = None,
) -> Fitted:
    """Train `model` on the rows numbered `trained` (none: all) and save it with its tokenizer in `place.out`.

    `saved` prepares the trained model to be saved, with weights of type `dtype` (none: as they are). Goes on from the
    newest sound checkpoint in `place.store` that began with the same weights: `start` tells them from others.
    TrainingError as soon as a loss is no number.
    """
    most, planned = place.pass_tokens, order(rows, trained or range(len(rows)), schedule)
    layout, plan = _laid_out(model, planned, rows, schedule, most)
    kept = Checkpoints(place.store, processes=processes().num_processes, keep=place.keep_checkpoints)
    found = _found(kept, place.turns, lambda: f"{fingerprint(schedule, rows, held_out)} {place.profile} {start()}")
    with Saving(kept, processes().process_index) as saving:
        watch = Watch(saving, place.checkpoint_s, place.work / "log.jsonl", place.progress)
        trainer = (trainer_type or _trainer_for(model))(
            model=model,
            args=arguments(schedule, place, plan.per_step, model.num_parameters()),
            processing_class=tokenizer,
            callbacks=_callbacks(watch, schedule.settings.patience),
            **_batches(plan, _plan(held_out, rows.lengths, len(held_out), layout, most) if held_out else None),
            data_collator=_collator(model, rows, layout, tokenizer.pad_token_id),
        )
        trainer.held_out_targets = rows.targets_of(held_out)
        trainer.saving, trainer.whole = saving, place.profile == "ddp" and not schedule.settings.lora_rank
        trainer.remove_callback(PrinterCallback)
        started = time.monotonic()
        trainer.train(resume_from_checkpoint=str(kept.fetch(found.step)) if found.step else None)
        seconds = time.monotonic() - started
    saved(trainer.model)
    trainer.save_whole(place.out, dtype)
    done = planned[watch.first_step * schedule.batch : trainer.state.global_step * schedule.batch]
    return Fitted(
        **_measured(trainer.state, schedule.settings.keep),
        seconds=seconds,
        tokens_per_s=int(np.asarray(rows.lengths)[done].sum(dtype=np.int64)) / seconds,
        packing=packing.statistics(plan, rows.lengths, layout),
        checkpoints={**saving.figures(), "went_on_from": found.step, "passed_over": found.skipped},
    )


def _callbacks(watch: Watch, patience: int) -> list[TrainerCallback]:
    return [watch, EarlyStoppingCallback(patience)] if patience else [watch]


def _batches(plan: Plan, measured: Plan | None) -> dict[str, Any]:
    """What the trainer goes through: passes to train on and to measure."""
    datasets.disable_progress_bars()
    return {"train_dataset": _passes(plan), "eval_dataset": _passes(measured) if measured else None}


def _measured(state: Any, keep: str) -> dict[str, Any]:
    """The curves of a finished training, and the step that was saved."""
    kept = (state.best_global_step or state.global_step) if keep == "best" else state.global_step
    return {"curve": _logged(state, "loss"), "held_out": _logged(state, "eval_loss"), "kept": kept}


def _found(checkpoints: Checkpoints, turns: Turns, fingerprint: Callable[[], str]) -> Found:
    """What the first process finds, for all of them; a checkpoint that is passed over is told of on stderr."""

    def prepared() -> str:
        found = checkpoints.prepare(fingerprint())
        for name, fault in found.skipped.items():
            sys.stderr.write(f"{name} is passed over: {fault}\n")
        return msgspec.json.encode(found).decode()

    return _FOUND.decode(turns.told(prepared))


def _trainer_for(model: Any) -> type[HeldOutTrainer]:
    if architecture_of(model.config) is ENCODER_DECODER:
        return EncodedLossTrainer
    return HeldOutTrainer if torch.cuda.is_available() else TargetLossTrainer


def _collator(model: Any, rows: TokenRows, layout: Layout, pad: int) -> Collate:
    if architecture_of(model.config) is ENCODER_DECODER:
        return Encoded(rows, pad, opening(model))
    return Packed(rows) if layout.packed else Padded(rows, pad)


def _laid_out(
    model: Any, planned: Sequence[int], rows: TokenRows, schedule: Schedule, most: int
) -> tuple[Layout, Plan]:
    """The layout that costs less: rows packed behind one another, or side by side where that is as good.

    NEFTune's noise goes by the length of a row, which only rows side by side have.
    """
    lengths, flash = rows.lengths, _takes_flash(model, schedule.settings.precision)
    if architecture_of(model.config) is ENCODER_DECODER:
        layout = packing.apart(rows.prompt_lengths)
        return layout, _plan(planned, lengths, schedule.batch, layout, most)
    on_gpu = torch.cuda.is_available()
    plans = {layout: _plan(planned, lengths, schedule.batch, layout, most, flash=flash) for layout in (PACKED, PADDED)}
    packed, padded = (packing.computed(plan, lengths, layout) for layout, plan in plans.items())
    pays = (on_gpu or packed * PACKED_COST < padded) and not schedule.settings.neftune_alpha
    layout = PACKED if pays and keeps_apart(model) else PADDED
    if on_gpu and layout.packed and flash:
        model.set_attn_implementation("flash_attention_2")
    return layout, plans[layout]


def _takes_flash(model: Any, precision: str) -> bool:
    """Flash attention knows numbers of 16 bits alone, and not every model knows it."""
    return is_flash_attn_2_available() and in_bf16(precision) and bool(getattr(model, "_supports_flash_attn", False))


def _plan(
    planned: Sequence[int], lengths: Sequence[int], batch: int, layout: Layout, most: int, *, flash: bool = False
) -> Plan:
    """`most` are the tokens of a pass; 0: as many as pay off here."""
    on_gpu = torch.cuda.is_available()
    fitting = (FLASH_TOKENS if flash and layout.packed else GPU_TOKENS) if on_gpu else CPU_TOKENS
    capacity = max(most or fitting, max(lengths[row] for row in planned))
    return packing.plan(planned, lengths, batch, capacity, layout=layout, processes=processes().num_processes)


def _passes(plan: Plan) -> datasets.Dataset:
    values = pa.array(np.asarray(plan.rows))
    column = pa.LargeListArray.from_arrays(np.asarray(plan.starts), values)  # pyright: ignore[reportArgumentType]
    table = InMemoryTable(pa.table({"rows": column}))
    return datasets.Dataset(table, fingerprint="passes")  # else all of it is hashed; nothing of it is kept on a disk


def _logged(state: Any, name: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), entry[name]) for entry in state.log_history if name in entry]


def _rounded(curve: Sequence[tuple[int, float]]) -> list[list[float]]:
    return [[step, round(loss, 4)] for step, loss in curve]
