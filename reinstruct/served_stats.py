"""What a model client has done so far: calls, retries by cause, tokens, and how full it kept its servers.

The one rule: counting costs a few additions per call and memory that does not grow with the number of calls.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LATENCY_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
SPANS = 120  # at most, in a timeline; when they are full, two become one
FIRST_SPAN_S = 1.0


@dataclass(frozen=True)
class Span:
    """A stretch of a client's time: how many calls were in flight on average, and how many replies came."""

    in_flight: float
    replies: int


@dataclass(frozen=True)
class ReplicaStats:
    """One server as its client sees it. `window` is how many calls it is thought to take at once; `guided` is false
    once it has refused to hold replies to a form (`Sampling.json_schema`, `regex`, `choice`).
    """

    name: str
    calls: int
    failures: int
    in_flight: int
    window: float
    resting: bool
    guided: bool = True


@dataclass(frozen=True)
class ClientStats:
    """Counts since the client was made. `calls` counts every try; `retries` maps causes such as "http_429" or
    "timed_out" to how many tries they ended.

    `latencies` maps upper bounds in seconds (the last is infinity) to how many replies took so long at most, and
    longer than the bound before; `latency_s` is their sum. `timeline` covers the client's busy time in equal spans of
    `span_s` seconds. Tokens are those of replies, as the servers tell them.
    """

    calls: int = 0
    replies: int = 0
    retries: Mapping[str, int] = field(default_factory=dict[str, int])
    in_flight: int = 0
    most_in_flight: int = 0
    mean_in_flight: float = 0.0
    busy_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    latencies: Mapping[float, int] = field(default_factory=dict[float, int])
    span_s: float = FIRST_SPAN_S
    timeline: tuple[Span, ...] = ()
    replicas: tuple[ReplicaStats, ...] = ()


class Timeline:
    """In-flight calls over time in at most `SPANS` spans. Time stands still while nothing is in flight."""

    def __init__(self) -> None:
        self.span_s = FIRST_SPAN_S
        self.busy_s = 0.0
        self._call_s: list[float] = []  # per span, the seconds its calls were in flight, summed
        self._replies: list[int] = []

    def spend(self, seconds: float, in_flight: int) -> None:
        """`seconds` passed with so many calls in flight."""
        while in_flight and seconds > 0:
            at = int(self.busy_s / self.span_s)
            while at >= SPANS:
                self._merge()
                at = int(self.busy_s / self.span_s)
            self._reach(at)
            # Rounding must not leave a remainder too small to move busy_s.
            part_s = min(seconds, max((at + 1) * self.span_s - self.busy_s, 1e-6))
            self._call_s[at] += part_s * in_flight
            self.busy_s += part_s
            seconds -= part_s

    def reply(self) -> None:
        self._reach(0)
        self._replies[-1] += 1

    def spans(self) -> tuple[Span, ...]:
        widths = [min(self.span_s, self.busy_s - at * self.span_s) for at in range(len(self._call_s))]
        spent = zip(self._call_s, self._replies, widths, strict=True)
        return tuple(Span(call_s / width if width > 0 else 0.0, replies) for call_s, replies, width in spent)

    def mean(self) -> float:
        return sum(self._call_s) / self.busy_s if self.busy_s else 0.0

    def _reach(self, at: int) -> None:
        while len(self._call_s) <= at:
            self._call_s.append(0.0)
            self._replies.append(0)

    def _merge(self) -> None:
        self._call_s = [sum(self._call_s[at : at + 2]) for at in range(0, len(self._call_s), 2)]
        self._replies = [sum(self._replies[at : at + 2]) for at in range(0, len(self._replies), 2)]
        self.span_s *= 2


class ClientCounters:
    """Written by a client while it works; `snapshot` may be called from any thread at any time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # several threads may use one client, and any thread may look
        self._changed_at = clock()
        self._calls = self._replies = self._in_flight = self._most = 0
        self._prompt_tokens = self._completion_tokens = 0
        self._latency_s = 0.0
        self._latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._retries: Counter[str] = Counter()
        self._timeline = Timeline()
        self.replicas: Callable[[], tuple[ReplicaStats, ...]] = tuple  # set by whoever knows the servers

    def began(self) -> float:
        """A call is sent; the time, to be given back when it has ended."""
        with self._lock:
            now = self._pass_time()
            self._calls += 1
            self._in_flight += 1
            self._most = max(self._most, self._in_flight)
            return now

    def ended(self) -> None:
        """A call is no longer in flight, however it ended."""
        with self._lock:
            self._pass_time()
            self._in_flight -= 1

    def replied(self, began: float, prompt_tokens: int, completion_tokens: int) -> float:
        """A call was answered; seconds it took."""
        took_s = self._clock() - began
        with self._lock:
            self._replies += 1
            self._latency_s += took_s
            self._latencies[bisect_left(LATENCY_BOUNDS_S, took_s)] += 1
            self._prompt_tokens += prompt_tokens
            self._completion_tokens += completion_tokens
            self._timeline.reply()
        return took_s

    def failed(self, cause: str) -> None:
        with self._lock:
            self._retries[cause] += 1

    def snapshot(self) -> ClientStats:
        """What was counted up to now."""
        replicas = self.replicas()
        with self._lock:
            return ClientStats(
                calls=self._calls,
                replies=self._replies,
                retries=dict(self._retries),
                in_flight=self._in_flight,
                most_in_flight=self._most,
                mean_in_flight=self._timeline.mean(),
                busy_s=self._timeline.busy_s,
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
                latency_s=self._latency_s,
                latencies=dict(zip((*LATENCY_BOUNDS_S, float("inf")), self._latencies, strict=True)),
                span_s=self._timeline.span_s,
                timeline=self._timeline.spans(),
                replicas=replicas,
            )

    def _pass_time(self) -> float:
        now = self._clock()
        self._timeline.spend(now - self._changed_at, self._in_flight)
        self._changed_at = now
        return now
