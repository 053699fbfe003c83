"""Training models of encoder and decoder: the encoder reads the prompt, the decoder learns the target.

The one rule: a decoder is trained after the tokens it begins with when it generates, and the loss falls on the target
and its EOS alone, in nats a token, as for a decoder that reads prompt and target in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from reinstruct.architecture import opening
from reinstruct.train.batches import IGNORED
from reinstruct.train.target_loss import HeldOutTrainer
from reinstruct.train.tokens import Row, TokenRows


@dataclass(frozen=True)
class Encoded:
    """Rows side by side, prompts [rows, prompt tokens] and what the decoder reads [rows, target tokens] padded apart.

    `opening` is what the decoder begins with. Prompts have a mask; what stands behind a target is never seen from it.
    """

    rows: TokenRows
    pad: int
    opening: tuple[int, ...]

    def __call__(self, passes: Sequence[dict[str, Any]]) -> dict[str, Any]:
        numbers = [row for each in passes for row in each["rows"]]
        ids = [torch.tensor(self.rows.tokens(row), dtype=torch.long) for row in numbers]
        return tensors(ids, [self.rows.prompt_tokens(row) for row in numbers], self.pad, self.opening)


class EncodedLossTrainer(HeldOutTrainer):
    """The trainer with the loss of a decoder's labels, which stand where they are told from."""

    first_label = 0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._loss_shifts_labels = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        asked = {name: value for name, value in inputs.items() if name != "labels"}
        outputs, labels = model(**asked, use_cache=False), inputs["labels"]
        loss = token_losses(outputs.logits, labels).sum()
        if num_items_in_batch is None:
            loss = loss / (labels != IGNORED).sum()
        else:  # of all processes, whose gradients are averaged
            loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss


@torch.inference_mode()
def encoded_sums(model: Any, rows: Sequence[Row]) -> list[float]:
    """For each row the negative log-likelihood of its whole target in nats, in one forward pass."""
    ids = [torch.tensor(row.ids) for row in rows]
    batch = tensors(ids, [row.prompt_tokens for row in rows], 0, opening(model))
    batch = {name: values.to(model.device) for name, values in batch.items()}
    labels = batch.pop("labels")
    return token_losses(model(**batch, use_cache=False).logits, labels).double().sum(dim=1).tolist()


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss [rows, tokens] of each label in nats, 0 where it is ignored, from logits [rows, tokens, vocabulary]."""
    return cross_entropy(logits.transpose(1, 2).float(), labels, ignore_index=IGNORED, reduction="none")


def tensors(
    rows: Sequence[torch.Tensor], prompts: Sequence[int], pad: int, opening: Sequence[int]
) -> dict[str, torch.Tensor]:
    """One batch of rows of ids, whose first `prompts` are the encoder's."""
    split = [(row[:prompt], row[prompt:]) for row, prompt in zip(rows, prompts, strict=True)]
    first, ignored = torch.tensor(opening), torch.full((len(opening) - 1,), IGNORED)
    return {
        "input_ids": _padded([prompt for prompt, _ in split], pad),
        "attention_mask": _padded([torch.ones_like(prompt) for prompt, _ in split], 0),
        "decoder_input_ids": _padded([torch.cat([first, target[:-1]]) for _, target in split], pad),
        "labels": _padded([torch.cat([ignored, target]) for _, target in split], IGNORED),
    }


def _padded(rows: list[torch.Tensor], value: int) -> torch.Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
