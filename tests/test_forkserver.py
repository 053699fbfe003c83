"""Workers that are forked: they do what others do, tell how they ended, and end with whoever asked for them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from reinstruct.commit import done_shards
from reinstruct.corpus.open import open_source
from reinstruct.forkserver import LOST, MODULES, ForkServer
from reinstruct.layout import ensure_layout
from reinstruct.plan import Model, Step, read
from reinstruct.planfile import Plan, save, specs
from reinstruct.records import Document
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.store import LocalStore
from tests.conftest import ROOT
from tests.fake_server import FakeServer, Slow
from tests.in_process import make_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def log(tmp_path: Path):
    with (tmp_path / "log").open("w+b") as file:
        yield file


@pytest.fixture
def forks():
    with closing(ForkServer(dict(os.environ))) as server:
        yield server


def argv_of(store: LocalStore, step: Step, verb: str, *flags: str) -> list[str]:
    plan = save(store, Plan(recipe="test", steps=specs(step), data=step.id))
    ensure_layout(store, step, shards=1, min_rows=1)
    return [verb, "--die-with-parent", "--store", store.root, "--plan", plan, "--step", step.id, "--shard", "0", *flags]


def reading(store: LocalStore, corpus: Path) -> list[str]:
    return argv_of(store, read(open_source(str(corpus), Document), name="corpus").step, "read")


def asking(store: LocalStore, corpus: Path, url: str) -> list[str]:
    documents = read(open_source(str(corpus), Document), name="corpus")
    make_rows(store, documents.step)
    step = documents.map(WriteInstruction(Model(uri="m"), Template("Say: {response}")), name="ask").step
    return argv_of(store, step, "ask", "--servers", msgspec.json.encode({"": [url]}).decode())


def ended(worker) -> tuple[dict, int]:
    """The last line that was said, and the exit code."""
    with worker:
        lines = worker.stdout.read().splitlines()
        return msgspec.json.decode(lines[-1]) if lines else {}, worker.wait()


def until_asked(server: FakeServer) -> None:
    deadline = time.monotonic() + 120
    while not server.calls:
        assert time.monotonic() < deadline, "the worker asks nothing"
        time.sleep(0.01)


@contextmanager
def kept_waiting(store: LocalStore, corpus: Path, forks: ForkServer, log):
    """A worker whose server does not answer, and its process."""
    with FakeServer(lambda call: Slow(60)) as server, forks.fork(asking(store, corpus, server.url), log) as worker:
        until_asked(server)
        (process,) = server_of(log).children()
        yield worker, process


def server_of(log) -> psutil.Process:
    """The server that was given this log."""
    path = Path(log.name)
    found = [child for child in psutil.Process().children() if "reinstruct.forkserver" in child.cmdline()]
    (server,) = [child for child in found if Path(f"/proc/{child.pid}/fd/2").readlink() == path]
    return server


def test_a_fork_commits_its_shard_and_is_a_process_of_its_own(store, corpus_file, forks, log):
    argv = reading(store, corpus_file)
    step = argv[argv.index("--step") + 1]
    assert ended(forks.fork(argv, log)) == ({"step": step, "shard": 0, "committed": True}, 0)
    server = server_of(log)
    assert done_shards(store, step)[0].owner.rpartition(":")[2] not in (str(os.getpid()), str(server.pid))
    assert ended(forks.fork(argv, log)) == ({"step": step, "shard": 0, "committed": False}, 0)
    assert server_of(log) == server, "it serves again"
    forks.close()
    assert not server.is_running()
    assert Path(log.name).read_bytes() == b""


def test_a_mistake_is_told_as_by_any_worker(store, forks, log):
    said, code = ended(forks.fork(["read", "--store", store.root, "--plan", "plans/none.json"], log))
    assert (code, said["kind"]) == (2, "RecipeError")
    assert ended(forks.fork(["dance"], log)) == ({}, 2)
    assert b"invalid choice: 'dance'" in Path(log.name).read_bytes()


def test_a_fork_is_killed_and_others_are_not(store, corpus_file, forks, log, tmp_path):
    with kept_waiting(store, corpus_file, forks, log) as (worker, process):
        process.send_signal(signal.SIGKILL)
        assert ended(worker)[1] == -signal.SIGKILL
    other = LocalStore(tmp_path / "other")
    with kept_waiting(other, corpus_file, forks, log) as (worker, process):
        assert ended(forks.fork(reading(LocalStore(tmp_path / "third"), corpus_file), log))[1] == 0
        assert process.is_running(), "a fork that ended beside it closed nothing of it"
        worker.kill()
        assert worker.wait() == 3


def test_a_server_that_was_killed_is_replaced_and_its_forks_count_as_lost(store, corpus_file, forks, log, tmp_path):
    with kept_waiting(store, corpus_file, forks, log) as (worker, process):
        server = server_of(log)
        server.send_signal(signal.SIGKILL)
        assert worker.wait() == LOST
        worker.kill()
        process.wait(timeout=10)
    assert ended(forks.fork(reading(LocalStore(tmp_path / "other"), corpus_file), log))[1] == 0
    assert server_of(log) != server


ASKS_AND_DIES = """
import os, signal, sys
from reinstruct.forkserver import ForkServer
with open(sys.argv[1], "wb") as log:
    forks = ForkServer(dict(os.environ))
    worker = forks.fork(sys.argv[2:], log)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_a_runner_that_was_killed(store, corpus_file, tmp_path):
    with FakeServer(lambda call: Slow(60)) as server:
        argv = [sys.executable, "-c", ASKS_AND_DIES, str(tmp_path / "log"), *asking(store, corpus_file, server.url)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=ROOT) as runner:
            until_asked(server)
            started = psutil.Process(runner.pid).children(recursive=True)
            assert len(started) == 2
            runner.communicate(b"\n")
        assert psutil.wait_procs(started, timeout=10)[1] == []


@pytest.mark.parametrize("verb", MODULES)
def test_all_that_is_loaded_leaves_one_thread_and_no_work_to_do(store, corpus_file, forks, log, verb):
    """A thread would be missing in each fork. Those of jemalloc know of forks."""
    assert ended(forks.fork(reading(store, corpus_file), log, MODULES[verb]))[1] == 0
    server = server_of(log)
    names = [(Path("/proc") / str(server.pid) / "task" / str(thread.id) / "comm") for thread in server.threads()]
    assert {name.read_text().strip() for name in names} - {"jemalloc_bg_thd"} == {
        Path(f"/proc/{server.pid}/comm").read_text().strip()
    }
    assert "libtorch" in Path(f"/proc/{server.pid}/maps").read_text()
    assert Path(log.name).read_bytes() == b""
