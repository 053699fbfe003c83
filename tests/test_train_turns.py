"""Processes that wait for one another: without end while the other works, and not at all once it is gone."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pyarrow.parquet as pq
import pytest

from reinstruct.errors import TrainingError
from reinstruct.records import Example, Message, to_table
from reinstruct.train.job import Job
from reinstruct.train.settings import Sft
from tests.conftest import tiny_model

LIMIT_S = 6  # of every collective
PARTIAL = ".tokens.arrow.partial"  # there while rows are tokenised
# A good part of a second for each row, on any machine, all of it with the interpreter's lock held.
SLOW = "{% for n in range(3000) %}{% for m in range(3000) %}{% endfor %}{% endfor %}{{ messages[0]['content'] }}"
SCRIPT = f"""
import sys
from datetime import timedelta
import torch
from reinstruct.train.job import read_job, run
torch.distributed.init_process_group("gloo", timeout=timedelta(seconds={LIMIT_S}))
run(read_job(sys.argv[1]))
"""


@pytest.fixture
def store():
    from torch.distributed import HashStore

    return HashStore()


def in_threads(work, processes):
    """What `work` returns for each rank, in their order."""
    with ThreadPoolExecutor(processes) as pool:
        return [done.result() for done in [pool.submit(work, rank) for rank in range(processes)]]


def test_the_first_goes_first_then_one_of_every_machine_then_all_others(store):
    from reinstruct.train.turns import Turns

    said, leaders = [], [0, 0, 2, 2]
    together = threading.Barrier(2, timeout=30)  # both of the others at once, or it breaks

    def work(rank):
        with Turns(store, rank, 4, leaders[rank]) as turns, turns.in_turn():
            if rank in (1, 3):
                together.wait()
            said.append(rank)

    in_threads(work, 4)
    assert said[0] == 0
    assert said.index(2) < said.index(3)
    assert sorted(said) == [0, 1, 2, 3]


def test_all_are_told_what_the_first_one_makes_and_go_on_together(store):
    from reinstruct.train.turns import Turns

    made, came = [], []

    def make():
        made.append("once")
        return f"made {len(made)}"

    def work(rank):
        with Turns(store, rank, 3) as turns:
            if rank == 2:
                time.sleep(0.3)
            came.append(rank)
            first = turns.told(make)
            return first, len(came), turns.told(make)

    assert in_threads(work, 3) == [("made 1", 3, "made 2")] * 3


def test_alone_nothing_is_waited_for():
    from reinstruct.train.turns import Turns

    with Turns() as turns, turns.in_turn():
        assert turns.told(lambda: "made") == "made"


@pytest.mark.parametrize(("error", "said"), [(TrainingError("no rows"), "no rows"), (OSError("gone"), "OSError: gone")])
def test_an_error_of_the_one_that_works_ends_the_others(store, error, said):
    from reinstruct.train.turns import Turns

    def work(rank):
        with Turns(store, rank, 2) as turns, turns.in_turn():
            raise error

    def waiting(rank):
        with pytest.raises(TrainingError, match=f"^process 0 of this training failed: {said}$"):
            work(rank)

    with pytest.raises(type(error), match=r"^(no rows|gone)$"):
        work(0)
    waiting(1)


def test_one_that_is_never_heard_is_gone(store):
    from reinstruct.train.turns import Turns

    silent = r"process 0 .* is gone or out of reach \(silent for 0 seconds\)"
    with pytest.raises(TrainingError, match=silent), Turns(store, 1, 2, silent_s=0.1) as turns, turns.in_turn():
        pytest.fail("it is not its turn")


@pytest.mark.slow
def test_one_that_works_longer_than_it_may_be_silent_is_waited_for(store):
    from reinstruct.train.turns import Turns

    def work(rank):
        with Turns(store, rank, 2, beat_s=0.1, silent_s=2.0) as turns, turns.in_turn():
            if rank == 0:
                time.sleep(4)
            return rank

    assert in_threads(work, 2) == [0, 1]


def rows(folder, target, count=30):
    said = [Example(id=f"e{n}", messages=[Message("user", f"row {n}")], target=target) for n in range(count)]
    path = folder / "rows.parquet"
    pq.write_table(to_table(said, Example), path)
    return str(path)


def slow_base(folder):
    """A base whose tokenizer takes long for every conversation."""
    from transformers import AutoTokenizer

    base = tiny_model(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = SLOW
    tokenizer.save_pretrained(base)
    return base


def started(folder, data, base, works=("work", "work")):
    """Two processes of one job, with nobody who ends one when the other has ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    same_machine = works[0] == works[1]
    agents = []
    for rank, work in enumerate(works):
        settings = Sft(epochs=1, batch_size=2, learning_rate=1e-3)
        places = {"work": str(folder / work), "checkpoints": str(folder / "kept"), "out": str(folder / "out")}
        path = folder / f"job-{rank}.json"
        path.write_bytes(msgspec.json.encode(Job(kind="sft", data=(data,), base=base, settings=settings, **places)))
        here = {"RANK": str(rank), "LOCAL_RANK": str(rank if same_machine else 0)}
        log = (folder / f"log-{rank}").open("w")
        command = [sys.executable, "-c", SCRIPT, str(path)]
        agents.append(subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **both, **here}))
    return agents


def until_there(file, agent):
    while not file.exists() and agent.poll() is None:
        time.sleep(0.02)


def ended(agents):
    return [agent.wait(timeout=300) for agent in agents]


@pytest.mark.slow
def test_tokenising_may_take_longer_than_any_collective(tmp_path):
    """Of both: each has a disk of its own, so they tokenise one after the other."""
    agents = started(tmp_path, rows(tmp_path, "yes"), slow_base(tmp_path), works := ("here", "there"))
    until_there(tmp_path / works[0] / PARTIAL, agents[0])
    began = time.monotonic()
    until_there(tmp_path / works[0] / "tokens.arrow", agents[0])
    took = time.monotonic() - began
    assert ended(agents) == [0, 0], (tmp_path / "log-1").read_text()
    assert took > LIMIT_S, "the rows were too easy to say anything"
    assert all((tmp_path / work / "tokens.arrow").is_file() for work in works)
    assert (tmp_path / "out" / "metrics.json").is_file()


@pytest.mark.slow
def test_an_error_while_tokenising_is_told_by_the_other_process_too(tmp_path):
    assert all(ended(started(tmp_path, rows(tmp_path, " "), tiny_model(tmp_path / "base"))))
    # the store ends with the process that failed, which the other one may see first
    said = r"process 0 of this training (failed: no usable training example|is gone or out of reach)"
    assert re.search(said, (tmp_path / "log-1").read_text())


@pytest.mark.slow
def test_a_process_that_dies_while_it_tokenises_ends_the_other(tmp_path):
    agents = started(tmp_path, rows(tmp_path, "yes", count=400), slow_base(tmp_path))
    until_there(tmp_path / "work" / PARTIAL, agents[0])
    assert psutil.Process(agents[1].pid).is_running()
    agents[0].send_signal(signal.SIGKILL)
    assert all(ended(agents))
    assert "process 0 of this training is gone or out of reach" in (tmp_path / "log-1").read_text()
    assert not Path(tmp_path / "out").exists()
