"""Real vLLM served by `reinstruct serve`: what it says, with and without an adapter, and runs through servers that die.

Two replicas are started once for all tests here; the last one leaves one of them dead.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from reinstruct.engine import InProcess
from reinstruct.llm import Request, Sampling
from reinstruct.planfile import Plan
from reinstruct.records import Message
from reinstruct.runner import LocalRunner
from reinstruct.served import Served
from reinstruct.store import LocalStore
from tests import real_vllm
from tests.conftest import flat
from tests.real_vllm import CONTEXT, FLAGS, WORDS, plan_of, rows, rows_in_process, servers_with
from tests.test_runner import Notes

pytestmark = pytest.mark.slow
python, model = real_vllm.python, real_vllm.model
TUNED = "tuned"  # the adapter's name on the servers
DOCUMENTS = 160


@dataclass(frozen=True)
class Adapter:
    """A random LoRA adapter of the model, and a folder with the model it makes once merged."""

    folder: str
    merged: str


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory) -> Adapter:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = tmp_path_factory.mktemp("adapter")
    layers = ["q_proj", "v_proj", "up_proj", "down_proj"]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        settings = LoraConfig(r=4, lora_alpha=8, target_modules=layers, init_lora_weights=False, task_type="CAUSAL_LM")
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings)
    tuned.save_pretrained(made / "adapter")
    shutil.copytree(model, made / "merged")
    tuned.merge_and_unload().save_pretrained(made / "merged")
    return Adapter(str(made / "adapter"), str(made / "merged"))


@pytest.fixture(scope="module")
def urls(python, model, adapter):
    """Two replicas of the model, with the adapter beside it."""
    argv = [sys.executable, "-m", "reinstruct", "serve", model, "--replicas", "2", "--port", "0", "--python", python]
    argv += ["--lora", f"{TUNED}={adapter.folder}", "--", *FLAGS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline().strip()
        assert line, "it ended instead of serving"
        yield tuple(line.split(","))
        process.terminate()


def named(urls: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Addresses as a user gives them. On a busy machine a server that is started anew takes minutes."""
    return tuple(f"{url}#model={name}&patience-s=900" for url in urls)


@pytest.fixture(scope="module")
def engine(model) -> InProcess:
    return InProcess(model, device="cpu")


def requests() -> list[Request]:
    """Texts and conversations of many lengths; the last leaves room for nine tokens, the one before it for none."""
    texts = [" ".join(WORDS[n % 7 : n % 7 + 3 + n]) for n in range(12)]
    chats = [(Message("system", "Say little."), Message("user", text)) for text in texts[:3]]
    prompts = [*texts, *chats, "x" * CONTEXT, "x" * (CONTEXT - 10)]
    return [Request(str(n), prompt, seed=n, position=n) for n, prompt in enumerate(prompts)]


def replies(llm, sampling: Sampling) -> dict:
    return {request.key: reply for request, reply in flat(llm.complete(requests(), sampling))}


SAMPLINGS = (
    Sampling(max_tokens=16),
    Sampling(max_tokens=24, repetition_penalty=1.3),
    Sampling(max_tokens=24, stop=("ra", "wat", " t")),
)


def agree(llm, engine: InProcess, sampling: Sampling) -> bool:
    """Whether two engines say the same, and count the same; a server does not count a prompt it refuses."""
    ours, theirs = replies(engine, sampling), replies(llm, sampling)
    too_long = str(len(requests()) - 2)
    assert ours.pop(too_long).finish == theirs.pop(too_long).finish == "prompt_too_long"
    assert {reply.finish for reply in ours.values()} <= {"stop", "length"}
    return ours == theirs


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["plain", "penalty", "stop"])
def test_a_server_says_what_the_engine_in_this_process_says(urls, engine, sampling):
    assert agree(Served(named(urls, "teacher")), engine, sampling)


def test_seeds_decide_what_a_server_draws(urls):
    drawn = Sampling(temperature=1.0, top_p=0.9, max_tokens=12)
    one = Served(named(urls[:1], "teacher"))
    first = replies(one, drawn)
    assert first == replies(one, drawn)
    assert len({reply.text for reply in first.values()}) > 10


def test_an_adapter_is_asked_by_its_name_and_says_what_the_merged_model_says(urls, engine, adapter):
    plain = Sampling(max_tokens=16)
    tuned = Served(named(urls, TUNED))
    assert agree(tuned, InProcess(adapter.merged, device="cpu"), plain)
    assert replies(tuned, plain) != replies(engine, plain)


class Gate:
    """Stands before a server and counts what was answered; kills the server, with all its processes, in the middle."""

    def __init__(self, url: str, kill_after: int = 0) -> None:
        self.url, self.behind, self.kill_after = "", url, kill_after
        self.answered: Counter = Counter()
        self.again: list[str] = []  # asked although they had been answered
        self.kills = 0
        self._loop = asyncio.new_event_loop()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._open.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._open.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())

    async def _start(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        prompt = json.loads(body)["prompt"] if body else ""
        self.again += [prompt] if self.answered[prompt] else []
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.request(request.method, self.behind + request.path, data=body, headers=JSON) as answer,
            ):
                said = web.Response(body=await answer.read(), status=answer.status, content_type="application/json")
        except aiohttp.ClientConnectorError:
            return web.Response(status=502)  # nobody is there
        except aiohttp.ClientError:
            request.transport.close()  # as a server does that dies while it answers
            return web.Response()
        if prompt and answer.status == 200:
            self.answered[prompt] += 1
            if self.kill_after and self.answered.total() == self.kill_after:
                self.kills += kill(self.behind)
        return said


JSON = {"Content-Type": "application/json"}


def kill(url: str) -> int:
    """`kill -9` of the server at an address and of all its processes; how many servers that were."""
    found = servers_with(f"--port {url.rpartition(':')[2]} ")
    for pid in found:
        os.killpg(pid, signal.SIGKILL)
    return len(found)


@pytest.fixture(scope="module")
def plan(model, adapter, tmp_path_factory) -> Plan:
    """The model writes instructions, the adapter rewrites."""
    return plan_of(tmp_path_factory.mktemp("corpus"), DOCUMENTS, model, adapter.merged)


@pytest.fixture(scope="module")
def expected(plan, tmp_path_factory) -> dict:
    return rows_in_process(tmp_path_factory.mktemp("expected"), plan)


def run(store: LocalStore, plan: Plan, adapter: Adapter, *urls: str) -> None:
    servers = {"": named(urls, "teacher"), adapter.merged: named(urls, TUNED)}
    LocalRunner(store, Notes(), workers=1, servers=servers).run(plan)


def asked(expected: dict) -> int:
    """Questions of a whole run: one for each document, one for each instruction there is then."""
    return sum(map(len, expected.values()))


def test_a_run_goes_on_once_its_server_is_back(urls, adapter, plan, expected, tmp_path):
    """`reinstruct serve` starts a dead server anew, at the same address, and the run waits for it."""
    store = LocalStore(tmp_path / "store")
    with Gate(urls[0], kill_after=DOCUMENTS // 2) as gate:
        run(store, plan, adapter, gate.url)
        assert gate.kills == 1
        assert gate.answered.total() == asked(expected)
        assert not gate.again, "what was answered is not asked again"
    assert rows(store, plan) == expected


def test_one_of_two_replicas_dies_and_no_row_is_lost(urls, adapter, plan, expected, tmp_path):
    store = LocalStore(tmp_path / "store")
    with Gate(urls[1], kill_after=DOCUMENTS // 8) as dying, Gate(urls[0]) as other:
        run(store, plan, adapter, dying.url, other.url)
        assert dying.kills == 1
        assert other.answered.total() > asked(expected) / 2, "the other took over"
        assert dying.answered.total() + other.answered.total() == asked(expected)
        assert not dying.again + other.again
        assert not set(dying.answered) & set(other.answered)
    assert rows(store, plan) == expected
