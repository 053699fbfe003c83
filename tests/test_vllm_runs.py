"""Runs that start a real vLLM by themselves: as a server of their own, and inside their workers."""

import pytest

from reinstruct.engines import OFFLINE, VLLM, Engine
from reinstruct.planfile import Plan, specs, steps_of
from reinstruct.runner import LocalRunner
from reinstruct.store import LocalStore
from tests import real_vllm
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
