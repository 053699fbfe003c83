"""What a worker is doing, for Prometheus: off unless a port is given.

    python -m reinstruct.container ask ... --metrics-port 9100
    REINSTRUCT_METRICS_PORT=127.0.0.1:9100

The one rule: nothing is counted here. A scrape reads what the shard counts anyway, so it costs nothing in between.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reinstruct.errors import expect
from reinstruct.worker import Progress

ENVIRONMENT = "REINSTRUCT_METRICS_PORT"
LABELS = ("step", "shard")


def serve_metrics(given: str, progress: Progress) -> None:
    """Answer scrapes at a port, of all interfaces or of HOST:PORT, for as long as the process lives.

    RecipeError for what is no port. A port that is taken is told on standard error and nothing more: on a laptop
    several workers share a machine, and the first is the one that is watched.
    """
    host, _, port = given.rpartition(":")
    expect(port.isdecimal() and 0 < int(port) < 65536, ENVIRONMENT, given, "PORT or HOST:PORT, such as 9100")
    registry = CollectorRegistry()
    registry.register(ShardCollector(progress))
    try:
        start_http_server(int(port), host or "0.0.0.0", registry)
    except OSError as error:
        print(f"no metrics at {given}: {error.strerror}", file=sys.stderr, flush=True)


class ShardCollector(Collector):
    """The shard a process is at work on, in Prometheus' terms."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collect(self) -> Iterator[Metric]:
        """Nothing before a shard is begun."""
        progress = self._progress
        if progress.step:
            yield from _rows(progress)
            if progress.meter.at_work:
                yield from _asking(progress)


def _rows(progress: Progress) -> Iterator[Metric]:
    labels = _labels(progress)
    yield _one(GaugeMetricFamily, "rows_expected", "Rows of the shard; 0 while unknown.", labels, progress.total)
    rejected = {(c.stage, reason): n for c in list(progress.counts) for reason, n in dict(c.rejected).items()}
    yield _each("rows_read", "Rows read.", labels, ("stage",), {(c.stage,): c.read for c in list(progress.counts)})
    yield _each("rows_rejected", "Rows rejected.", labels, ("stage", "reason"), rejected)
    unreadable = {(c.stage,): c.unreadable for c in list(progress.counts)}
    yield _each("replies_unreadable", "Replies that could not be parsed at all.", labels, ("stage",), unreadable)


def _asking(progress: Progress) -> Iterator[Metric]:
    labels, usage = _labels(progress), progress.meter.usage()
    in_flight = progress.meter.in_flight
    yield _one(GaugeMetricFamily, "calls_in_flight", "Calls that wait for their reply.", labels, in_flight)
    yield _one(CounterMetricFamily, "calls", "Calls to the model, failed ones included.", labels, usage.calls)
    replies = {("model",): usage.asked, ("log",): usage.found}
    yield _each("replies", "Replies, from the model or found in the log.", labels, ("origin",), replies)
    tokens = {("prompt",): usage.prompt_tokens, ("completion",): usage.completion_tokens}
    yield _each("tokens", "Tokens of the replies asked for.", labels, ("kind",), tokens)
    retries = {(cause,): n for cause, n in usage.retries.items()}
    yield _each("retries", "Calls that failed, by cause.", labels, ("cause",), retries)
    finish = {(reason,): n for reason, n in dict(usage.finish).items()}
    yield _each("finishes", "Replies by why they ended.", labels, ("reason",), finish)


def _labels(progress: Progress) -> tuple[str, str]:
    return progress.step, str(progress.shard)


def _one(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, told: str, labels: Iterable[str], value: float
) -> Metric:
    family = kind(f"reinstruct_{name}", told, labels=LABELS)
    family.add_metric(list(labels), value)
    return family


def _each(
    name: str, told: str, labels: Iterable[str], more: tuple[str, ...], values: Mapping[tuple[str, ...], float]
) -> Metric:
    family = CounterMetricFamily(f"reinstruct_{name}", told, labels=(*LABELS, *more))
    for label, value in values.items():
        family.add_metric([*labels, *label], value)
    return family
