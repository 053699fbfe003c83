"""What one `complete()` of the model client is held on, and how long it pauses before it tries again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from reinstruct.served_addresses import Address
from reinstruct.served_http import Endpoint
from reinstruct.served_protocol import Blame, TryAgain

LONGEST_BACKOFF_S = 30.0
BUSY_DOUBLINGS = 3  # a request that is turned away waits no longer than after so many: the window does the rest


@dataclass(frozen=True)
class Terms:
    """What a talk is held on: the settings of `Served`, and how to find, open and question servers.

    `resolve_s` 0: addresses are looked up once.
    """

    model: str
    max_in_flight: int
    servers: int
    timeout_s: float
    retries: int
    backoff_s: float
    patience_s: float
    request_deadline_s: float
    deadline_s: float
    resolve_s: float
    find: Callable[[], Awaitable[list[Address]]]
    open: Callable[[Address], Endpoint]
    settle: Callable[[Sequence[Endpoint], str], Awaitable[str]]


def backoff_s(first_s: float, key: str, tries: int) -> float:
    """Doubling pauses, each cut by up to a half, by chance but the same for the same request."""
    pause_s = min(first_s * 2 ** min(tries, 20), LONGEST_BACKOFF_S)
    return pause_s * random.Random(f"{key}/{tries}").uniform(0.5, 1.0)


def pause_before_retry_s(first_s: float, key: str, pauses: int, error: TryAgain) -> float:
    """Seconds until a request that has paused so often is tried again."""
    own_s = backoff_s(first_s, key, min(pauses, BUSY_DOUBLINGS) if error.blame is Blame.BUSY else pauses)
    # What the server asks for is enough; a little more keeps those it turned away together from coming together.
    return error.wait_s + min(own_s, error.wait_s) / 10 if error.wait_s else own_s
