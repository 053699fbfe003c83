"""The next token of each row of a batch, from its logits: penalties, temperature, and the tokens to draw among.

The one rule: a row draws from its own generator, so its tokens do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reinstruct.llm import Sampling

if TYPE_CHECKING:
    import torch

NUCLEUS = 256  # most likely tokens tried first for top_p; sorting a whole vocabulary costs more than a small model


@dataclass
class Chooser:
    """Picks each row's next token. `drawn` [rows, steps] are uniform numbers from each row's own generator."""

    sampling: Sampling
    drawn: torch.Tensor | None
    prompts: list[list[int]]
    seen: torch.Tensor | None = None  # [rows, vocabulary]: tokens of prompt and reply, for the repetition penalty
    said: torch.Tensor | None = None  # [rows, vocabulary]: how often in the reply, for the other penalties

    @classmethod
    def of(cls, rows: Sequence[tuple[list[int], int, int]], sampling: Sampling, device: Any) -> Chooser:
        """For rows of (prompt ids, most new tokens, seed)."""
        import torch

        drawn = None
        if sampling.temperature > 0:
            generators = [torch.Generator().manual_seed(seed % 2**63) for _, _, seed in rows]
            draws = [torch.rand(room, generator=own) for (_, room, _), own in zip(rows, generators, strict=True)]
            drawn = torch.nn.utils.rnn.pad_sequence(draws, batch_first=True).to(device)
        return cls(sampling, drawn, [ids for ids, _, _ in rows])

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""
        self.drawn = None if self.drawn is None else self.drawn[rows]
        self.seen = None if self.seen is None else self.seen[rows]
        self.said = None if self.said is None else self.said[rows]

    def choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Next token ids [rows, 1] from logits [rows, vocabulary]."""
        sampling = self.sampling
        if sampling.repetition_penalty != 1.0:
            logits = self._penalised(logits)
        if sampling.presence_penalty or sampling.frequency_penalty:
            logits = self._discouraged(logits)
        if self.drawn is None:
            chosen = logits.argmax(-1, keepdim=True)
        else:
            chances = _likeliest((logits / sampling.temperature).softmax(-1), sampling.top_k, sampling.min_p)
            chosen = _draw(chances, sampling.top_p, self.drawn[:, step : step + 1])
        if self.seen is not None:
            self.seen.scatter_(1, chosen, True)
        if self.said is not None:
            self.said.scatter_add_(1, chosen, self.said.new_ones(chosen.shape))
        return chosen

    def _discouraged(self, logits: torch.Tensor) -> torch.Tensor:
        """OpenAI's penalties: subtracted once for a token the reply has, and once for each time it has it."""
        if self.said is None:
            self.said = logits.new_zeros(logits.shape)
        once = self.sampling.presence_penalty * (self.said > 0)
        return logits - once - self.sampling.frequency_penalty * self.said

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        """Keskar et al. 2019, as in vLLM and transformers: tokens seen lose, whatever the sign of their logit."""
        import torch

        if self.seen is None:
            self.seen = logits.new_zeros(logits.shape, dtype=torch.bool)
            for row, ids in enumerate(self.prompts):
                self.seen[row, ids] = True
        penalty = self.sampling.repetition_penalty
        return logits.where(~self.seen, (logits / penalty).where(logits > 0, logits * penalty))


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
