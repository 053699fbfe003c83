"""Which server is asked next, and how many requests one server gets at once."""

from __future__ import annotations

import random

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


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then():
    now = [0.0]
    fleet = fleet_of("a", 4, lambda: now[0])
    (only,) = fleet.servers
    rest_s = [fleet.failed(only, wait_s=7.0) for _ in range(FAILURES)][-1]
    assert rest_s == 7.0
    assert fleet.pick() is None
    now[0] = 7.0
    assert fleet.pick() is only


def test_a_server_that_leaves_gets_no_more():
    fleet = fleet_of("abc")
    (left,) = fleet.leave({"b", "not there"})
    assert (left.endpoint.name, left.leaving) == ("b", True)
    assert [server.endpoint.name for server in fleet.servers] == ["a", "c"]


def test_the_least_busy_is_asked_measured_by_what_it_can_take():
    fleet = fleet_of("ab", 64)
    small, large = fleet.servers
    small.window.size, small.in_flight, large.in_flight = 4.0, 2, 10
    assert fleet.pick() is large


def play(windows: list[Window], limit: int, rounds: int) -> None:
    """A server that takes `limit` at once and turns others away at random, asked by each window to its full width."""
    chance = random.Random(len(windows))
    for _ in range(rounds):
        sizes = [int(window.size) for window in windows]
        share = min(1.0, limit / sum(sizes))
        sent_in = [window.round for window in windows]
        for window, size, sent in zip(windows, sizes, sent_in, strict=True):
            for _ in range(size):
                window.replied(sent, 0.1) if chance.random() < share else window.refused(sent)


def test_a_window_closes_in_on_a_limit_and_stays_there():
    window = Window(512, patient_s=10)
    play([window], limit=20, rounds=8)
    widths = []
    for _ in range(50):
        play([window], limit=20, rounds=1)
        widths.append(window.size)
    assert 15 <= min(widths) <= max(widths) <= 25


def test_a_window_widens_with_each_reply_until_the_server_objects_and_never_passes_its_most():
    small, large = Window(100, patient_s=10), Window(1000, patient_s=10)
    assert (small.size, large.size, Window(8, patient_s=10).size) == (FIRST, 500, 8)
    for window in (small, large):
        for _ in range(20):
            window.replied(window.round, 0.1)
    assert (small.size, large.size) == (FIRST + 20, 520)
    play([small, large], limit=10_000, rounds=9)
    assert (small.size, large.size) == (100, 1000)


def test_where_everything_is_refused_a_window_halves_to_one():
    window = Window(64, patient_s=10)
    sizes = []
    for _ in range(12):
        play([window], limit=0, rounds=1)
        sizes.append(window.size)
    assert sizes[0] <= FIRST / 2 + 1
    assert 1 <= sizes[-1] < 3


def test_one_refusal_in_twenty_by_chance_hardly_narrows_a_window():
    window = Window(50, patient_s=10)
    for number in range(5000):
        window.refused(window.round) if number % 20 == 0 else window.replied(window.round, 0.1)
    assert window.size > 30


def test_refusals_of_one_burst_narrow_a_window_once():
    window = Window(64, patient_s=10)
    for _ in range(64):
        window.refused(0)
    after_a_round = window.size
    for _ in range(64):
        window.refused(0)  # sent before the window had heard of the first refusal
    assert after_a_round == window.size == FIRST / 2 + 1


def test_a_queue_that_grows_stops_the_widening():
    window = Window(2 * FIRST, patient_s=1)
    for _ in range(1000):
        window.replied(window.round, took_s=2)
    assert window.size == FIRST


def test_a_newcomer_gets_its_share():
    old, new = Window(512, patient_s=10), Window(512, patient_s=10)
    play([old], limit=60, rounds=30)
    assert old.size > 55
    shares = []
    for _ in range(40):
        play([old, new], limit=60, rounds=10)
        shares.append(old.size / (old.size + new.size))
    assert 0.4 < sum(shares[20:]) / 20 < 0.6
    assert 50 < old.size + new.size < 75
