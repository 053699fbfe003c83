"""What a model server tells of itself: vLLM's metrics, in Prometheus' text form.

The one rule: a server that tells nothing is left in peace, and nothing here can make a shard fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

TIMEOUT_S = 2.0
MOST_SERVERS = 32  # that are looked at
# Our name -> vLLM's, newest first (0.9 to 0.20), without the `_total` that counters end in.
NAMES = {
    "running": ("vllm:num_requests_running",),
    "waiting": ("vllm:num_requests_waiting",),
    "cache": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    "prefix_hits": ("vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits"),
    "prefix_queries": ("vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries"),
    "tokens": ("vllm:generation_tokens",),
    "preemptions": ("vllm:num_preemptions",),
}
COUNTERS = ("prefix_hits", "prefix_queries", "tokens", "preemptions")


class ServerUse(Struct, omit_defaults=True):
    """What servers told over `looks` looks: means and maxima over time of requests running and waiting on all of
    them, of the fullest one's key-value cache (a share); and counters' growth in the `seconds` between the first look
    and the last.

    The counters are the servers', so whatever else they did in that time is in them; and shards that were at work
    together have seen the same growth. So only ratios are told: hits per query, tokens a second.
    """

    looks: int = 0
    seconds: float = 0.0
    running: float = 0.0
    waiting: float = 0.0
    most_waiting: int = 0
    cache: float = 0.0
    fullest_cache: float = 0.0
    prefix_hits: int = 0
    prefix_queries: int = 0
    tokens: int = 0
    preemptions: int = 0

    @property
    def prefix_hit_rate(self) -> float | None:
        return self.prefix_hits / self.prefix_queries if self.prefix_queries else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.tokens / self.seconds if self.seconds else None


class ServerWatch:
    """Looks at servers from time to time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._ended = 0.0
        self._silent: set[str] = set()
        self._looks: list[Mapping[str, float]] = []
        self._first: dict[str, dict[str, float]] = {}
        self._growth: dict[str, dict[str, float]] = {}

    def look(self, servers: Sequence[str]) -> None:
        """Read the metrics of servers, given as addresses with or without /v1. One that has none is not asked again."""
        found: dict[str, dict[str, float]] = {}
        for server in servers[:MOST_SERVERS]:
            if server in self._silent:
                continue
            values = read_metrics(fetched(server.rstrip("/").removesuffix("/v1") + "/metrics"))
            if values:
                found[server] = values
            elif server not in self._first:
                self._silent.add(server)
        for server, values in found.items():
            first = self._first.setdefault(server, values)
            self._growth[server] = {name: max(0.0, values.get(name, 0) - first.get(name, 0)) for name in COUNTERS}
        if found:
            self._ended = self._clock()
            self._began = self._began or self._ended
            told = list(found.values())
            sums = {name: sum(values.get(name, 0.0) for values in told) for name in ("running", "waiting")}
            self._looks.append({**sums, "cache": max(values.get("cache", 0.0) for values in told)})

    def seen(self) -> ServerUse | None:
        """The sum of it; None where no server told anything."""
        looks = len(self._looks)
        if not looks:
            return None
        mean = {name: sum(look[name] for look in self._looks) / looks for name in ("running", "waiting", "cache")}
        growth = {name: int(sum(grown[name] for grown in self._growth.values())) for name in COUNTERS}
        return ServerUse(
            looks,
            round(self._ended - self._began, 2),
            round(mean["running"], 2),
            round(mean["waiting"], 2),
            int(max(look["waiting"] for look in self._looks)),
            round(mean["cache"], 4),
            round(max(look["cache"] for look in self._looks), 4),
            **growth,
        )


def together(uses: Sequence[ServerUse]) -> ServerUse | None:
    """What several shards saw of the same servers: means of their means, the largest of their maxima."""
    if not uses:
        return None
    looks = sum(use.looks for use in uses)

    def mean(name: str) -> float:
        return round(sum(getattr(use, name) * use.looks for use in uses) / looks, 4)

    merged = {name: max(getattr(use, name) for use in uses) for name in ("most_waiting", "fullest_cache")}
    merged |= {name: sum(getattr(use, name) for use in uses) for name in ("seconds", *COUNTERS)}
    return ServerUse(looks=looks, running=mean("running"), waiting=mean("waiting"), cache=mean("cache"), **merged)


def fetched(url: str) -> str:
    """A page of metrics; nothing where there is none to be had."""
    import http.client  # 1 MB that most workers do not need
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a model server is never behind a proxy
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return answer.read(8 << 20).decode(errors="replace")
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError):
        return ""


def read_metrics(text: str) -> dict[str, float]:
    """Our names and values: sums over a server's engines, of the cache the fullest. Empty for what is not vLLM's."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, float] = {}
    ours = {theirs: name for name, names in NAMES.items() for theirs in names}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = ours.get(sample.name.removesuffix("_total"))
                if name == "cache":
                    found[name] = max(found.get(name, 0.0), sample.value)
                elif name:
                    found[name] = found.get(name, 0.0) + sample.value
    except ValueError:  # not in the form of Prometheus
        return {}
    return found
