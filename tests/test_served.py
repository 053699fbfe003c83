"""The model client against a real server on a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import zlib
from email.utils import formatdate
from itertools import count

import pytest

from reinstruct.errors import LLMRefused, LLMUnavailable, RecipeError
from reinstruct.llm import Request, Sampling
from reinstruct.records import Message
from reinstruct.served import Served
from reinstruct.served_addresses import base_url, is_loopback, without_secrets
from reinstruct.served_protocol import retry_after_s, says_too_long
from reinstruct.served_stats import ClientCounters
from reinstruct.served_talk import Talk
from reinstruct.served_terms import backoff_s
from tests.conftest import flat
from tests.fake_server import FakeServer, Half, HangUp, Slow, Status, error

GREEDY = Sampling(max_tokens=16)


def requests(n: int):
    return [Request(str(i), f"p{i}", i) for i in range(n)]


def served(*servers: FakeServer, **settings) -> Served:
    return Served(tuple(server.url for server in servers), **{"backoff_s": 0.005, **settings})


def texts(llm: Served, asked, sampling=GREEDY) -> dict[str, str]:
    return {request.key: reply.text for request, reply in flat(llm.complete(asked, sampling))}


def answers(n: int) -> dict[str, str]:
    return {str(i): f"re: p{i}" for i in range(n)}


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "model-client"]


@contextlib.contextmanager
def environment(name: str, value: str):
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def test_every_request_is_answered_once_and_keeps_its_identity():
    asked = requests(100)
    with FakeServer() as server:
        got = list(flat(served(server, max_in_flight=8).complete(asked, GREEDY)))
    assert sorted(id(request) for request, _ in got) == sorted(map(id, asked))
    assert all(reply.text == f"re: {request.prompt}" for request, reply in got)
    assert server.most_in_flight <= 8


def test_no_requests_no_replies():
    with FakeServer() as server:
        assert list(served(server).complete([], GREEDY)) == []


def test_text_and_conversations_go_to_their_own_endpoints_with_the_sampling():
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, stop=("\n", "END"), repetition_penalty=1.1)
    chat = Request("b", (Message("system", "s"), Message("user", "u")), 2**40 + 3)
    with FakeServer() as server:
        list(served(server, model="m").complete([Request("a", "text", 4), chat], sampling))
    text, turns = sorted(server.calls, key=lambda call: len(call.path))
    drawn = {"max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "stop": ["\n", "END"], "repetition_penalty": 1.1}
    assert (text.path, turns.path) == ("/v1/completions", "/v1/chat/completions")
    assert text.body == {"model": "m", "prompt": "text", "seed": 4, **drawn}
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert turns.body == {"model": "m", "messages": messages, "seed": 3, **drawn}


def test_greedy_requests_carry_no_seed_and_no_extension():
    with FakeServer() as server:
        list(served(server).complete([Request("a", "x", 4)], GREEDY))
    assert server.calls[0].body.keys() == {"model", "prompt", "max_tokens", "temperature", "top_p"}


def test_a_cut_off_reply_says_so_and_counts_its_tokens():
    with FakeServer(finish="length") as server:
        ((_, reply),) = flat(served(server).complete(requests(1), GREEDY))
    assert (reply.finish, reply.prompt_tokens, reply.completion_tokens) == ("length", 7, 3)


def test_the_only_model_is_found_once():
    with FakeServer(models=("found",)) as server:
        llm = served(server)
        texts(llm, requests(5))
        texts(llm, requests(2))
    assert {call.body["model"] for call in server.calls} == {"found"}
    assert server.listings == 1


def test_several_models_must_be_chosen_from():
    with FakeServer(models=("one", "two")) as server, pytest.raises(LLMRefused, match=r"2 models.*one, two"):
        texts(served(server), requests(1))


def test_a_failure_before_the_first_request_is_told_as_it_is():
    with FakeServer(models=("one", "two")) as server:
        talk = Talk(served(server)._terms(), GREEDY, ClientCounters())
        while talk._replies.empty():
            time.sleep(0.01)
        with pytest.raises(LLMRefused, match=r"2 models.*one, two"):
            next(talk.answers(requests(1)))
        talk.close()


def test_requests_are_read_as_slots_come_free():
    read = []

    def endless():
        for i in count():
            read.append(i)
            yield Request(str(i), f"p{i}", i)

    with FakeServer() as server:
        replies = flat(served(server, max_in_flight=4).complete(endless(), GREEDY))
        for taken in range(1, 200):
            next(replies)
            assert len(read) <= taken + 8
        replies.close()


def test_a_slow_reply_holds_back_no_other():
    with FakeServer(lambda call: Slow(0.5) if call.prompt == "p0" else None) as server:
        order = [request.key for request, _ in flat(served(server, max_in_flight=2).complete(requests(50), GREEDY))]
    assert order.index("0") > 5


def test_closing_early_cancels_and_ends_the_thread():
    with FakeServer(lambda call: Slow(30) if call.prompt != "p0" else None) as server:
        replies = flat(served(server).complete(requests(200), GREEDY))
        assert next(replies)[0].key == "0"
        assert client_threads()
        began = time.monotonic()
        replies.close()
        assert time.monotonic() - began < 2
        assert not client_threads()


def test_an_error_of_the_consumer_ends_the_thread():
    def consume(llm: Served):
        for _ in llm.complete(requests(50), GREEDY):
            raise KeyError("consumer")

    with FakeServer() as server, pytest.raises(KeyError):
        consume(served(server))
    assert not client_threads()


def test_an_error_of_the_source_reaches_the_caller():
    def source():
        yield from requests(3)
        raise OSError("disk gone")

    with FakeServer() as server, pytest.raises(OSError, match="disk gone"):
        list(served(server).complete(source(), GREEDY))
    assert not client_threads()


PASSING = {
    "408": Status(408),
    "409": Status(409),
    "425": Status(425),
    "429": Status(429, "slow down"),
    "500": Status(500),
    "503": Status(503, "<html>starting</html>"),
    "html": Status(200, "<html>proxy</html>"),
    "no choices": Status(200, '{"choices": []}'),
    "not an object": Status(200, "[]"),
    "aborted": Status(200, '{"choices": [{"text": "hal", "finish_reason": "abort"}]}'),
    "no text": Status(200, '{"choices": [{"finish_reason": "stop"}]}'),
    "half": Half(),
    "hang up": HangUp(),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_tried_again(fault):
    with FakeServer(lambda call: fault if call.tries < 2 else None) as server:
        assert texts(served(server, retries=2), requests(3)) == answers(3)
    assert len(server.calls) == 9


@pytest.mark.slow
def test_faults_at_random_lose_and_double_nothing():
    faults = [Status(500), Status(429), HangUp(), Half(), None, None, None, None]
    with FakeServer(lambda call: faults[zlib.crc32(f"{call.prompt}/{call.tries}".encode()) % 8]) as server:
        got = [
            request.key
            for request, _ in flat(served(server, retries=30, backoff_s=0.001).complete(requests(300), GREEDY))
        ]
    assert sorted(got) == sorted(answers(300))


def test_a_timeout_is_tried_again():
    with FakeServer(lambda call: Slow(5) if call.tries == 0 else None) as server:
        assert texts(served(server, timeout_s=0.2), requests(1)) == answers(1)


def test_an_oversized_body_is_not_swallowed():
    big = Status(200, '{"choices": [{"text": "' + "a" * (33 * 2**20) + '"}]}')
    with FakeServer(lambda call: big) as server, pytest.raises(LLMUnavailable, match="more than"):
        texts(served(server, retries=0), requests(1))


def test_retry_after_is_honoured():
    times = []

    def script(call):
        times.append(time.monotonic())
        return Status(429, headers={"Retry-After": "0.4"}) if call.tries == 0 else None

    with FakeServer(script) as server:
        texts(served(server), requests(1))
    assert times[1] - times[0] >= 0.4


def test_retry_after_in_both_forms_capped():
    assert retry_after_s("3") == 3
    assert retry_after_s("86400") == 60
    assert 5 < retry_after_s(formatdate(time.time() + 10, usegmt=True)) <= 10
    assert retry_after_s(formatdate(time.time() - 10, usegmt=True)) == 0
    assert retry_after_s("soon") == 0
    assert retry_after_s("") == 0


def test_when_all_retries_are_spent_the_error_names_the_last_cause():
    with FakeServer(lambda call: Status(500, "out of luck")) as server:
        with pytest.raises(LLMUnavailable, match=r"127\.0\.0\.1.* 3 tries.*HTTP 500: out of luck"):
            texts(served(server, retries=2), requests(1))
        assert len(server.calls) == 3


def test_replies_that_arrived_before_a_failure_are_delivered():
    got = []
    refuse_one = FakeServer(lambda call: Status(422, "no") if call.prompt == "p9" else None)
    with refuse_one as server, pytest.raises(LLMRefused):
        got.extend(request.key for request, _ in flat(served(server, max_in_flight=1).complete(requests(20), GREEDY)))
    assert got == [str(i) for i in range(9)]


def test_a_refusal_is_final_and_repeats_the_servers_words():
    with FakeServer(lambda call: Status(422, error("bad role " + "x" * 1000))) as server:
        with pytest.raises(LLMRefused, match="HTTP 422: bad role x") as caught:
            texts(served(server), requests(1))
        assert len(str(caught.value)) < 400
        assert len(server.calls) == 1


TOO_LONG = [
    "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens",
    "The decoder prompt (length 5000) is longer than the maximum model length of 2048.",
    "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
    "the request exceeds the available context size, try increasing it",
]


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_prompt_that_does_not_fit_is_a_reply(words):
    with FakeServer(lambda call: Status(400, error(words)) if call.prompt == "p1" else None) as server:
        finishes = {r.key: reply.finish for r, reply in flat(served(server).complete(requests(3), GREEDY))}
    assert finishes == {"0": "stop", "1": "prompt_too_long", "2": "stop"}


def test_max_tokens_beyond_the_context_is_no_fault_of_the_prompt():
    assert not says_too_long("maximum context length is 2048 tokens", max_tokens=4096)
    assert not says_too_long("unknown field", max_tokens=16)


def test_several_servers_share_the_work():
    with FakeServer(latency_s=0.01) as a, FakeServer(latency_s=0.01) as b:
        texts(served(a, b, max_in_flight=4), requests(80))
    assert abs(len(a.calls) - len(b.calls)) <= 20
    assert max(a.most_in_flight, b.most_in_flight) <= 4


def test_the_others_take_over_from_a_dead_server():
    with FakeServer(lambda call: HangUp()) as dead, FakeServer(latency_s=0.002) as alive:
        assert texts(served(dead, alive, max_in_flight=4, model="tiny"), requests(200)) == answers(200)
    assert len(dead.calls) < 20


def test_check_says_that_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(LLMUnavailable, match=f"no server at {url}.*vllm serve.*--server"):
            Served((url,)).check()
        assert time.monotonic() - began < 5


def test_check_passes_where_one_server_has_the_model():
    with FakeServer(models=("one", "two")) as server:
        served(server, model="two").check()
        Served(("http://127.0.0.1:9", server.url + "/v1/"), model="one").check()
        with pytest.raises(LLMRefused, match=r"no model 'three'.*one, two"):
            served(server, model="three").check()


def test_the_key_is_sent_and_never_shown():
    refusal = Status(403, error("key sk-secret-1 is not welcome"))
    with FakeServer(lambda call: refusal) as server, environment("MY_KEY", "sk-secret-1\n"):
        llm = served(server, api_key_env="MY_KEY")
        with pytest.raises(LLMRefused) as caught:
            texts(llm, requests(1))
    assert server.calls[0].headers["Authorization"] == "Bearer sk-secret-1"
    assert "sk-secret" not in str(caught.value) + repr(llm)
    assert "key *** is not welcome" in str(caught.value)


def test_passwords_in_urls_are_not_shown():
    assert without_secrets("at http://me:pw@host:1/v1", "") == "at http://host:1/v1"


def test_a_proxy_is_used_but_not_for_loopback():
    with FakeServer() as server:
        with environment("http_proxy", server.url):
            assert texts(Served(("http://models.invalid",)), requests(1)) == answers(1)
        with environment("http_proxy", "http://127.0.0.1:9"):
            assert texts(served(server), requests(1)) == answers(1)
    assert server.calls[0].headers["Host"] == "models.invalid"
    assert is_loopback("localhost")
    assert not is_loopback("model.svc.cluster.local")


def test_addresses_with_and_without_v1():
    assert base_url("http://h:1") == base_url("http://h:1/v1/") == "http://h:1/v1"
    assert base_url("https://h/openai") == "https://h/openai/v1"


@pytest.mark.parametrize("urls", [(), ("localhost:8000",), ("ftp://h",), ("http://h?key=1",), ("",)])
def test_a_wrong_address_is_refused_before_anything_runs(urls):
    with pytest.raises(RecipeError, match="http://127"):
        Served(urls)


def test_pauses_are_the_same_for_the_same_request():
    assert backoff_s(0.5, "a", 2) == backoff_s(0.5, "a", 2) != backoff_s(0.5, "b", 2)
    assert all(min(2**tries, 60) / 4 <= backoff_s(0.5, "a", tries) <= 30 for tries in range(10))
