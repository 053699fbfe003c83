"""Which of several servers gets the next request: the least busy one that is well.

The one rule: no server has more than `slots` requests in flight. One that fails repeatedly rests, ever longer, then
is tried with a single request; the others take over. Where all fail, all are tried: there is nobody to take over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reinstruct.served_http import Endpoint

FAILURES = 3  # in a row, before a server rests
FIRST_REST_S = 0.5
LONGEST_REST_S = 30.0


@dataclass(eq=False)
class Server:
    """One endpoint and how it has been doing. `rests_until` is on the fleet's clock."""

    endpoint: Endpoint
    in_flight: int = 0
    failures: int = 0
    rests_until: float = 0.0

    @property
    def is_well(self) -> bool:
        return self.failures < FAILURES


class Fleet:
    """All servers. `clock` gives seconds, as an event loop's does."""

    def __init__(self, endpoints: Sequence[Endpoint], slots: int, clock: Callable[[], float]) -> None:
        self.servers = [Server(endpoint) for endpoint in endpoints]
        self._slots = slots
        self._clock = clock

    def pick(self, avoid: Server | None = None) -> Server | None:
        """The server to ask next, `avoid` only if no other is free; None if all are busy or resting."""
        some_well = any(server.is_well for server in self.servers)
        free = [server for server in self.servers if self._has_room(server, some_well)]
        return min(free, key=lambda server: (server is avoid, server.in_flight), default=None)

    def succeeded(self, server: Server) -> None:
        server.failures = 0

    def failed(self, server: Server) -> float:
        """Note a failure; seconds the server now rests, 0 if it goes on."""
        server.failures += 1
        if server.is_well or server.rests_until > self._clock():
            return 0.0
        rest_s = min(FIRST_REST_S * 2 ** min(server.failures - FAILURES, 10), LONGEST_REST_S)
        server.rests_until = self._clock() + rest_s
        return rest_s

    def _has_room(self, server: Server, some_well: bool) -> bool:
        if server.is_well or not some_well:
            return server.in_flight < self._slots
        return server.in_flight == 0 and server.rests_until <= self._clock()
