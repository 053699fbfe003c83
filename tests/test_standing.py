"""Workers that go from shard to shard: one process for many, a log for each, and an end like that of any worker."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import msgspec
import psutil
import pytest

from reinstruct.commit import done_shards, result_of
from reinstruct.corpus.open import open_source
from reinstruct.layout import ensure_layout
from reinstruct.plan import read
from reinstruct.planfile import Plan, save, specs, steps_of
from reinstruct.records import Document
from reinstruct.runner import LocalRunner
from reinstruct.stages.text import KeepLengths
from reinstruct.standing import Job, StandingWorkers
from reinstruct.store import LocalStore
from tests.conftest import ROOT
from tests.in_process import make_rows
from tests.test_runner import Notes

pytestmark = pytest.mark.slow
SHARDS = 4


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def workers():
    with closing(StandingWorkers(dict(os.environ), 99)) as standing:
        yield standing


def plan_of(corpus: Path) -> Plan:
    read_step = read(open_source(str(corpus), Document), name="corpus")
    step = read_step.map(KeepLengths("text", 50, 9999), name="lengths").step
    return Plan(recipe="test", steps=specs(step), data=step.id)


@pytest.fixture
def shards(store: LocalStore, corpus_file: Path) -> list[list[str]]:
    """What a worker is told for each shard of a step that was laid out in several."""
    plan = plan_of(corpus_file)
    name, step = save(store, plan), steps_of(plan)[plan.data]
    make_rows(store, step.inputs[0])
    assert len(ensure_layout(store, step, shards=SHARDS, min_rows=1).shards) == SHARDS
    flags = ["--store", store.root, "--plan", name, "--step", step.id]
    return [["map", *flags, "--shard", str(number)] for number in range(SHARDS)]


def ended(workers: StandingWorkers, argv: list[str], log: Path) -> tuple[dict, int]:
    """The last object that was said, and the exit code."""
    with log.open("ab") as stderr, workers.begin(argv, stderr) as worker:
        objects = [msgspec.json.decode(line) for line in worker.stdout if line.startswith("{")]
        return objects[-1] if objects else {}, worker.wait()


def standing_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "reinstruct.standing" in child.cmdline()]


def owners(store: LocalStore, step: str) -> list[str]:
    return [done.owner for done in done_shards(store, step).values()]


def test_one_process_does_shard_after_shard_and_ends_when_nobody_asks(store, shards, workers, tmp_path):
    for number, argv in enumerate(shards):
        made, code = ended(workers, argv, tmp_path / f"log-{number}")
        assert (made["shard"], made["committed"], code) == (number, True, 0)
    (process,) = standing_processes()
    step = shards[0][shards[0].index("--step") + 1]
    assert {int(owner.rpartition(":")[2]) for owner in owners(store, step)} == {process.pid}
    workers.close()
    assert not process.is_running()


def test_a_mistake_is_told_in_its_own_log_and_the_next_shard_has_another_process(shards, workers, tmp_path):
    assert ended(workers, shards[0], tmp_path / "log-0")[1] == 0
    (first,) = standing_processes()
    said, code = ended(workers, [*shards[1][:-1], "99"], tmp_path / "log-1")
    assert (said["kind"], code) == ("StoreError", 2)
    assert ended(workers, ["dance"], tmp_path / "log-2") == ({}, 2)
    assert b"invalid choice: 'dance'" in (tmp_path / "log-2").read_bytes()
    assert ended(workers, shards[1], tmp_path / "log-3")[1] == 0
    (second,) = standing_processes()
    assert second != first
    assert [(tmp_path / f"log-{number}").read_bytes() for number in (0, 1, 3)] == [b"", b"", b""]


def test_one_that_was_killed_while_it_was_idle_is_replaced(shards, workers, tmp_path):
    assert ended(workers, shards[0], tmp_path / "log")[1] == 0
    (process,) = standing_processes()
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended(workers, shards[1], tmp_path / "log")[1] == 0
    assert standing_processes() != [process]


def test_one_that_is_killed_at_work_is_told_by_its_exit_code(workers, tmp_path):
    with (tmp_path / "log").open("ab") as log, workers.begin(["map"], log) as worker:
        worker.kill()
        assert (list(worker.stdout), worker.wait()) == ([], -signal.SIGKILL)
    assert standing_processes() == []


def test_two_shards_at_once_are_two_processes_that_both_serve_again(shards, workers, tmp_path):
    with (tmp_path / "log").open("ab") as log:
        with workers.begin(shards[0], log) as one, workers.begin(shards[1], log) as two:
            assert [len(list(worker.stdout)) > 0 for worker in (two, one)] == [True, True]
        before = {process.pid for process in standing_processes()}
        with workers.begin(shards[2], log) as one, workers.begin(shards[3], log) as two:
            assert [len(list(worker.stdout)) > 0 for worker in (one, two)] == [True, True]
    assert len(before) == 2
    assert {process.pid for process in standing_processes()} == before


SLEEPS = "import time, reinstruct.standing as s; s.main(lambda args, progress: time.sleep(60))"
CHATS = (
    "import sys, reinstruct.standing as s; s.main(lambda args, progress: print('done', 'a line', end='', sep='\\n'))"
)


def job(log: Path) -> bytes:
    return msgspec.json.encode(Job(["map"], str(log), "done 7")) + b"\n"


def begun(code: str, job: bytes) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    process.stdin.write(job)
    process.stdin.flush()
    return process


def test_one_ends_with_its_runner_whatever_it_is_doing(tmp_path: Path):
    with begun(SLEEPS, job(tmp_path / "log")) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 3
    with begun(SLEEPS, b"") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_what_a_library_says_does_not_hide_the_end(tmp_path: Path):
    with begun(CHATS, job(tmp_path / "log")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == [b"done\n", b"a line\n", b"done 7\n"]
        process.stdin.close()


def test_prometheus_is_told_by_one_server_of_no_shard_that_is_done(store, shards, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "REINSTRUCT_METRICS_PORT": f"127.0.0.1:{port}"}
    with closing(StandingWorkers(environment, 99)) as workers:
        for number in (0, 1):
            assert ended(workers, shards[number], tmp_path / "log")[1] == 0
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                assert b"shard=" not in page.read(), "the shard is done"
    assert (tmp_path / "log").read_bytes() == b""


def test_none_waits_once_there_is_nothing_left_to_begin(shards, tmp_path):
    with (tmp_path / "log").open("ab") as log, closing(StandingWorkers(dict(os.environ), 3)) as workers:
        with workers.begin(shards[0], log) as last:
            with workers.begin(shards[1], log) as worker:
                assert list(worker.stdout)
            assert len(standing_processes()) == 2, "one is at work, and one shard is left"
            with workers.begin(shards[2], log) as worker:
                assert list(worker.stdout)
            assert len(standing_processes()) == 1
            assert list(last.stdout)
        assert standing_processes() == []


def test_a_run_takes_as_many_processes_for_a_step_as_shards_go_on_at_once(store, corpus_file):
    plan = plan_of(corpus_file)
    step = steps_of(plan)[plan.data]
    make_rows(store, step.inputs[0])
    ensure_layout(store, step, shards=SHARDS, min_rows=1)
    LocalRunner(store, Notes(), workers=1).run(plan)
    assert len(owners(store, step.id)) == SHARDS
    assert len(set(owners(store, step.id))) == 1
    assert result_of(store, step.id).rows == 39
    assert standing_processes() == []
