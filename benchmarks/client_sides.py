"""The sides of benchmarks/client.py, each run in a process of its own: SIDE CALLS IN_FLIGHT URL FOLDER.

    bare        workers around aiohttp's session, nothing kept: what Python can do
    ours        reinstruct's client
    durable     reinstruct's client as an Ask step uses it: rows from Parquet, every reply logged, rows to Parquet
    peer        datatrove's InferenceRunner, one output file        (in an environment that has datatrove)
    peer-durable    the same with its chunk checkpoints and request cache

Prints how many replies there were and the seconds it took, start of the interpreter and imports left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

MAX_TOKENS = 256


def prompts(n: int) -> list[str]:
    text = "The mill stands where the two streams meet, and its wheel has not turned since the flood. " * 13
    return [f"Rewrite text {number} in plain words: {text}" for number in range(n)]


def bare(calls: int, in_flight: int, url: str, folder: Path) -> int:
    import aiohttp

    asked = iter(prompts(calls))
    texts: list[str] = []

    async def work(session: aiohttp.ClientSession) -> None:
        for prompt in asked:
            body = {"model": "instant", "messages": [{"role": "user", "content": prompt}], "max_tokens": MAX_TOKENS}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                texts.append((await response.json())["choices"][0]["message"]["content"])

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(work(session) for _ in range(in_flight)))

    asyncio.run(main())
    return len(texts)


def ours(calls: int, in_flight: int, url: str, folder: Path) -> int:
    from reinstruct.llm import Request, Sampling
    from reinstruct.records import Message
    from reinstruct.served import Served

    asked = (Request(str(n), (Message("user", text),), n, n) for n, text in enumerate(prompts(calls)))
    llm = Served((url,), max_in_flight=in_flight)
    return sum(len(batch) for batch in llm.complete(asked, Sampling(max_tokens=MAX_TOKENS)))


def durable(calls: int, in_flight: int, url: str, folder: Path) -> int:
    from reinstruct.commit import close
    from reinstruct.corpus.open import open_source
    from reinstruct.layout import ensure_layout
    from reinstruct.llm import Sampling
    from reinstruct.plan import Model, Step, read
    from reinstruct.records import Document
    from reinstruct.served import Served
    from reinstruct.stages.instruct import Template, WriteInstruction
    from reinstruct.store import LocalStore
    from reinstruct.worker import run_shard

    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(prompts(calls))))
    ask = WriteInstruction(Model(uri="model"), Template("{response}"), sampling=Sampling(max_tokens=MAX_TOKENS))
    documents = read(open_source(str(corpus), Document), name="corpus")
    store = LocalStore(folder / "store")

    def run(step: Step) -> int:
        ensure_layout(store, step, shards=1, min_rows=1)
        done = run_shard(store, step, 0, lambda model: Served((url,), max_in_flight=in_flight))
        assert done is not None
        close(store, step.id)
        return sum(part.rows for part in done.parts)

    run(documents.step)
    began = time.perf_counter()
    rows = run(documents.map(ask).step)
    print(json.dumps({"step_s": time.perf_counter() - began}))
    return rows


def peer(calls: int, in_flight: int, url: str, folder: Path, durable: bool = False) -> int:
    from datatrove.data import Document
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    async def roll(document: Document, generate: Callable[[dict], Awaitable[Any]]) -> Any:
        return await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": MAX_TOKENS})

    config = InferenceConfig(
        server_type="endpoint", endpoint_url=url, model_name_or_path="instant", max_concurrent_generations=in_flight
    )
    checkpoints = {"checkpoints_local_dir": str(folder / "checkpoints"), "records_per_chunk": 500} if durable else {}
    name = "${rank}_${chunk_index}.jsonl" if durable else "${rank}.jsonl"
    writer = JsonlWriter(str(folder / "out"), output_filename=name, compression=None)
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(prompts(calls))]
    runner = InferenceRunner(rollout_fn=roll, config=config, output_writer=writer, **checkpoints)
    LocalPipelineExecutor(pipeline=[documents, runner], logging_dir=str(folder / "logs"), tasks=1).run()
    return sum(len(file.read_text().splitlines()) for file in (folder / "out").iterdir())


def peer_durable(calls: int, in_flight: int, url: str, folder: Path) -> int:
    return peer(calls, in_flight, url, folder, durable=True)


SIDES: dict[str, Callable[[int, int, str, Path], int]] = {
    "bare": bare,
    "ours": ours,
    "durable": durable,
    "peer": peer,
    "peer-durable": peer_durable,
}

if __name__ == "__main__":
    side, calls, in_flight, url, folder = sys.argv[1:]
    began = time.perf_counter()
    replies = SIDES[side](int(calls), int(in_flight), url, Path(folder))
    print(json.dumps({"replies": replies, "seconds": time.perf_counter() - began}))
