"""What happens beside the steps of a training: progress is told, checkpoints are asked for and marked once whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from reinstruct.train.checkpoints import mark

if TYPE_CHECKING:
    from reinstruct.train.job import Progress


class Watch(TrainerCallback):
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
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            mark(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._saved = time.monotonic()
