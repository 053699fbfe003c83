"""Prompts that an encoder reads and replies that its decoder writes, several at a time.

The one rule: every reply begins at the decoder's first position, and a row attends to its own prompt alone. So a row's
tokens are those it would get alone, up to float rounding. A row that ends leaves; the next ones wait until all have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from reinstruct.batching import CARRIED, Finish, Limits, Row, chosen
from reinstruct.decoding import Chooser
from reinstruct.llm import Sampling


def decode(
    model: Any, opening: tuple[int, ...], rows: Iterable[Row], sampling: Sampling, finish: Finish, limits: Limits
) -> Iterator[Row]:
    """Every row, as it ends. `opening` is what the decoder begins with; `finish` says why a row ends, or nothing.

    The longest prompts come first: rows that are read together are alike, and memory runs out at once or never.
    """
    waiting = deque(sorted(rows, key=lambda row: -len(row.ids)))
    while waiting:
        slots = min(len(waiting), limits.slots(waiting[0].most))
        running = Running(model, opening, [waiting.popleft() for _ in range(slots)], sampling)
        while True:
            yield from running.end(finish)
            if not running.shrink():
                break
            running.step()


class Running:
    """Rows in slots, what the encoder made of their prompts, and the decoder's keys and values."""

    @torch.inference_mode()  # what is made in this mode can only be changed in it
    def __init__(self, model: Any, opening: tuple[int, ...], rows: list[Row], sampling: Sampling) -> None:
        """Reads the prompts, and chooses the first token of each reply."""
        self.rows = rows
        self._model, self._logprobs = model, sampling.logprobs
        self._chooser = Chooser([(row.ids, row.room, row.request.seed) for row in rows], sampling, model.device)
        ids = [torch.tensor(row.ids) for row in rows]
        self._mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(model.device)
        read = {"input_ids": pad_sequence(ids, batch_first=True).to(model.device), "attention_mask": self._mask}
        self._encoded: torch.Tensor = model.get_encoder()(**read).last_hidden_state
        self._cache: Any = None  # made by the model, which knows its kinds
        self._latest = self._forward(torch.tensor([opening] * len(rows), device=model.device))

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row."""
        self._latest = self._forward(self._latest)

    def end(self, finish: Finish) -> Iterator[Row]:
        """The rows that have ended with their latest token."""
        for row in self.rows:
            if not row.finish:
                row.finish = finish(row)
                if row.finish:
                    yield row

    @torch.inference_mode()
    def shrink(self) -> bool:
        """Go on without the rows that have ended, once they are many; whether any is left."""
        going = [slot for slot, row in enumerate(self.rows) if not row.finish]
        if going and (len(self.rows) - len(going)) * CARRIED >= len(self.rows):
            kept = torch.tensor(going, device=self._latest.device)
            self.rows = [self.rows[slot] for slot in going]
            self._latest, self._mask, self._encoded = self._latest[kept], self._mask[kept], self._encoded[kept]
            self._chooser.keep(going)
            self._cache.batch_select_indices(kept)
        return bool(going)

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The decoder reads token ids [slots, tokens]; the next ones [slots, 1], given to rows that have not ended."""
        context: Any = {"encoder_outputs": BaseModelOutput(self._encoded), "attention_mask": self._mask}  # pyright: ignore[reportArgumentType]
        output = self._model(decoder_input_ids=ids, **context, past_key_values=self._cache, use_cache=True)
        self._cache = output.past_key_values
        logits = output.logits[:, -1].float()
        return chosen(self._chooser, self.rows, logits, self._logprobs)
