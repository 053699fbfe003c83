"""Rows that a transformers model decodes together: one that ends makes room for the next, over one key-value cache.

The one rule: rows are aligned at their latest token, and a row attends to nothing but itself. So a slot may be given
to another row at any time, and a row's tokens are those it would get alone, up to float rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from reinstruct.decoding import Chooser, top_logprobs
from reinstruct.llm import Request, Sampling

SPARE = 64  # columns a cache has beyond those in use, so that it is not copied for each token
CARRIED = 8  # slots are filled when one in so many is free: reading one prompt takes nearly as long as reading a few

Finish = Callable[["Row"], str]


@dataclass
class Row:
    """One request on its way; `room` is how many tokens it may still get. `finish` says why it has ended."""

    request: Request
    ids: list[int]
    room: int
    new: list[int] = field(default_factory=list[int])
    finish: str = ""
    told: list[tuple[float, list[tuple[int, float]]]] = field(default_factory=list[Any])  # log probabilities, if asked

    @property
    def most(self) -> int:
        """Tokens of prompt and reply, at most."""
        return len(self.ids) + self.room


@dataclass(frozen=True)
class Limits:
    """What fits into memory: so many rows, and so many tokens of prompts and replies together."""

    rows: int
    tokens: int

    def slots(self, width: int) -> int:
        """How many rows of at most `width` tokens; one always, or nothing would be answered."""
        return max(1, min(self.rows, self.tokens // width))


def decode(
    model: Any, context: int, rows: Iterable[Row], sampling: Sampling, finish: Finish, limits: Limits
) -> Iterator[Row]:
    """Every row, as it ends. `finish` says why a row ends with its latest token; empty if it goes on.

    The longest prompts come first: if memory is too small, that shows at once, and no later row is wider.
    """
    waiting = deque(sorted(rows, key=lambda row: -len(row.ids)))
    running: Running | None = None
    while waiting or running:
        if running is None:
            running = Running(model, context, _taken(waiting, limits.slots(waiting[0].most)), sampling)
        else:
            running.step()
        yield from running.end(finish)
        while newcomers := _taken(waiting, running.free(limits)):
            joining = Running(model, context, newcomers, sampling)
            yield from joining.end(finish)
            running.seat(joining)
        running = running.shrunk()


def _taken(waiting: deque[Row], most: int) -> list[Row]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


class Running:
    """Rows in slots, and their keys and values, columns aligned at the right. `starts` are the rows' first columns."""

    @torch.inference_mode()  # what is made in this mode can only be changed in it
    def __init__(self, model: Any, context: int, rows: list[Row], sampling: Sampling) -> None:
        """Reads the prompts, and chooses the first token of each reply."""
        self.rows = rows
        self._model, self._context, self._logprobs = model, context, sampling.logprobs
        self._chooser = Chooser([(row.ids, row.room, row.request.seed) for row in rows], sampling, model.device)
        self._cache: Any = DynamicCache(config=model.config)
        self._roomy: list[Roomy] = []  # the cache's layers; none where they slide or recur, and no slot is filled anew
        if all(type(layer) is DynamicLayer for layer in self._cache.layers):
            self._roomy = self._cache.layers = [Roomy() for _ in self._cache.layers]
        self._width = 0
        longest = max(len(row.ids) for row in rows)
        self._starts = [longest - len(row.ids) for row in rows]
        padded = [[0] * start + row.ids for start, row in zip(self._starts, rows, strict=True)]
        self._latest = self._forward(torch.tensor(padded, device=model.device))

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row."""
        self._latest = self._forward(self._latest)

    def end(self, finish: Finish) -> Iterator[Row]:
        """The rows that have ended with their latest token."""
        for row in self._alive():
            row.finish = finish(row)
            if row.finish:
                yield row

    def free(self, limits: Limits) -> int:
        """How many rows may be seated now: none before it is worth it, and none once all have ended."""
        alive = self._alive()
        if not alive or not self._roomy:
            return 0
        slots = limits.slots(max(row.most for row in alive))
        free = slots - len(alive)
        return free if free * CARRIED >= slots else 0

    @torch.inference_mode()
    def seat(self, joining: Running) -> None:
        """Give free slots, and new ones if they are too few, to rows that are no longer than the longest here."""
        self._trim()
        free = [slot for slot, row in enumerate(self.rows) if row.finish]
        if (lacking := len(joining.rows) - len(free)) > 0:
            free += range(len(self.rows), len(self.rows) + lacking)
            self._keep([*range(len(self.rows)), *[0] * lacking])
        slots = free[: len(joining.rows)]
        for slot, row, start in zip(slots, joining.rows, joining._starts, strict=True):
            self.rows[slot] = row
            self._starts[slot] = start + self._width - joining._width
        self._latest[slots] = joining._latest
        self._chooser.seat(slots, joining._chooser)
        for layer, other in zip(self._roomy, joining._roomy, strict=True):
            layer.seat(slots, other)

    @torch.inference_mode()
    def shrunk(self) -> Running | None:
        """Itself without the rows that have ended, once they are many; None if all have."""
        going = [slot for slot, row in enumerate(self.rows) if not row.finish]
        if (len(self.rows) - len(going)) * CARRIED >= len(self.rows):
            self._keep(going)
        return self if going else None

    def _alive(self) -> list[Row]:
        return [row for row in self.rows if not row.finish]

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids [slots, tokens] are read; the next ones [slots, 1], which rows that have not ended are given."""
        self._width += ids.shape[1]
        columns = torch.arange(self._width, device=ids.device)
        starts = torch.tensor(self._starts, device=ids.device)[:, None]
        context: Any = {
            "attention_mask": (columns >= starts).long(),
            "position_ids": (columns[-ids.shape[1] :] - starts).clamp(0, self._context - 1),
            "past_key_values": self._cache,
        }
        logits = self._model(input_ids=ids, **context, use_cache=True, logits_to_keep=1).logits[:, -1].float()
        return chosen(self._chooser, self.rows, logits, self._logprobs)

    def _keep(self, slots: list[int]) -> None:
        """Go on with these slots alone; one that is named twice becomes two."""
        self.rows = [self.rows[slot] for slot in slots]
        self._starts = [self._starts[slot] for slot in slots]
        kept = torch.tensor(slots, dtype=torch.long, device=self._latest.device)
        self._latest = self._latest[kept]
        self._chooser.keep(slots)
        if slots:
            self._cache.batch_select_indices(kept)

    def _trim(self) -> None:
        """Forget the columns that no row needs."""
        unused = min(start for start, row in zip(self._starts, self.rows, strict=True) if not row.finish)
        self._width -= unused
        self._starts = [max(0, start - unused) for start in self._starts]
        for layer in self._roomy:
            layer.trim(unused)


def chosen(chooser: Chooser, rows: Sequence[Row], logits: torch.Tensor, logprobs: int) -> torch.Tensor:
    """The next tokens [rows, 1] by logits [rows, vocabulary]; rows that have not ended are given theirs."""
    latest = chooser.choose(logits)
    told = top_logprobs(logits, latest, logprobs) if logprobs else ()
    for slot, (row, token) in enumerate(zip(rows, latest[:, 0].tolist(), strict=True)):
        if not row.finish:
            row.new.append(token)
            row.told += told[slot : slot + 1]
    return latest


class Roomy(DynamicLayer):
    """Keys and values [slots, heads, columns, dimension] within tensors that have columns to spare."""

    def __init__(self) -> None:
        super().__init__()
        self._held: tuple[torch.Tensor, ...] = ()

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        used = self.get_seq_length()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._held = (key_states[:, :, :0], value_states[:, :, :0])
        width = used + key_states.shape[2]
        if width > self._held[0].shape[2]:
            self._held = tuple(_widened(held[:, :, :used], width + SPARE) for held in self._held)
        for held, states in zip(self._held, (key_states, value_states), strict=True):
            held[:, :, used:width] = states
        return self._show(width)

    def seat(self, slots: Sequence[int], other: Roomy) -> None:
        """Put another cache's rows into these slots, aligned at the right."""
        width, narrower = self.get_seq_length(), other.get_seq_length()
        for held, states in zip(self._held, other._held, strict=True):
            held[slots, :, width - narrower : width] = states[:, :, :narrower]

    def trim(self, unused: int) -> None:
        """Forget so many columns at the left."""
        width = self.get_seq_length() - unused
        self._held = tuple(held[:, :, unused:] for held in self._held)
        self._show(width)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        width = self.get_seq_length()
        self._held = tuple(held[indices] for held in self._held)
        self._show(width)

    def _show(self, width: int) -> tuple[Any, Any]:
        self.keys, self.values = (held[:, :, :width] for held in self._held)
        return self.keys, self.values


def _widened(held: torch.Tensor, width: int) -> torch.Tensor:
    """The same columns and empty ones behind them: zeros, since what is masked must be finite all the same."""
    slots, heads, columns, dimension = held.shape
    wide = held.new_zeros(slots, heads, width, dimension)
    wide[:, :, :columns] = held
    return wide
