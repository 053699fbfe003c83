"""Paraphrases among 20,000 embeddings: seconds, memory and what is found, against comparing every pair.

    python benchmarks/semantic.py [--texts 20000] [--size 384]

Vectors have known geometry: topics in random directions, texts around their topic, and every fifth text a near copy of
the one before it. A server with the OpenAI protocol hands them out as JSON over HTTP, as an embedding model would; the
time of asking it is told apart. The floor compares every vector with all kept before it, in one process on one core;
what it drops is the truth that recall is measured by.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOAL, LEAST_RECALL, LEAST = 2.0, 0.95, 0.95
TEXTS_PER_TOPIC = 40
BLOCK = 512


def vectors(count: int, size: int) -> Any:
    """Unit vectors [count, size]."""
    import numpy as np

    draw = np.random.default_rng(3)
    topics = draw.normal(size=(max(1, count // TEXTS_PER_TOPIC), size))
    points = topics[draw.integers(len(topics), size=count)] + 0.8 * draw.normal(size=(count, size))
    copies = np.arange(4, count, 5)
    points[copies] = points[copies - 1] + 0.25 * draw.normal(size=(len(copies), size))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@contextmanager
def serving(points: Any) -> Iterator[str]:
    """A server that embeds "17 ..." as the 17th vector; its URL."""
    rows = [json.dumps(row) for row in points.tolist()]

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            found = (rows[int(text.partition(" ")[0])] for text in asked)
            data = ", ".join(f'{{"index": {at}, "embedding": {row}}}' for at, row in enumerate(found))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{{"data": [{data}]}}'.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def ours(url: str, count: int) -> dict:
    import polars as pl

    from reinstruct.embedding import Embedder
    from reinstruct.stages import semantic

    class Rows:
        """Texts "0 text", "1 text" and so on."""

        def __init__(self, scratch: Path) -> None:
            self.height, self.scratch = count, scratch

        def read(self, *fields: str) -> Iterator[pl.DataFrame]:
            for start in range(0, count, 1024):
                names = [f"{number} text" for number in range(start, min(count, start + 1024))]
                yield pl.DataFrame({"id": names, "text": names}).select(fields)

    class Kept(Embedder):
        """The vectors again, without a server."""

        def vectors(self, texts: Iterator[str]) -> Iterator[Any]:
            yield from (found[start : start + 128] for start in range(0, len([*texts]), 128))

    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as again:
        began = time.perf_counter()
        found = semantic.embedded(Rows(Path(scratch)), Embedder("vectors", url, batch=128), "text")
        asked = time.perf_counter() - began
        stage = semantic.DropParaphrases(Kept("vectors"), least=LEAST)
        began = time.perf_counter()
        said = pl.concat(list(stage.verdicts(Rows(Path(again)))))
        seconds = time.perf_counter() - began
    return {"asking_s": asked, "seconds": seconds, "dropped": said["reason"].is_not_null().arg_true().to_list()}


def floor(count: int, size: int) -> dict:
    """Each vector against all kept before it, a block at a time."""
    import numpy as np

    points = vectors(count, size)
    began = time.perf_counter()
    kept, filled, dropped = np.empty_like(points), 0, []
    for start in range(0, count, BLOCK):
        block = points[start : start + BLOCK]
        near = (block @ kept[:filled].T >= LEAST).any(axis=1)
        first = filled
        for at, vector in enumerate(block):
            if near[at] or (filled > first and (kept[first:filled] @ vector).max() >= LEAST):
                dropped.append(start + at)
            else:
                kept[filled] = vector
                filled += 1
    return {"seconds": time.perf_counter() - began, "dropped": dropped}


def apart(*arguments: str) -> dict:
    """A side in a process of its own, on one core."""
    one = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, __file__, "--side", *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, **one})
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--texts", type=int, default=20_000)
    flags.add_argument("--size", type=int, default=384)
    flags.add_argument("--side", nargs="+")
    given = flags.parse_args()
    if given.side:
        kind, *rest = given.side
        found = ours(rest[0], int(rest[1])) if kind == "ours" else floor(*map(int, rest))
        peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
        print(json.dumps({**found, "mb": peak}))
        return
    with serving(vectors(given.texts, given.size)) as url:
        our = apart("ours", url, str(given.texts))
    every = apart("floor", str(given.texts), str(given.size))
    recall = len(set(our["dropped"]) & set(every["dropped"])) / len(every["dropped"])
    print(f"{'':<14}{'seconds':>9}{'MB':>7}{'dropped':>9}")
    print(f"{'in clusters':<14}{our['seconds']:>9.1f}{our['mb']:>7.0f}{len(our['dropped']):>9}")
    print(f"{'every pair':<14}{every['seconds']:>9.1f}{every['mb']:>7.0f}{len(every['dropped']):>9}")
    print(f"recall {recall:.3f}; {given.texts / our['asking_s']:,.0f} vectors a second from the server")
    ratio = every["seconds"] / our["seconds"]
    summary = {"benchmark": "semantic", "ratio": round(ratio, 2), "goal": GOAL}
    summary["holds"] = ratio >= GOAL and recall >= LEAST_RECALL
    figures = {"seconds": our["seconds"], "mb": our["mb"], "recall": recall, "vectors_s": given.texts / our["asking_s"]}
    print(json.dumps({**summary, **{name: round(value, 3) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
