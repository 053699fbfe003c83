"""The client and its servers under load: limits, replicas that come and go, deadlines, stops, counts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from reinstruct.errors import LLMError, LLMUnavailable, RecipeError
from reinstruct.llm import Request, Sampling
from reinstruct.served import Served
from reinstruct.served_addresses import Address, addresses, place
from reinstruct.served_stats import SPANS, ClientCounters, ClientStats, Timeline
from tests.conftest import flat
from tests.fake_server import FakeServer, HangUp, Slow, Status
from tests.test_served import GREEDY, answers, client_threads, requests, served, texts


def unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def client_sockets(server: FakeServer) -> int:
    """Connections of this process to the server."""
    found = 0
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as end:
            found += end.getpeername() == ("127.0.0.1", server.port)
    return found


def test_a_client_finds_a_servers_limit_and_loses_nothing():
    with FakeServer(limit=8, latency_s=0.004) as server:
        llm = served(server, max_in_flight=100, retries=0)
        assert texts(llm, requests(600)) == answers(600)
    (replica,) = llm.stats.snapshot().replicas
    assert server.most_in_flight == 8
    assert replica.window < 24


@pytest.mark.slow
def test_clients_that_share_a_server_share_its_limit():
    with FakeServer(limit=12, latency_s=0.005) as server, ThreadPoolExecutor(3) as threads:
        clients = [served(server, max_in_flight=64, model="tiny") for _ in range(3)]

        def ask(llm: Served, start: int) -> list[Request]:
            asked = (Request(f"{start}/{i}", f"p{start}/{i}") for i in range(250))
            return [request for request, _ in flat(llm.complete(asked, GREEDY))]

        got = list(threads.map(ask, clients, range(3)))
    assert [len(replies) for replies in got] == [250] * 3
    half = [call.prompt.partition("/")[0] for call in server.calls[150:450]]
    shares = [half.count(f"p{number}") for number in range(3)]
    assert min(shares) > 300 / 3 / 3, shares


class Names:
    """A resolver whose answers the test changes; None: no such name."""

    def __init__(self, *servers: FakeServer) -> None:
        self.servers: tuple[FakeServer, ...] | None = servers

    async def __call__(self, host: str, port: int) -> list[tuple[str, int]]:
        assert (host, port) == ("models.invalid", 8000)
        if self.servers is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [("127.0.0.1", server.port) for server in self.servers]


def test_every_address_of_a_name_is_asked_by_that_name():
    with FakeServer(latency_s=0.005) as a, FakeServer(latency_s=0.005) as b:
        llm = Served(("http://models.invalid:8000#dns",), max_in_flight=4, resolve=Names(a, b))
        llm.check()
        assert texts(llm, requests(60)) == answers(60)
    assert min(len(a.calls), len(b.calls)) > 15
    assert a.calls[0].headers["Host"] == "models.invalid:8000"


def test_replicas_join_and_leave_while_requests_run():
    with FakeServer(latency_s=0.005) as first, FakeServer(latency_s=0.005) as second:
        names = Names(first)
        llm = Served(("http://models.invalid:8000#dns",), max_in_flight=4, resolve=names, resolve_s=0.02)
        asked = (Request(str(i), f"p{i}") for i in count())
        replies = flat(llm.complete(asked, GREEDY))
        while not second.calls:
            next(replies)
            names.servers = (first, second)
        names.servers = (second,)
        gone = f"http://127.0.0.1:{first.port}/v1"
        while gone in {replica.name for replica in llm.stats.snapshot().replicas}:
            next(replies)
        while first.in_flight:
            next(replies)
        done = len(first.calls)
        names.servers = None  # a name server that fails: what is known is kept
        for _ in range(100):
            next(replies)
        assert len(first.calls) <= done + 4, "none but those on their way"
        replies.close()
    assert not client_threads()


def test_a_name_without_an_address_is_waited_for_then_named():
    names = Names()
    names.servers = None
    llm = Served(("http://models.invalid:8000#dns",), resolve=names, backoff_s=0.01, patience_s=0.1)
    with pytest.raises(LLMUnavailable, match=r"no server has an address.*http://models\.invalid:8000/v1.*not known"):
        texts(llm, requests(1))
    with pytest.raises(LLMUnavailable, match="no server has an address"):
        llm.check()


def test_addresses_keep_scheme_port_and_login():
    async def two(host: str, port: int) -> list[tuple[str, int]]:
        return [("10.0.0.2", port), ("fd00::1", port), ("10.0.0.2", port)]

    found = asyncio.run(addresses(place("https://me:pw@models/api#dns"), two))
    host = "models"
    assert found == [
        Address("https://me:pw@10.0.0.2:443/api/v1", host),
        Address("https://me:pw@[fd00::1]:443/api/v1", host),
    ]


def test_settings_stand_behind_a_url():
    llm = Served(("http://a:1#max-in-flight=9&model=org/x&dns", "http://b:1#timeout-s=2.5"), max_in_flight=3)
    assert (llm.max_in_flight, llm.model, llm.timeout_s) == (9, "org/x", 2.5)


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        (("http://a#max-in-fligt=9",), r"unknown setting 'max_in_fligt' \(did you mean 'max_in_flight'\?\)"),
        (("http://a#retries=many",), "setting retries is 'many'; accepted: a whole number"),
        (("http://a#timeout-s=0",), "timeout_s is 0.0; accepted: above 0"),
        (("http://a#retries=1", "http://b#retries=2"), "retries is '1 and 2'; accepted: one value"),
    ],
)
def test_wrong_settings_behind_a_url_are_refused(urls, words):
    with pytest.raises(RecipeError, match=words):
        Served(urls)


def test_a_server_that_is_away_for_a_while_is_waited_for_without_spending_tries():
    port = unused_port()
    llm = Served((f"http://127.0.0.1:{port}",), model="tiny", retries=0, backoff_s=0.01)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(texts, llm, requests(5))
        while llm.stats.snapshot().retries.get("connect_failed", 0) < 10:
            time.sleep(0.005)
        with FakeServer(port=port):
            assert asked.result(10) == answers(5)


def test_when_every_server_stays_away_the_error_says_for_how_long():
    urls = tuple(f"http://127.0.0.1:{unused_port()}" for _ in range(2))
    llm = Served(urls, model="tiny", backoff_s=0.005, patience_s=0.1)
    with pytest.raises(LLMUnavailable, match=r"no server has answered for 0\.1 s; the last, http://127\.0\.0\.1"):
        texts(llm, requests(20))
    assert not client_threads()


def test_overload_that_does_not_end_is_an_error_too():
    words = r"no server has answered for 0\.1 s.*HTTP 503: queue full"
    with FakeServer(lambda call: Status(503, "queue full")) as server, pytest.raises(LLMUnavailable, match=words):
        texts(served(server, patience_s=0.1, retries=0), requests(3))


def test_one_request_has_its_own_deadline():
    words = r"request 0 had no answer within 0\.15 s; the last, of http"
    with FakeServer(lambda call: Status(429)) as server, pytest.raises(LLMUnavailable, match=words):
        texts(served(server, request_deadline_s=0.15), requests(1))
    words = r"request 0 had no answer within 0\.05 s.*timed out"
    with FakeServer(lambda call: Slow(30)) as server, pytest.raises(LLMUnavailable, match=words):
        texts(served(server, request_deadline_s=0.05), requests(1))


def test_there_is_a_deadline_for_everything():
    got = []
    with FakeServer(lambda call: Slow(30) if call.prompt == "p7" else None) as server:
        llm = served(server, deadline_s=0.3)
        with pytest.raises(LLMUnavailable, match=r"not all requests were answered within the deadline of 0\.3 s"):
            got.extend(request.key for request, _ in flat(llm.complete(requests(20), GREEDY)))
    assert set(got) <= set(answers(20)) - {"7"}
    assert not client_threads()


def test_a_stop_hands_on_what_arrives_in_time_and_is_never_taken_for_the_end():
    got = []

    def ask(llm: Served) -> None:
        for request, _ in flat(llm.complete((Request(str(i), f"p{i}") for i in count()), GREEDY)):
            got.append(request.key)
            if len(got) == 10:
                threading.Thread(target=llm.stop, args=(5.0,)).start()

    with FakeServer(latency_s=0.05) as server:
        with pytest.raises(LLMError, match="stopped before all requests were answered"):
            ask(served(server, max_in_flight=10))
        assert len(got) == len(server.calls), "every call that was sent was answered and handed on"
        assert server.in_flight == 0
    assert not client_threads()


def test_a_stop_does_not_wait_longer_than_told():
    with FakeServer(lambda call: Slow(30) if call.prompt != "p0" else None) as server:
        llm = served(server)
        replies = flat(llm.complete(requests(50), GREEDY))
        assert next(replies)[0].key == "0"
        began = time.monotonic()
        llm.stop(0.05)
        with pytest.raises(LLMError, match="stopped"):
            list(replies)
        assert time.monotonic() - began < 5


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux tells its open files")
def test_closing_leaves_no_socket_open():
    with FakeServer(lambda call: Slow(30) if call.prompt != "p0" else None) as server:
        replies = flat(served(server).complete(requests(40), GREEDY))
        next(replies)
        assert client_sockets(server) > 30
        replies.close()
        while server.in_flight:
            time.sleep(0.01)
        assert client_sockets(server) == 0


def test_counts_tell_calls_retries_tokens_and_what_was_in_flight():
    causes = {"p1": Status(500), "p2": Status(429), "p3": HangUp(), "p4": Status(200, "{}")}
    with FakeServer(lambda call: causes.get(call.prompt) if call.tries == 0 else None, latency_s=0.02) as server:
        llm = served(server, max_in_flight=8)
        assert llm.stats.snapshot() == ClientStats(latencies=llm.stats.snapshot().latencies)
        texts(llm, requests(40))
        stats = llm.stats.snapshot()
    assert (stats.calls, stats.replies, stats.in_flight, stats.most_in_flight) == (44, 40, 0, 8)
    assert stats.retries == {"http_500": 1, "http_429": 1, "connection_lost": 1, "unreadable_body": 1}
    assert (stats.prompt_tokens, stats.completion_tokens) == (280, 120)
    assert sum(stats.latencies.values()) == 40
    assert 40 * 0.02 <= stats.latency_s < 40
    assert 1 < stats.mean_in_flight <= 8
    assert sum(span.replies for span in stats.timeline) == 40
    (replica,) = stats.replicas
    assert (replica.calls, replica.failures, replica.in_flight, replica.guided) == (44, 4, 0, True)


def test_a_timeline_covers_any_time_in_few_spans():
    timeline = Timeline()
    for _ in range(1000):
        timeline.spend(10.0, in_flight=4)
        timeline.reply()
        timeline.spend(50.0, in_flight=0)  # idle time is not told
    spans = timeline.spans()
    assert len(spans) <= SPANS
    assert timeline.span_s * len(spans) >= timeline.busy_s == pytest.approx(10_000)
    assert {round(span.in_flight, 6) for span in spans} == {4}
    assert sum(span.replies for span in spans) == 1000
    assert timeline.mean() == pytest.approx(4)


def test_latencies_are_counted_by_their_bounds():
    now = [0.0]
    counters = ClientCounters(lambda: now[0])
    for took_s in (0.01, 0.02, 700.0):
        began = counters.began()
        now[0] += took_s
        assert counters.replied(began, 1, 2) == pytest.approx(took_s)
        counters.ended()
    stats = counters.snapshot()
    assert {bound: n for bound, n in stats.latencies.items() if n} == {0.01: 1, 0.025: 1, float("inf"): 1}
    assert stats.busy_s == pytest.approx(700.03)


def test_sampling_that_only_servers_know_is_passed_on():
    sampling = Sampling(temperature=1.0, top_k=40, min_p=0.1, presence_penalty=0.5, frequency_penalty=-0.5, n=2)
    with FakeServer() as server:
        list(served(server).complete([Request("a", "x", 4)], sampling))
    sent = {"top_k": 40, "min_p": 0.1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "n": 2}
    assert sent.items() <= server.calls[0].body.items()
