"""What a `kill -9` costs: calls that are paid for twice, and rows that are lost, doubled or changed.

    python benchmarks/crash.py

Asks a local server 2,000 questions, 50 at a time, kills the whole run when the server has seen 60 % of them, and runs
it again. The server counts how often it was asked each question. The peer, datatrove 0.10.1 with its checkpoints and
its request cache, does the same in the same run, in an environment of its own under .bench/.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PEER = ("datatrove[io]==0.10.1", "aiosqlite", "aiofiles", "httpx")  # its extra `inference` brings vLLM and CUDA along
CALLS, IN_FLIGHT, KILL_AT, LATENCY_S = 2_000, 50, 0.6, 0.2
LIMIT_S = 240.0


class Server:
    """Answers each question with itself after LATENCY_S, and counts."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.url = ""
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        assert ready.wait(120), "the server did not start"

    def reset(self) -> None:
        self.asked.clear()
        self.most_in_flight = 0

    async def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        for path in ("/v1/completions", "/v1/chat/completions"):
            app.router.add_post(path, self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await asyncio.Event().wait()

    async def _models(self, request: Any) -> Any:
        from aiohttp import web

        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _answer(self, request: Any) -> Any:
        from aiohttp import web

        body = await request.json()
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        self.asked[prompt] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(LATENCY_S)
        finally:
            self.in_flight -= 1
        text = f"Answer to: {prompt}"
        choice = {"index": 0, "finish_reason": "stop", "text": text, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 100, "completion_tokens": 120, "total_tokens": 220}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


def texts() -> list[str]:
    return [
        f"Text number {n} of the corpus. " + "Rivers carry water from the hills to the sea. " * 20 for n in range(CALLS)
    ]


def run_ours(url: str, folder: Path) -> None:
    """One step that asks: laid out, run and committed as every container does it."""
    from reinstruct.commit import close, result_of
    from reinstruct.corpus.open import open_source
    from reinstruct.layout import ensure_layout
    from reinstruct.plan import Model, read, walk
    from reinstruct.records import Document
    from reinstruct.served import Served
    from reinstruct.stages.instruct import Template, WriteInstruction
    from reinstruct.store import LocalStore
    from reinstruct.worker import run_shard

    corpus = folder.parent / "corpus.jsonl"
    if not corpus.exists():
        rows = [json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(texts())]
        corpus.write_text("".join(rows))
    store = LocalStore(folder)
    ask = WriteInstruction(Model(uri="fake"), Template("{response}"))
    target = read(open_source(str(corpus), Document), name="corpus").map(ask, name="ask").step
    for step in walk(target):
        if result_of(store, step.id) is None:
            layout = ensure_layout(store, step, shards=1, min_rows=1)
            for shard in range(len(layout.shards)):
                run_shard(store, step, shard, lambda model: Served((url,), max_in_flight=IN_FLIGHT))
            close(store, step.id)


def rows_of_ours(folder: Path) -> list[tuple[str, str]]:
    from reinstruct.commit import result_of
    from reinstruct.records import Pair
    from reinstruct.store import LocalStore
    from reinstruct.tables import read_parts

    store = LocalStore(folder)
    (step,) = (folder / "steps").glob("ask-*")
    result = result_of(store, step.name)
    assert result is not None
    return [(row.id, row.instruction) for chunk in read_parts(store, result.parts, Pair) for row in chunk.records]


def run_peer(url: str, folder: Path) -> None:
    """The same questions with datatrove: chunks of 500 documents, checkpoints, and its cache of requests."""
    from datatrove.data import Document
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    async def ask(document: Any, generate: Any) -> Any:
        return await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": 256})

    config = InferenceConfig(
        server_type="endpoint", endpoint_url=url, model_name_or_path="fake", max_concurrent_generations=IN_FLIGHT
    )
    writer = JsonlWriter(str(folder / "out"), output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None)
    runner = InferenceRunner(
        rollout_fn=ask,
        config=config,
        output_writer=writer,
        checkpoints_local_dir=str(folder / "checkpoints"),
        records_per_chunk=500,
    )
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts())]
    LocalPipelineExecutor(pipeline=[documents, runner], logging_dir=str(folder / "logs"), tasks=1).run()


def rows_of_peer(folder: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for file in sorted(folder.glob("out/*")) for line in file.read_text().splitlines()]
    return [(row["id"], row["text"]) for row in lines]


def peer_python() -> Path:
    """The peer's own environment, made once."""
    folder = ROOT / ".bench" / "datatrove"
    if not list(folder.glob("lib/python*/site-packages/datatrove")):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", *PEER], check=True)
    return folder / "bin/python"


def started(python: Path, side: str, server: Server, folder: Path) -> subprocess.Popen:
    argv = [python, "-W", "ignore", __file__, "--side", side, "--url", server.url, "--folder", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in argv], start_new_session=True, env=environment, **quiet)


def finish(process: subprocess.Popen) -> None:
    _, said = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        raise SystemExit(f"a run failed with code {process.returncode}: {said[-2000:]}")


def trial(python: Path, side: str, server: Server, folder: Path) -> dict[str, float]:
    """Kill a run at KILL_AT, run it again; how many calls were in flight, and how many questions asked again."""
    server.reset()
    process = started(python, side, server, folder)
    until = time.monotonic() + LIMIT_S
    while server.asked.total() < KILL_AT * CALLS and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    in_flight, killed_at = server.in_flight, server.asked.total()
    process.communicate()
    time.sleep(2 * LATENCY_S)
    began = time.perf_counter()
    finish(started(python, side, server, folder))
    return {
        "killed_at": killed_at,
        "in_flight": in_flight,
        "most_in_flight": server.most_in_flight,
        "repeated": server.asked.total() - len(server.asked),
        "missing": CALLS - len(server.asked),
        "rerun_s": round(time.perf_counter() - began, 2),
    }


def measured(trials: int, scratch: Path) -> dict[str, list[dict[str, float]]]:
    server, sides = Server(), {"reinstruct": Path(sys.executable), "datatrove": peer_python()}
    whole = {}
    for side, python in sides.items():
        finish(started(python, side, server, scratch / side / "whole"))
        whole[side] = ROWS[side](scratch / side / "whole")
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(trials):
        for side, python in sides.items():
            folder = scratch / side / str(number)
            one = trial(python, side, server, folder)
            rows = ROWS[side](folder)
            one["rows"] = len(rows)
            one["rows_equal"] = rows == whole[side] if side == "reinstruct" else sorted(rows) == sorted(whole[side])
            found[side].append(one)
            print(f"{side:<12}" + "".join(f"{name} {value}  " for name, value in one.items()), flush=True)
    return found


RUN = {"reinstruct": run_ours, "datatrove": run_peer}
ROWS = {"reinstruct": rows_of_ours, "datatrove": rows_of_peer}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--side", choices=RUN, help=argparse.SUPPRESS)  # what a child process does
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        args.folder.parent.mkdir(parents=True, exist_ok=True)
        RUN[args.side](args.url, args.folder)
        return
    scratch = Path(tempfile.mkdtemp(prefix="reinstruct-crash-"))
    try:
        found = measured(args.trials, scratch)
    finally:
        shutil.rmtree(scratch)
    ours, peer = found["reinstruct"], found["datatrove"]
    worst = max(one["repeated"] for one in ours)
    exact = all(one["rows_equal"] and one["rows"] == CALLS for one in ours)
    summary = {
        "benchmark": "crash",
        "ratio": worst / IN_FLIGHT,
        "goal": 1.0,
        "holds": worst <= IN_FLIGHT and exact,
        "calls": CALLS,
        "in_flight": IN_FLIGHT,
        "repeated": [one["repeated"] for one in ours],
        "rows_exact": exact,
        "rerun_s": statistics.median(one["rerun_s"] for one in ours),
        "peer": "datatrove 0.10.1",
        "peer_repeated": [one["repeated"] for one in peer],
        "peer_rows_exact": all(one["rows_equal"] and one["rows"] == CALLS for one in peer),
        "peer_rerun_s": statistics.median(one["rerun_s"] for one in peer),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
