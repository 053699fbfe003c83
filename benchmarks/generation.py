"""Tokens a second of the engine in this process, against a loop over `model.generate` in batches.

    python benchmarks/generation.py [--prompts 200] [--rounds 3]

A Llama of 10 million random parameters answers prompts of 8 to 80 words, greedily, with at most 128 tokens each; one
token in 64 ends a reply, so replies are of many lengths, as real ones are. The other side is what everybody writes:
prompts in the order they come, 32 at a time, padded at the left, `generate()`, decode. Both load the same folder and
take turns; the ratio is the median of the rounds', and every text must be the same.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import random_model  # noqa: E402
from reinstruct.engine import InProcess  # noqa: E402
from reinstruct.llm import Request, Sampling  # noqa: E402

GOAL = 1.5
MODEL = ROOT / ".bench" / "random-10m"
WORDS = (8, 80)  # of a prompt, at least and at most
MAX_TOKENS = 128
BATCH = 32
ENDS_ONE_IN = 64  # tokens of the vocabulary
Side = Callable[[list[str]], list[tuple[str, int]]]  # prompts to texts, and how many tokens each has


def model_folder() -> str:
    """The model, made once; its generation settings name the tokens that end a reply."""
    if not (MODEL / "model.safetensors").exists():
        MODEL.mkdir(parents=True, exist_ok=True)
        random_model.make(str(MODEL), hidden=256, layers=6, vocabulary=8_192)
        settings = MODEL / "generation_config.json"
        ends = list(range(1, 8_192, ENDS_ONE_IN))
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": ends}))
    return str(MODEL)


def plain(folder: str, device: str) -> Side:
    """The loop over `generate`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    ends = set(model.generation_config.eos_token_id)

    def reply(ids: list[int]) -> tuple[str, int]:
        length = next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))
        kept = ids[: length - 1] if ids[length - 1] in ends else ids[:length]
        return tokenizer.decode(kept, skip_special_tokens=True).rstrip("\ufffd"), length

    def answer(prompts: list[str]) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for start in range(0, len(prompts), BATCH):
            inputs = tokenizer(prompts[start : start + BATCH], return_tensors="pt", padding=True).to(device)
            out = model.generate(
                **inputs, max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
            found += [reply(ids) for ids in out[:, inputs["input_ids"].shape[1] :].tolist()]
        return found

    return answer


def ours(folder: str, device: str) -> Side:
    engine = InProcess(folder, max_batch=BATCH, device=device)

    def answer(prompts: list[str]) -> list[tuple[str, int]]:
        requests = (Request(str(number), prompt, position=number) for number, prompt in enumerate(prompts))
        found = {
            request.position: (reply.text, reply.completion_tokens)
            for batch in engine.complete(requests, Sampling(max_tokens=MAX_TOKENS))
            for request, reply in batch
        }
        return [found[number] for number in range(len(prompts))]

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    folder, prompts = model_folder(), random_model.texts(given.prompts, *WORDS)
    sides = {"generate": plain(folder, given.device), "reinstruct": ours(folder, given.device)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    said: dict[str, list[tuple[str, int]]] = {}
    for side in sides.values():
        side(prompts[:BATCH])  # to warm up
    for number in range(given.rounds):
        for name, side in sorted(sides.items(), reverse=number % 2 == 1):
            began = time.perf_counter()
            said[name] = side(prompts)
            seconds[name].append(time.perf_counter() - began)
            print(f"{name:<12}{seconds[name][-1]:>8.2f} s", file=sys.stderr)
    lengths = [tokens for _, tokens in said["generate"]]
    print(
        f"{given.prompts} prompts of {WORDS[0]} to {WORDS[1]} words; replies of {min(lengths)} to {max(lengths)} tokens"
    )
    print(f"{'':<12}{'median s':>10}{'tokens':>9}{'tokens/s':>10}")
    for name, runs in seconds.items():
        tokens, median = sum(count for _, count in said[name]), statistics.median(runs)
        print(f"{name:<12}{median:>10.2f}{tokens:>9,}{tokens / median:>10.0f}")
    differing = sum(one != other for one, other in zip(*said.values(), strict=True))
    ratio = round(statistics.median(a / b for a, b in zip(*seconds.values(), strict=True)), 2)
    summary = {"benchmark": "generation", "ratio": ratio, "goal": GOAL, "holds": ratio >= GOAL and not differing}
    print(json.dumps({**summary, "differing_texts": differing, "median_tokens": statistics.median(lengths)}))


if __name__ == "__main__":
    main()
