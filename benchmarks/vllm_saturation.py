"""How much of vLLM's own throughput comes through its server and this client.

    python benchmarks/vllm_saturation.py [--prompts 500] [--rounds 5]

A model of 51 million random parameters answers 500 prompts of mixed lengths with 16 tokens each, greedily and without
end-of-text, so both sides do the same work. The peer is `vllm.LLM.generate` over all prompts at once. Both engines are
loaded with the same flags, idle while the other is measured, and take turns; the ratio is the median of the rounds'.
vLLM's environment is made by benchmarks/vllm_env.py.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import random_model, vllm_env  # noqa: E402
from reinstruct.llm import Request, Sampling  # noqa: E402
from reinstruct.served import Served  # noqa: E402
from reinstruct.vllm_launch import Serving, find_vllm  # noqa: E402
from reinstruct.vllm_server import Replicas  # noqa: E402

GOAL = 0.97
TOKENS = 16
WORDS = (4, 40)  # of a prompt, at least and at most
MODEL = ROOT / ".bench" / "random-51m"
FLAGS = "--dtype float32 --enforce-eager --max-num-seqs 256 --max-num-batched-tokens 4096 --no-enable-prefix-caching"

# The peer: vLLM alone. It says how long each round took, and how many tokens it made.
OFFLINE = """
import json, sys, time
from vllm import LLM, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser

prompts, tokens, argv = json.loads(sys.stdin.readline())
parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
llm = LLM.from_engine_args(EngineArgs.from_cli_args(parser.parse_args(argv)))
sampling = SamplingParams(temperature=0, max_tokens=tokens)
print("ready", flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, sum(len(output.outputs[0].token_ids) for output in outputs)]), flush=True)
"""


class Offline:
    """The peer in its process."""

    def __init__(self, python: Path, prompts: list[str], log: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log.open("w"), "text": True}
        quiet = {"VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_NO_USAGE_STATS": "1"}
        self._process = subprocess.Popen([python, "-c", OFFLINE], env={**environment(), **quiet}, **pipes)
        self._tell(json.dumps([prompts, TOKENS, ["--model", str(MODEL), *FLAGS.split()]]))
        while (line := self._process.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"the offline engine did not start; see {log}")

    def round(self) -> tuple[float, int]:
        self._tell("go")
        seconds, tokens = json.loads(self._process.stdout.readline())
        return seconds, tokens

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}


def served_round(urls: tuple[str, ...], prompts: list[str]) -> tuple[float, int]:
    """Seconds and tokens of all prompts through the server."""
    requests = (Request(str(n), prompt, position=n) for n, prompt in enumerate(prompts))
    began = time.perf_counter()
    client = Served(urls)
    replies = [reply for batch in client.complete(requests, Sampling(max_tokens=TOKENS)) for _, reply in batch]
    seconds = time.perf_counter() - began
    assert len(replies) == len(prompts)
    return seconds, sum(reply.completion_tokens for reply in replies)


def measured(python: Path, prompts: list[str], rounds: int) -> dict[str, list[tuple[float, int]]]:
    logs = ROOT / ".bench" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    server = Replicas(find_vllm(str(python)), Serving(str(MODEL), "random", flags=tuple(FLAGS.split())), logs)
    try:
        server.start()
        peer = Offline(python, prompts, logs / "offline.log")
        served_round(server.urls, prompts[:64])  # to warm up
        found: dict[str, list[tuple[float, int]]] = {"vLLM alone": [], "reinstruct": []}
        peer.round()
        for number in range(rounds):
            sides = [("vLLM alone", peer.round), ("reinstruct", lambda: served_round(server.urls, prompts))]
            for name, side in sides if number % 2 == 0 else reversed(sides):
                found[name].append(side())
                print(f"{name:<12}{found[name][-1][0]:>8.2f} s", file=sys.stderr)
        peer.close()
        return found
    finally:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    python = vllm_env.python()
    if not (MODEL / "model.safetensors").exists():
        subprocess.run([sys.executable, ROOT / "benchmarks" / "random_model.py", MODEL], check=True)
    found = measured(python, random_model.texts(given.prompts, *WORDS), given.rounds)
    print(f"{given.prompts} prompts of {WORDS[0]} to {WORDS[1]} words, {TOKENS} tokens each; vLLM flags: {FLAGS}")
    print(f"{'':<12}{'median s':>10}{'fastest s':>11}{'tokens':>9}{'tokens/s':>10}")
    for name, runs in found.items():
        seconds, tokens = statistics.median(run[0] for run in runs), runs[0][1]
        fastest = min(run[0] for run in runs)
        print(f"{name:<12}{seconds:>10.2f}{fastest:>11.2f}{tokens:>9,}{tokens / seconds:>10.1f}")
    same_work = len({run[1] for runs in found.values() for run in runs}) == 1
    ratios = [peer[0] / own[0] for peer, own in zip(found["vLLM alone"], found["reinstruct"], strict=True)]
    ratio = round(statistics.median(ratios), 3)
    summary = {"benchmark": "vllm_saturation", "ratio": ratio, "goal": GOAL, "holds": ratio >= GOAL and same_work}
    print(json.dumps({**summary, "tokens": found["reinstruct"][0][1], "prompts": given.prompts}))


if __name__ == "__main__":
    main()
