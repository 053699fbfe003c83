"""Servers that hang, lie, babble or do half of what they are asked: a retry or a clear error, never a lost request."""

from __future__ import annotations

import gzip
import json

import pytest

from reinstruct.errors import LLMRefused, LLMUnavailable
from reinstruct.llm import Reply, Request, Sampling, Token
from reinstruct.records import Message
from tests.conftest import flat
from tests.fake_server import FakeServer, Flood, Half, Raw, Slow, Status
from tests.test_served import GREEDY, answers, client_threads, requests, served, texts

HTML = "<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
CHOICE = {"text": "x", "finish_reason": "stop"}
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BOMB = gzip.compress(b'{"choices": [{"text": "' + b"a" * (40 * 2**20) + b'"}]}')

HOSTILE = {
    "no http": (Raw(b"\x16\x03\x01\x02\x00garbage\r\n\r\n"), "connection_lost"),
    "silence": (Raw(b""), "connection_lost"),
    "endless header": (Raw(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000), "connection_lost"),
    "header without end": (Raw(b"HTTP/1.1 200 OK\r\ncontent-le"), "connection_lost"),
    "wrong length": (Raw(OK + b"content-length: -5\r\n\r\n{}"), "connection_lost"),
    "broken chunks": (Raw(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"), "connection_lost"),
    "not what it says": (Raw(OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"), "connection_lost"),
    "half": (Half(), "connection_lost"),
    "bomb": (
        Raw(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "too_large",
    ),
    "html": (Status(200, HTML), "unreadable_body"),
    "html error": (Status(502, HTML), "http_502"),
    "empty body": (Status(200, ""), "unreadable_body"),
    "deep nesting": (Status(200, "[" * 200_000), "unreadable_body"),
    "no choice": (Status(200, '{"choices": []}'), "wrong_choices"),
    "three choices": (Status(200, json.dumps({"choices": [CHOICE] * 3})), "wrong_choices"),
    "wrong types": (Status(200, '{"choices": [{"text": 7}]}'), "unreadable_body"),
    "half a character": (Raw(OK + b'content-length: 30\r\n\r\n{"choices": [{"text": "\xc3"}]}  '), "unreadable_body"),
    "hang": (Slow(30), "timed_out"),
}


@pytest.mark.parametrize(("fault", "cause"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_is_tried_again_and_counted(fault, cause):
    with FakeServer(lambda call: fault if call.tries == 0 and call.prompt == "p1" else None) as server:
        llm = served(server, timeout_s=0.3 if cause == "timed_out" else 5)
        assert texts(llm, requests(4)) == answers(4)
        assert llm.stats.snapshot().retries == {cause: 1}


@pytest.mark.parametrize("name", ["no http", "half", "html", "three choices", "hang"])
def test_a_server_that_stays_hostile_ends_in_a_clear_error(name):
    fault, _ = HOSTILE[name]
    words = r"http://127\.0\.0\.1:\d+/v1 gave no answer in 2 tries; the last: \w"
    with FakeServer(lambda call: fault) as server, pytest.raises(LLMUnavailable, match=words):
        texts(served(server, retries=1, timeout_s=0.2), requests(2))
    assert not client_threads()


def test_a_reply_of_a_hundred_megabytes_is_not_read_to_its_end():
    with FakeServer(lambda call: Flood(100 * 2**20)) as server:
        with pytest.raises(LLMUnavailable, match="a body of more than 33554432 bytes"):
            texts(served(server, retries=0), requests(1))
        assert server.sent < 60 * 2**20


def test_an_empty_completion_is_a_reply():
    with FakeServer(say=lambda call: "") as server:
        ((_, reply),) = flat(served(server).complete(requests(1), GREEDY))
    assert reply == Reply("", "stop", 7, 3)


DRAWN = Sampling(temperature=1.0, n=3, max_tokens=16)
CHAT = Request("c", (Message("user", "hi"),))


@pytest.mark.parametrize("request_", [Request("t", "hi"), CHAT], ids=["text", "chat"])
def test_several_replies_come_as_one_in_order(request_):
    with FakeServer() as server:
        ((_, reply),) = flat(served(server).complete([request_], DRAWN))
    assert (reply.text, [other.text for other in reply.others]) == ("re: hi", ["re: hi #1", "re: hi #2"])
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 9)
    assert {other.completion_tokens for other in reply.others} == {0}


@pytest.mark.parametrize("request_", [Request("t", "hi"), CHAT], ids=["text", "chat"])
def test_log_probabilities_are_told(request_):
    with FakeServer() as server:
        ((_, reply),) = flat(served(server).complete([request_], Sampling(logprobs=2)))
    assert reply.tokens == (Token("re", -0.5, (("re", -0.5), ("no", -1.5))),)
    assert server.calls[0].body["logprobs"] == (2 if isinstance(request_.prompt, str) else True)


def test_a_server_that_does_not_know_what_is_asked_is_named_at_once():
    with FakeServer(knows=()) as server:
        with pytest.raises(LLMRefused, match=r"http://127.* one reply where n asks for 3: it does not know n"):
            texts(served(server), requests(1), DRAWN)
        with pytest.raises(LLMRefused, match=r"http://127.* no log probabilities, but logprobs asks for them"):
            texts(served(server), requests(1), Sampling(logprobs=1))
        assert len(server.calls) == 2


SCHEMA = '{"type":"object","required":["score"]}'
FORMS = [
    (Sampling(json_schema=SCHEMA), {"json": json.loads(SCHEMA)}),
    (Sampling(regex="a+"), {"regex": "a+"}),
    (Sampling(choice=("yes", "no")), {"choice": ["yes", "no"]}),
]


@pytest.mark.parametrize(("sampling", "sent"), FORMS, ids=["json", "regex", "choice"])
def test_a_form_is_asked_for_as_vllm_wants_it(sampling, sent):
    with FakeServer() as server:
        texts(served(server), requests(2), sampling)
    assert [call.body["structured_outputs"] for call in server.calls] == [sent, sent]


def test_a_server_that_refuses_forms_is_asked_without_and_remembered():
    with FakeServer(refuses=("structured_outputs",)) as server:
        llm = served(server, max_in_flight=1)
        assert texts(llm, requests(3), FORMS[2][0]) == answers(3)
    assert [sorted({"structured_outputs"} & call.body.keys()) for call in server.calls] == [
        ["structured_outputs"], [], [], []
    ]  # fmt: skip
    assert not llm.stats.snapshot().replicas[0].guided


def test_a_schema_is_asked_for_in_openais_way_before_it_is_left_out():
    with FakeServer(refuses=("structured_outputs",)) as server:
        texts(served(server), requests(1), FORMS[0][0])
    format_ = {"type": "json_schema", "json_schema": {"name": "reply", "schema": json.loads(SCHEMA)}}
    assert server.calls[1].body["response_format"] == format_
    with FakeServer(refuses=("structured_outputs", "response_format")) as server:
        assert texts(served(server), requests(1), FORMS[0][0]) == answers(1)
    assert len(server.calls) == 3


def test_a_refusal_for_another_reason_is_told_in_its_first_words():
    words = "HTTP 400: structured_outputs: extra inputs"
    refusing = FakeServer(refuses=("structured_outputs", "max_tokens"))
    with refusing as server, pytest.raises(LLMRefused, match=words):
        texts(served(server), requests(1), FORMS[1][0])
