"""The order of asking: requests that begin alike go together, so that a prefix cache still holds what they share.

The rule: only the order changes, and it depends on the requests alone. Each keeps its position and seed, and windows
are cut by position, so a shard that is taken up again asks what is left in the order of the first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from reinstruct.llm import LLM, Batch, Request, Sampling

WINDOW = 1024  # positions; bounds the prompts held in memory and the rows that wait for an earlier one's reply


@dataclass
class ByPrefix:
    """Another `LLM`, asked in this order."""

    llm: LLM
    window: int = WINDOW

    @property
    def stats(self) -> Any:
        """What the other counts of its calls; None if it counts nothing."""
        return getattr(self.llm, "stats", None)

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Batch]:
        return self.llm.complete(by_prefix(requests, self.window), sampling)


def by_prefix(requests: Iterable[Request], window: int) -> Iterator[Request]:
    """The requests, those of each `window` positions sorted by prompt: the longer two agree, the nearer they are."""
    for _, near in groupby(requests, key=lambda request: request.position // window):
        yield from sorted(near, key=lambda request: (_turns(request), request.position))


def _turns(request: Request) -> tuple[str, ...]:
    if isinstance(request.prompt, str):
        return (request.prompt,)
    return tuple(part for message in request.prompt for part in (message.role, message.content))
