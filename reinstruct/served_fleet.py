"""Which of several servers gets the next request: the least busy one that is well.

The one rule: no server has more requests in flight than its window allows. One that fails repeatedly rests, ever
longer, then is tried with a single request; the others take over. Where all fail, all are tried: there is nobody to
take over. Servers may join and leave at any time; one that leaves gets no more and finishes what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reinstruct.served_http import Endpoint
from reinstruct.served_stats import ReplicaStats
from reinstruct.served_window import Window

FAILURES = 5  # in a row, before a server rests
FIRST_REST_S = 0.5
LONGEST_REST_S = 30.0
QUEUED = 0.25  # a reply that takes more than this share of its timeout waited in a queue that should not grow


@dataclass(eq=False)
class Server:
    """One endpoint and how it has been doing. `rests_until` is on the fleet's clock."""

    endpoint: Endpoint
    window: Window
    in_flight: int = 0
    calls: int = 0
    failed: int = 0
    failures: int = 0  # since its latest reply
    rests_until: float = 0.0
    silent_until: float = 0.0  # it has said when to come back, and turned away all that came before
    leaving: bool = False

    @property
    def is_well(self) -> bool:
        return self.failures < FAILURES


class Fleet:
    """All servers of one client. `clock` gives seconds, as an event loop's does."""

    def __init__(self, most: int, timeout_s: float, clock: Callable[[], float]) -> None:
        self.servers: list[Server] = []
        self._most = most
        self._patient_s = timeout_s * QUEUED
        self._clock = clock

    def join(self, endpoints: Iterable[Endpoint]) -> None:
        self.servers += [Server(endpoint, Window(self._most, self._patient_s)) for endpoint in endpoints]

    def leave(self, urls: Iterable[str]) -> list[Server]:
        """Servers at these addresses get no more; what they have in flight goes on."""
        gone = [server for server in self.servers if server.endpoint.base in set(urls)]
        for server in gone:
            server.leaving = True
        self.servers = [server for server in self.servers if not server.leaving]
        return gone

    def pick(self, avoid: Server | None = None) -> Server | None:
        """The server to ask next, `avoid` only if no other is free; None if all are busy or resting."""
        some_well = self.some_well()
        free = [server for server in self.servers if self._has_room(server, some_well)]
        return min(free, key=lambda server: (server is avoid, server.in_flight / server.window.size), default=None)

    def some_well(self) -> bool:
        return any(server.is_well for server in self.servers)

    def succeeded(self, server: Server) -> None:
        server.failures = 0

    def failed(self, server: Server, wait_s: float = 0.0) -> float:
        """Note a failure, after which the server wished for `wait_s`; seconds it now rests, 0 if it goes on."""
        server.failed += 1
        server.failures += 1
        if server.is_well or server.rests_until > self._clock():
            return 0.0
        rest_s = max(wait_s, min(FIRST_REST_S * 2 ** min(server.failures - FAILURES, 10), LONGEST_REST_S))
        server.rests_until = self._clock() + rest_s
        server.silent_until = self._clock() + wait_s
        return rest_s

    def stats(self) -> tuple[ReplicaStats, ...]:
        now = self._clock()
        return tuple(
            ReplicaStats(
                name=server.endpoint.name,
                calls=server.calls,
                failures=server.failed,
                in_flight=server.in_flight,
                window=server.window.size,
                resting=not server.is_well and server.rests_until > now,
                guided=server.endpoint.is_guided,
            )
            for server in list(self.servers)
        )

    def _has_room(self, server: Server, some_well: bool) -> bool:
        if server.is_well:
            return server.window.has_room(server.in_flight)
        if some_well:
            return server.in_flight == 0 and server.rests_until <= self._clock()
        return server.silent_until <= self._clock() and server.window.has_room(server.in_flight)
