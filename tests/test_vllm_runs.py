"""Runs that start a real vLLM by themselves: as a server of their own, and inside their workers."""

import json
import re
import subprocess
from dataclasses import asdict

import msgspec
import pytest

from reinstruct.engine import InProcess
from reinstruct.engines import OFFLINE, VLLM, Engine
from reinstruct.llm import Reply, Request, Sampling
from reinstruct.planfile import Plan, specs, steps_of
from reinstruct.runner import LocalRunner
from reinstruct.store import LocalStore
from tests import real_vllm
from tests.conftest import ROOT, flat
from tests.real_vllm import FLAGS, plan_of, rows, rows_in_process, servers_with
from tests.test_runner import Notes

pytestmark = pytest.mark.slow
python, model = real_vllm.python, real_vllm.model


@pytest.fixture(scope="module")
def plan(model, tmp_path_factory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("corpus"), 40, model, model)


@pytest.fixture(scope="module")
def expected(plan, tmp_path_factory) -> dict:
    return rows_in_process(tmp_path_factory.mktemp("expected"), plan)


def test_a_run_serves_its_model_and_says_the_same(python, plan, expected, tmp_path):
    """One server for both steps; nothing of it is left."""
    store = LocalStore(tmp_path / "store")
    LocalRunner(store, Notes(), workers=1, engine=Engine(VLLM, FLAGS, python=python)).run(plan)
    assert rows(store, plan) == expected
    assert len(list(store.path("servers").glob("*.log"))) == 1
    assert not servers_with(str(store.path("servers")))


def test_a_worker_with_vllm_in_it_says_the_same(python, plan, expected, tmp_path):
    guess = next(step for step in steps_of(plan).values() if step.name == "guess")
    store, first = LocalStore(tmp_path / "store"), Plan(recipe="test", steps=specs(guess), data=guess.id)
    LocalRunner(store, Notes(), workers=1, engine=Engine(OFFLINE, FLAGS, python=python)).run(first)
    assert rows(store, first) == {"guess": expected["guess"]}


OFFLINE_SCRIPT = """
import json, sys
import msgspec
from reinstruct.llm import Reply, Request, Sampling
from reinstruct.vllm_offline import Offline

model, flags, asked = json.loads(sys.stdin.read())
engine = Offline(model, (*flags, "--enforce-eager"))
requests = [Request(str(n), "the river carries", seed=n, position=n) for n in range(2)]
for sampling in asked:
    (batch,) = engine.complete(requests, msgspec.convert(sampling, Sampling))
    print(msgspec.json.encode([reply for _, reply in batch]).decode(), flush=True)
"""
REFUSED = '{"type": "string", "pattern": "(?=a)b"}'  # no grammar can look ahead


def test_vllm_in_a_worker_draws_several_tells_probabilities_and_keeps_to_forms(python, model):
    schema = '{"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}'
    asked = [
        Sampling(temperature=1.0, n=3, max_tokens=8),
        Sampling(logprobs=2, max_tokens=8),
        Sampling(choice=("yes", "no")),
        Sampling(regex="[a-f]{3}"),
        Sampling(json_schema=schema, max_tokens=64),
        Sampling(json_schema=REFUSED, max_tokens=8),
    ]
    told = json.dumps([model, FLAGS, [asdict(sampling) for sampling in asked]])
    done = subprocess.run(
        [python, "-c", OFFLINE_SCRIPT], input=told, cwd=ROOT, check=True, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    drawn, told, chosen, matched, structured, unguided = (msgspec.json.decode(line, type=list[Reply]) for line in lines)
    for reply in drawn:
        assert len({reply.text, *(other.text for other in reply.others)}) == 3
        assert reply.completion_tokens == 24
        assert [other.completion_tokens for other in reply.others] == [0, 0]
    requests = [Request(str(n), "the river carries", seed=n, position=n) for n in range(2)]
    ((_, own), _) = flat(InProcess(model, device="cpu").complete(requests, asked[1]))
    for token, same in zip(told[0].tokens, own.tokens, strict=True):
        assert token.text == same.text.strip("\ufffd"), "vLLM tells nothing of half a character"
        assert token.logprob == pytest.approx(same.logprob, abs=1e-3)
        assert [value for _, value in token.top] == pytest.approx([value for _, value in same.top], abs=1e-3)
    assert {reply.text for reply in chosen} <= {"yes", "no"}
    assert all(re.fullmatch("[a-f]{3}", reply.text) for reply in matched)
    assert all(type(json.loads(reply.text)["good"]) is bool for reply in structured)
    assert all(0 < reply.completion_tokens <= 8 for reply in unguided), "asked without the form"
