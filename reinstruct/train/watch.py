"""What happens beside the steps of a training: progress and measurements are told, and checkpoints are asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from reinstruct.errors import TrainingError
from reinstruct.train.saving import Saving

if TYPE_CHECKING:
    from reinstruct.train.job import Progress


APART = 20  # times as long as the last checkpoint held the training up is the next one away: 5 % of the time at most


class Watch(TrainerCallback):
    """Tells progress, and asks for a checkpoint every `checkpoint_s` seconds unless one is still being written.

    Where checkpoints hold the training up for long, they are further apart; not where `checkpoint_s` is 0.
    Every measurement (loss, learning rate, gradient norm, held-out loss) is a JSON line of `log`.
    """

    def __init__(self, saving: Saving, checkpoint_s: float, log: Path, progress: Progress | None) -> None:
        self.saving = saving
        self.checkpoint_s = checkpoint_s
        self.log = log
        self.progress = progress
        self.first_step = 0
        self._saved = saving.clock()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self._saved = self.saving.clock()
        if state.is_world_process_zero:
            self.log.write_text("".join(map(_line, state.log_history)))  # what came after the checkpoint comes again

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        logs: dict[str, Any] = given["logs"]
        for name in ("loss", "eval_loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise TrainingError(
                    f"{name} is {logs[name]} at step {state.global_step}: nothing of it was saved. "
                    "A lower learning_rate or some warmup_ratio helps where a loss grows without end"
                )
        if state.is_world_process_zero:
            with self.log.open("a") as file:
                file.write(_line({**logs, "step": state.global_step}))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # saving is a joint act of all processes, whose clocks differ: the first one decides
        self.saving.check()
        apart = max(self.checkpoint_s, APART * self.saving.held_s) if self.checkpoint_s else 0.0
        due = [self.saving.idle and self.saving.clock() - self._saved >= apart]
        if args.world_size > 1:
            broadcast_object_list(due)
        if due[0] and state.global_step < state.max_steps:
            control.should_save = True
        if self.progress and state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = self.saving.clock()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.saving.wait()  # the steps are done; what comes next may read the best checkpoint


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"
