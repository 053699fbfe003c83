"""What asking a model took: calls, tokens, retries, why replies ended, and how full its servers were kept.

The one rule: what was asked now and what was found kept are told apart, because only the first costs anything.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from reinstruct.llm import Reply
from reinstruct.server_metrics import TIMEOUT_S, ServerUse, ServerWatch, together

POINTS = 120  # at most; when they are full, every second one goes
FIRST_INTERVAL_S = 0.5
SCRAPE_S = 10.0


class Point(Struct, array_like=True):
    """A moment: seconds since the first question, calls in flight, and replies and new tokens up to then."""

    seconds: float
    in_flight: int
    replies: int
    tokens: int


class Usage(Struct, kw_only=True, omit_defaults=True):
    """What one shard, or all of a step, asked of a model.

    `asked` replies came from the model and `found` ones from the log; tokens are those of the replies asked for now.
    `calls` counts every try, `retries` by cause those that failed. `seconds` is the time in which anything was asked,
    `began` when that was (UTC, seconds since 1970). `finish` counts why replies ended, found ones included.
    """

    model: str = ""
    asked: int = 0
    found: int = 0
    calls: int = 0
    retries: dict[str, int] = field(default_factory=dict[str, int])
    finish: dict[str, int] = field(default_factory=dict[str, int])
    prompt_tokens: int = 0
    completion_tokens: int = 0
    began: float = 0.0
    seconds: float = 0.0
    points: list[Point] = field(default_factory=list[Point])
    server: ServerUse | None = None

    @property
    def replies(self) -> int:
        return self.asked + self.found

    @property
    def tokens_per_s(self) -> float | None:
        """New tokens a second; None where nothing was asked."""
        return self.completion_tokens / self.seconds if self.seconds and self.completion_tokens else None


class Replica(Protocol):
    """One server of a client; `name` is its address up to and with /v1."""

    @property
    def name(self) -> str: ...


class Counts(Protocol):
    """What a client has counted since it was made."""

    @property
    def calls(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def retries(self) -> Mapping[str, int]: ...
    @property
    def replicas(self) -> Sequence[Replica]: ...


class Counter(Protocol):
    def snapshot(self) -> Counts: ...


@runtime_checkable
class Counting(Protocol):
    """A model client that counts its calls, as `Served` does."""

    @property
    def stats(self) -> Counter: ...


class Meter:
    """Counts while a shard is at work. `llm` is asked for its own counts where it keeps any."""

    def __init__(self, model: str = "", llm: object = None, clock: Callable[[], float] = time.time) -> None:
        self._usage = Usage(model=model)
        self._client = llm.stats if isinstance(llm, Counting) else None
        self._before = self._client.snapshot() if self._client else None
        self._clock = clock
        self._handed = 0
        self._last = 0.0
        self._interval_s = FIRST_INTERVAL_S

    def handed(self) -> None:
        """A question goes to the model."""
        if not self._handed:
            self._usage.began = self._clock()
        self._handed += 1

    def answered(self, reply: Reply) -> None:
        self._last = self._clock()
        self._usage.asked += 1
        self._usage.prompt_tokens += reply.prompt_tokens
        self._usage.completion_tokens += reply.completion_tokens
        self._finished(reply)

    def found(self, reply: Reply) -> None:
        """A reply was in the log."""
        self._usage.found += 1
        self._finished(reply)

    def sample(self, *, last: bool = False) -> None:
        """Note a point, if it is time for one or it is the last."""
        usage = self._usage
        seconds = self._clock() - usage.began
        due = usage.points[-1].seconds + self._interval_s * 0.9 if usage.points else 0.0
        if not self._handed or (seconds < due and not last):
            return
        usage.points.append(Point(round(seconds, 2), self.in_flight, usage.asked, usage.completion_tokens))
        if len(usage.points) == POINTS:
            usage.points = usage.points[::2]
            self._interval_s *= 2

    @property
    def at_work(self) -> bool:
        """Whether there is a model to be asked."""
        return bool(self._usage.model)

    @property
    def in_flight(self) -> int:
        """Calls that wait for their reply; of a model that does not count, questions it was handed."""
        return self._client.snapshot().in_flight if self._client else self._handed - self._usage.asked

    def servers(self) -> list[str]:
        """Addresses of the servers that are asked."""
        return [replica.name for replica in self._client.snapshot().replicas] if self._client else []

    def usage(self, server: ServerUse | None = None) -> Usage:
        """The counts up to now."""
        usage, usage.server = self._usage, server
        usage.seconds = round(max(0.0, self._last - usage.began), 3) if self._handed else 0.0
        usage.calls = usage.asked
        if self._client and self._before:
            counts, before = self._client.snapshot(), self._before
            usage.calls = counts.calls - before.calls
            retries = {cause: n - before.retries.get(cause, 0) for cause, n in counts.retries.items()}
            usage.retries = {cause: n for cause, n in retries.items() if n}
        return usage

    def _finished(self, reply: Reply) -> None:
        self._usage.finish[reply.finish] = self._usage.finish.get(reply.finish, 0) + 1


class Recorder:
    """While it is open, a thread notes points and now and then reads the servers' own metrics."""

    def __init__(self, meter: Meter, interval_s: float = FIRST_INTERVAL_S) -> None:
        self._meter, self._interval_s = meter, interval_s
        self._watch = ServerWatch()
        self._over = Event()
        self._thread = Thread(target=self._run, name="usage", daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._over.set()
        self._thread.join(TIMEOUT_S)  # it may be waiting for a server that says nothing
        self._meter.sample(last=True)

    def usage(self) -> Usage:
        """What the meter counted, with what the servers told."""
        return self._meter.usage(self._watch.seen())

    def _run(self) -> None:
        scrape_at = time.monotonic()
        while not self._over.wait(self._interval_s):
            self._meter.sample()
            if time.monotonic() >= scrape_at:
                self._watch.look(self._meter.servers())
                scrape_at = time.monotonic() + SCRAPE_S


def summed(usages: Sequence[Usage]) -> Usage | None:
    """The usage of a step from that of its shards, which may have been at work together; None of none."""
    if not usages:
        return None
    total = Usage(model=usages[0].model)
    for usage in usages:
        for name in ("asked", "found", "calls", "prompt_tokens", "completion_tokens"):
            setattr(total, name, getattr(total, name) + getattr(usage, name))
        for into, counts in ((total.retries, usage.retries), (total.finish, usage.finish)):
            for what, n in counts.items():
                into[what] = into.get(what, 0) + n
    worked = [usage for usage in usages if usage.began]
    total.began = min((usage.began for usage in worked), default=0.0)
    total.seconds = round(_covered([(usage.began, usage.began + usage.seconds) for usage in worked]), 3)
    total.points = _summed_points(worked, total.began)
    total.server = together([usage.server for usage in usages if usage.server])
    return total


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of the spans."""
    covered = reached = 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _summed_points(usages: Sequence[Usage], began: float) -> list[Point]:
    """Points of several shards on one clock, a hundred and twenty at most."""
    end = max((usage.began + usage.points[-1].seconds for usage in usages if usage.points), default=began)
    if end <= began:
        return []
    count = min(POINTS, max(len(usage.points) for usage in usages if usage.points) * 2)
    moments = [began + (end - began) * number / (count - 1) for number in range(count)] if count > 1 else []
    return [Point(round(moment - began, 2), *_all_at(usages, moment)) for moment in moments]


def _all_at(usages: Sequence[Usage], moment: float) -> tuple[int, int, int]:
    told = [_at(usage, moment) for usage in usages]
    return sum(at[0] for at in told), sum(at[1] for at in told), sum(at[2] for at in told)


def _at(usage: Usage, moment: float) -> tuple[int, int, int]:
    """In flight, replies and tokens of a shard at a moment; in flight is 0 before it began and after it ended."""
    seconds = moment - usage.began
    passed = bisect_right(usage.points, seconds + 0.01, key=lambda point: point.seconds)  # as they were rounded
    if not passed:
        return 0, 0, 0
    point = usage.points[passed - 1]
    over = seconds > usage.points[-1].seconds + 0.01
    return 0 if over else point.in_flight, point.replies, point.tokens
