"""The next token of each row of a batch, from its logits: penalties, temperature, and the tokens to draw among.

The one rule: a row draws from its own generator, so its tokens do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from reinstruct.llm import Sampling

if TYPE_CHECKING:
    import torch

NUCLEUS = 256  # most likely tokens tried first for top_p; sorting a whole vocabulary costs more than a small model


class Chooser:
    """Picks each row's next token, for rows of (prompt ids, most new tokens, seed)."""

    def __init__(self, rows: Sequence[tuple[list[int], int, int]], sampling: Sampling, device: Any) -> None:
        self._sampling, self._device = sampling, device
        self._prompts = [ids for ids, _, _ in rows]
        self._draws = [_draws(room, seed) for _, room, seed in rows] if sampling.temperature > 0 else []
        self._seen: torch.Tensor | None = None  # [rows, vocabulary]: tokens of prompt and reply
        self._said: torch.Tensor | None = None  # [rows, vocabulary]: how often in the reply

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self._draws = [self._draws[row] for row in rows] if self._draws else []
        self._seen = None if self._seen is None else self._seen[rows]
        self._said = None if self._said is None else self._said[rows]

    def seat(self, rows: Sequence[int], other: Chooser) -> None:
        """Put another chooser's rows in the place of these. Both have chosen before."""
        for row, draws in zip(rows, other._draws, strict=False):  # greedy: none
            self._draws[row] = draws
        if self._seen is not None and other._seen is not None:
            self._seen[rows] = other._seen
        if self._said is not None and other._said is not None:
            self._said[rows] = other._said

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """Next token ids [rows, 1] from logits [rows, vocabulary]."""
        sampling = self._sampling
        if sampling.repetition_penalty != 1.0:
            logits = self._penalised(logits)
        if sampling.presence_penalty or sampling.frequency_penalty:
            logits = self._discouraged(logits)
        if self._draws:
            chances = _likeliest((logits / sampling.temperature).softmax(-1), sampling.top_k, sampling.min_p)
            chosen = _draw(chances, sampling.top_p, self._drawn())
        else:
            chosen = logits.argmax(-1, keepdim=True)
        if self._seen is not None:
            self._seen.scatter_(1, chosen, True)
        if self._said is not None:
            self._said.scatter_add_(1, chosen, self._said.new_ones(chosen.shape))
        return chosen

    def _drawn(self) -> torch.Tensor:
        """The next uniform number [rows, 1] of each row; 0 for rows that have had theirs."""
        import torch

        return torch.tensor([[next(draws, 0.0)] for draws in self._draws], device=self._device)

    def _discouraged(self, logits: torch.Tensor) -> torch.Tensor:
        """OpenAI's penalties: subtracted once for a token the reply has, and once for each time it has it."""
        if self._said is None:
            self._said = logits.new_zeros(logits.shape)
        once = self._sampling.presence_penalty * (self._said > 0)
        return logits - once - self._sampling.frequency_penalty * self._said

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        """Keskar et al. 2019, as in vLLM and transformers: tokens seen lose, whatever the sign of their logit."""
        import torch

        if self._seen is None:
            self._seen = logits.new_zeros(logits.shape, dtype=torch.bool)
            for row, ids in enumerate(self._prompts):
                self._seen[row, ids] = True
        penalty = self._sampling.repetition_penalty
        return logits.where(~self._seen, (logits / penalty).where(logits > 0, logits * penalty))


def _draws(most: int, seed: int) -> Iterator[float]:
    """So many uniform numbers from a generator of their own."""
    import torch

    return iter(torch.rand(most, generator=torch.Generator().manual_seed(seed % 2**63)).tolist())


def top_logprobs(logits: torch.Tensor, chosen: torch.Tensor, n: int) -> list[tuple[float, list[tuple[int, float]]]]:
    """Per row of logits [rows, vocabulary]: the log probability of the one chosen [rows, 1], and the `n` likeliest."""
    logprobs = logits.log_softmax(-1)
    values, ids = logprobs.topk(min(n, logprobs.shape[-1]))
    taken: list[float] = logprobs.gather(1, chosen)[:, 0].tolist()
    tops = [list(zip(row_ids, row, strict=True)) for row_ids, row in zip(ids.tolist(), values.tolist(), strict=True)]
    return list(zip(taken, tops, strict=True))


def _likeliest(chances: torch.Tensor, top_k: int, min_p: float) -> torch.Tensor:
    """Chances [rows, vocabulary] that sum to 1: none beyond the `top_k` likeliest, none below `min_p` of the first."""
    least = chances.new_zeros(chances.shape[0], 1)
    if 0 < top_k < chances.shape[-1]:
        least = chances.topk(top_k).values[:, -1:]
    if min_p:
        least = least.maximum(chances.amax(-1, keepdim=True) * min_p)
    if not (top_k or min_p):
        return chances
    kept = chances.masked_fill(chances < least, 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _draw(chances: torch.Tensor, top_p: float, drawn: torch.Tensor) -> torch.Tensor:
    """A token per row by inverting the cumulated chances of its nucleus (Holtzman et al. 2020) at `drawn`."""
    order = None
    if top_p < 1:
        top, order = chances.topk(min(NUCLEUS, chances.shape[-1]))
        if bool((top.sum(-1) < top_p).any()):
            top, order = chances.sort(dim=-1, descending=True, stable=True)
        before = top.cumsum(-1) - top
        chances = top.masked_fill(before >= top_p, 0.0)
    cumulated = chances.cumsum(-1)
    # The last possible token is the first to reach the whole sum; rounding must not lead beyond it.
    last = (cumulated >= cumulated[:, -1:]).int().argmax(-1, keepdim=True)
    at = (cumulated <= drawn * cumulated[:, -1:]).sum(-1, keepdim=True).minimum(last)
    return at if order is None else order.gather(1, at)
