"""Which server is asked next, and how many requests one server gets at once."""

from __future__ import annotations

from reinstruct.served_fleet import FAILURES, Fleet
from reinstruct.served_window import FIRST, Window


class Named:
    """All that a fleet asks of an endpoint."""

    def __init__(self, name):
        self.base = self.name = name
        self.is_guided = True


def fleet_of(names, most=4, clock=lambda: 0.0) -> Fleet:
    fleet = Fleet(most, 600, clock)
    fleet.join([Named(name) for name in names])
    return fleet


def test_a_failing_server_rests_and_is_then_tried_with_one_request():
    now = [0.0]
    fleet = fleet_of("ab", 4, lambda: now[0])
    ill, well = fleet.servers
    rests = [fleet.failed(ill) for _ in range(FAILURES)]
    assert not any(rests[:-1])
    assert rests[-1] > 0
    assert fleet.pick() is well
    now[0] = rests[-1]
    well.in_flight = 1
    assert fleet.pick() is ill
    ill.in_flight = 1
    assert fleet.pick() is well
    well.in_flight = 4
    assert fleet.pick() is None
    fleet.succeeded(ill)
    assert fleet.pick() is ill
    assert fleet.pick(avoid=ill) is ill


def test_when_every_server_fails_all_are_tried():
    fleet = fleet_of("ab", 1)
    a, b = fleet.servers
    for server in (a, b):
        for _ in range(FAILURES):
            fleet.failed(server)
    assert fleet.pick(avoid=a) is b
    b.in_flight = 1
    assert fleet.pick(avoid=a) is a


