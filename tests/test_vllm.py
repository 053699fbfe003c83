"""Real vLLM: what it answers, and runs through servers that die. It runs where REINSTRUCT_VLLM_PYTHON or .bench/vllm is
(`make vllm-env`); a small random model is served by `reinstruct serve` with two replicas, once for all tests.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.engine import InProcess
from reinstruct.engines import OFFLINE, Engine
from reinstruct.errors import LLMUnavailable
from reinstruct.layout import output_parts
from reinstruct.llm import Reply, Request, Sampling
from reinstruct.plan import read
from reinstruct.planfile import Plan, specs, steps_of
from reinstruct.records import Document, Message, Pair, Rejected
from reinstruct.runner import LocalRunner
from reinstruct.served import Served
from reinstruct.serving import existing_model
from reinstruct.stages.instruct import Template, WriteInstruction
from reinstruct.store import LocalStore
from reinstruct.tables import read_parts
from tests.conftest import ROOT, flat
from tests.test_runner import Notes

pytestmark = pytest.mark.slow
FLAGS = ("--dtype", "float32")  # so that greedy replies are the same as those of the other engine
CONTEXT = 512
LINE = "the river carries water from hill to sea and past the mills of a town where boats wait for rain"
WORDS = LINE.split()


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("REINSTRUCT_VLLM_PYTHON") or str(ROOT / ".bench" / "vllm" / "bin" / "python")
    if not Path(found).exists():
        pytest.skip(f"no vLLM at {found}: `make vllm-env` makes it")
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A random Llama whose greedy choices are no ties, with a tokenizer that puts BOS in front."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("models") / "teacher"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    raw.train_from_iterator([" ".join(WORDS)] * 2, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=0,
            eos_token_id=1,
            initializer_range=0.3,
        )
        LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def urls(python, model):
    """Two replicas."""
    argv = [sys.executable, "-m", "reinstruct", "serve", model, "--replicas", "2", "--port", "0", "--python", python]
    with subprocess.Popen([*argv, "--", *FLAGS], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline().strip()
        assert line, "it ended instead of serving"
        yield tuple(line.split(","))
        process.terminate()


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
    assert agree(Served(urls), engine, sampling)


def test_seeds_decide_what_a_server_draws(urls):
    drawn = Sampling(temperature=1.0, top_p=0.9, max_tokens=12)
    first = replies(Served(urls[:1]), drawn)
    assert first == replies(Served(urls[:1]), drawn)
    assert len({reply.text for reply in first.values()}) > 10


def test_a_run_with_vllm_in_its_workers(python, model, engine, tmp_path):
    """The offline engine, by way of the runner: the rows are those of the engine in this process, chunk after chunk."""
    ours, theirs = LocalStore(tmp_path / "ours"), LocalStore(tmp_path / "theirs")
    plan = asking(corpus(tmp_path, 40), model)
    LocalRunner(ours, Notes(), workers=1).run(plan)
    LocalRunner(theirs, Notes(), workers=1, engine=Engine(OFFLINE, FLAGS, python=python)).run(plan)
    assert rows(ours, plan) == rows(theirs, plan)


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


def test_vllm_in_a_worker_draws_several_tells_probabilities_and_keeps_to_forms(python, model, engine):
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
    ((_, own), _) = flat(engine.complete(requests, asked[1]))
    for token, same in zip(told[0].tokens, own.tokens, strict=True):
        assert token.text == same.text.strip("\ufffd"), "vLLM tells nothing of half a character"
        assert token.logprob == pytest.approx(same.logprob, abs=1e-3)
        assert [value for _, value in token.top] == pytest.approx([value for _, value in same.top], abs=1e-3)
    assert {reply.text for reply in chosen} <= {"yes", "no"}
    assert all(re.fullmatch("[a-f]{3}", reply.text) for reply in matched)
    assert all(type(json.loads(reply.text)["good"]) is bool for reply in structured)
    assert all(reply.completion_tokens == 8 for reply in unguided), "asked without the form"


def test_a_run_brings_up_its_own_server(python, model, tmp_path):
    ours, theirs = LocalStore(tmp_path / "ours"), LocalStore(tmp_path / "theirs")
    plan = asking(corpus(tmp_path, 40), model)
    LocalRunner(ours, Notes(), workers=1).run(plan)
    LocalRunner(theirs, Notes(), workers=1, engine=Engine("vllm", FLAGS, python=python)).run(plan)
    assert rows(ours, plan) == rows(theirs, plan)
    assert not servers_with(str(theirs.path("servers")))


def corpus(folder: Path, size: int) -> Path:
    path = folder / f"corpus-{size}.jsonl"
    texts = [" ".join(WORDS[(n * k) % len(WORDS)] for k in range(1, 20 + n % 30)) + f" {n}." for n in range(size)]
    path.write_text("".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def asking(corpus: Path, model: str) -> Plan:
    stage = WriteInstruction(
        existing_model(model), Template("Say: {response}"), sampling=Sampling(max_tokens=24), max_unreadable=1.0
    )
    step = read(open_source(str(corpus), Document), name="corpus").map(stage, name="ask").step
    return Plan(recipe="test", steps=specs(step), data=step.id)


def rows(store: LocalStore, plan: Plan) -> list[tuple[str, ...]]:
    """What became of each document: its instruction, or why there is none and how the reply began."""
    kept = [
        (pair.id, pair.instruction)
        for chunk in read_parts(store, output_parts(store, steps_of(plan)[plan.data]), Pair)
        for pair in chunk.records
    ]
    dropped = [
        (row.id, row.reason, row.detail)
        for chunk in read_parts(store, result_of(store, plan.data).rejected, Rejected)
        for row in chunk.records
    ]
    return kept + dropped


def servers_with(words: str) -> list[int]:
    """Process ids of vLLM servers with these words in their command."""
    found = subprocess.run(["pgrep", "-f", "--", words], capture_output=True, text=True, check=False).stdout.split()
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found if Path(f"/proc/{pid}").exists()}
    return [pid for pid, line in lines.items() if b"vllm.entrypoints" in line and b"reinstruct.guard" not in line]


class Gate:
    """Stands before a server and counts what was answered; kills the server, with all its processes, in the middle."""

    def __init__(self, url: str, kill_after: int = 0) -> None:
        self.url, self.behind, self.kill_after = "", url, kill_after
        self.answered: Counter = Counter()
        self.again: list[str] = []  # asked although they had been answered
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
        except aiohttp.ClientError:
            request.transport.close()  # as a dead server does
            return web.Response()
        if prompt and answer.status == 200:
            self.answered[prompt] += 1
            if self.kill_after and self.answered.total() == self.kill_after:
                kill(self.behind)
        return said


JSON = {"Content-Type": "application/json"}


def kill(url: str) -> None:
    for pid in servers_with(f"--port {url.rpartition(':')[2]} "):
        os.killpg(pid, signal.SIGKILL)


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            Served((url,)).check()
            return
        except LLMUnavailable:
            time.sleep(0.5)
    raise AssertionError(f"{url} did not come back")


def test_one_of_two_replicas_dies_and_no_row_is_lost(urls, model, tmp_path):
    expected, store = LocalStore(tmp_path / "expected"), LocalStore(tmp_path / "store")
    plan = asking(corpus(tmp_path, 300), model)
    LocalRunner(expected, Notes(), workers=1).run(plan)
    with Gate(urls[0], kill_after=20) as dying, Gate(urls[1]) as other:
        LocalRunner(store, Notes(), workers=1, servers={"": (dying.url, other.url)}).run(plan)
        assert other.answered.total() > 150, "the other took over"
        assert dying.answered.total() + other.answered.total() == 300
        assert not dying.again + other.again
        assert not set(dying.answered) & set(other.answered)
    assert rows(store, plan) == rows(expected, plan)


def test_a_run_goes_on_once_its_server_is_back(urls, model, tmp_path):
    """`reinstruct serve` starts a dead server anew, at the same address; the run waits, or is started again."""
    expected, store = LocalStore(tmp_path / "expected"), LocalStore(tmp_path / "store")
    plan = asking(corpus(tmp_path, 200), model)
    LocalRunner(expected, Notes(), workers=1).run(plan)
    with Gate(urls[1], kill_after=90) as gate:
        try:
            LocalRunner(store, Notes(), workers=1, servers={"": (gate.url,)}).run(plan)
        except LLMUnavailable:
            wait_for(urls[1])
            LocalRunner(store, Notes(), workers=1, servers={"": (gate.url,)}).run(plan)
        assert gate.answered.total() == 200
        assert not gate.again, "what was answered is not asked again"
    assert rows(store, plan) == rows(expected, plan)
