"""What the order of asking does for vLLM's prefix cache.

    python benchmarks/prefix_order.py

512 requests with 64 beginnings of about 500 tokens, in rows that alternate between them, to one real vLLM server whose
cache holds half of the beginnings. The peer is the same client asking in the rows' order; both sides have beginnings
of their own. Counted are the tokens that vLLM says it looked for in its cache, and found there. The floor of misses is
each beginning once.
"""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import random_model, vllm_env  # noqa: E402
from reinstruct.llm import LLM, Request, Sampling  # noqa: E402
from reinstruct.prefixes import ByPrefix  # noqa: E402
from reinstruct.served import Served  # noqa: E402
from reinstruct.vllm_launch import Serving, find_vllm  # noqa: E402
from reinstruct.vllm_server import Replicas  # noqa: E402

MODEL = ROOT / ".bench" / "random-1m"
BEGINNINGS, EACH, WORDS = 64, 8, 372
FLAGS = "--dtype float32 --enforce-eager --max-num-seqs 16 --num-gpu-blocks-override 128"  # blocks of 128
GOAL = 0.8  # share of prompt tokens found; 7/8 of the prompts could find their beginning


def requests(seed: int) -> list[Request]:
    """Rows in which the beginnings alternate."""
    beginnings = random_model.texts(BEGINNINGS, WORDS, WORDS, seed=seed)
    prompts = [f"{beginnings[n % BEGINNINGS]} {n}" for n in range(BEGINNINGS * EACH)]
    return [Request(str(n), prompt, position=n) for n, prompt in enumerate(prompts)]


def cached(url: str) -> tuple[float, float]:
    """Tokens looked for and found in the cache since the server was started."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if line.startswith("vllm:prefix_cache")]
    found = {name.partition("{")[0]: float(value) for name, value in lines}
    return found["vllm:prefix_cache_queries_total"], found["vllm:prefix_cache_hits_total"]


def measured(llm: LLM, url: str, seed: int) -> dict[str, float]:
    asked = requests(seed)
    before, began = cached(url), time.perf_counter()
    replies = sum(len(batch) for batch in llm.complete(asked, Sampling(max_tokens=2)))
    seconds, after = time.perf_counter() - began, cached(url)
    assert replies == len(asked)
    looked_for = after[0] - before[0]
    return {"tokens": looked_for, "share": (after[1] - before[1]) / looked_for, "seconds": seconds}


def main() -> None:
    python = vllm_env.python()
    if not (MODEL / "model.safetensors").exists():
        make = "import sys; from benchmarks.random_model import make; make(sys.argv[1], hidden=64, layers=2)"
        MODEL.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", make, MODEL], check=True, cwd=ROOT)
    logs = ROOT / ".bench" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    server = Replicas(find_vllm(str(python)), Serving(str(MODEL), "prefixes", flags=tuple(FLAGS.split())), logs)
    try:
        server.start()
        client = Served(server.urls)
        found = {
            "rows' order": measured(client, server.urls[0], 1),
            "by prefix": measured(ByPrefix(client), server.urls[0], 2),
        }
    finally:
        server.close()
    print(f"{'':<14}{'prompt tokens':>14}{'found':>8}{'seconds':>9}")
    for name, figures in found.items():
        print(f"{name:<14}{figures['tokens']:>14,.0f}{figures['share']:>8.1%}{figures['seconds']:>9.1f}")
    share, before = (round(found[name]["share"], 3) for name in ("by prefix", "rows' order"))
    summary = {"benchmark": "prefix_order", "ratio": share, "goal": GOAL, "holds": share >= GOAL, "before": before}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
