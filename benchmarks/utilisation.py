"""Model FLOP utilisation of fine-tuning on one GPU: the share of its peak that the model's own arithmetic takes.

    python benchmarks/training.py --only gpu                     # a Llama of a billion parameters, rows of 2,048 tokens
    python benchmarks/training.py --only gpu --parameters 1M --sequence 128 --peak-tflops 0.1    # to see that it works

The product's own job trains a random Llama in bf16 on rows that fill the sequence, with and without recomputed
activations, each in a process of its own. Arithmetic by the usual formula (PaLM, Chowdhery et al. 2022, appendix B): 6
operations for each parameter and token, and 12 x layers x width x sequence for attention; what is recomputed does not
count. The peak is that of dense bf16, as the maker states it. Without a GPU there is no figure, unless a peak is given.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOAL = 0.5
STEPS, WARM = 14, 4  # steps, and how many of them do not count
BATCH = 8  # rows of a step
VOCABULARY = 32_000
PEAKS = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "A100": 312.0}  # TFLOPS, dense bf16; the first that fits
UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def count(text: str) -> int:
    """1B, 350M or plain digits."""
    unit = UNITS.get(text[-1].upper(), 1)
    return int(float(text.rstrip("".join(UNITS) + "kmb")) * unit)


def shape(parameters: int) -> tuple[int, int, int]:
    """(vocabulary, width, layers) of a Llama with about so many parameters, tied, some 100 times as wide as deep."""
    vocabulary, unit = (VOCABULARY, 256) if parameters >= 100_000_000 else (1024, 64)
    found = []
    for width in range(unit, 8193, unit):
        layers = max(1, round((parameters - vocabulary * width) / (12 * width * width)))
        off = abs(vocabulary * width + 12 * width * width * layers - parameters) / parameters
        if off < 0.1:
            found.append((abs(width / layers - 100), width, layers))
    return (vocabulary, *min(found)[1:])


def flops_of_token(parameters: int, layers: int, width: int, sequence: int) -> int:
    """Of one training step, forwards and backwards."""
    return 6 * parameters + 12 * layers * width * sequence


def peak_of(name: str, given: float | None) -> float:
    """TFLOPS of a device."""
    known = next((peak for part, peak in PEAKS.items() if all(word in name for word in part.split())), None)
    if given or known:
        return given or known or 0.0
    if name:
        raise SystemExit(f"the peak of {name} is not known: give it as --peak-tflops")
    raise SystemExit("there is no GPU: nothing was measured (--peak-tflops tries the script itself on a CPU)")


def device() -> str:
    """The name of the GPU; empty without one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def prepare(folder: Path, parameters: int, sequence: int) -> dict[str, int]:
    """A base and rows of exactly `sequence` tokens in `folder`; what the model has become."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from reinstruct.records import Example, to_table

    raw = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(["</s>", *LETTERS])}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>").save_pretrained(folder / "base")
    vocabulary, width, layers = shape(parameters)
    heads = width // (128 if width % 128 == 0 else 64)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=width * 8 // 3 // 64 * 64,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=sequence,
            tie_word_embeddings=True,
            eos_token_id=0,
        )
    )
    model.save_pretrained(folder / "base")
    draw = random.Random(0)
    texts = ["".join(draw.choices(LETTERS, k=sequence - 2)) for _ in range(4 * BATCH)]
    said = [Example(id=str(n), prompt="a", target=text) for n, text in enumerate(texts)]
    pq.write_table(to_table(said, Example), folder / "rows.parquet")
    return {"parameters": model.num_parameters(), "layers": layers, "width": width}


def trained(folder: Path, checkpointing: str, sequence: int) -> dict[str, Any]:
    """The middle time of a step in seconds, and the most memory held in bytes."""
    import torch

    from reinstruct.train.job import make_job, run

    settings = {"epochs": (STEPS - 0.5) / 4, "batch_size": BATCH, "max_tokens": sequence, "precision": "bf16"}
    settings |= {"checkpointing": checkpointing, "learning_rate": 1e-5}
    place = {"work": str(folder / checkpointing), "out": str(folder / f"out-{checkpointing}"), "checkpoint_s": 1e9}
    job = {"kind": "sft", "data": [str(folder / "rows.parquet")], "base": str(folder / "base"), "settings": settings}
    ends: list[float] = []
    metrics = run(make_job({**job, **place}), lambda done, total: ends.append(time.perf_counter()))
    assert metrics["steps"] == STEPS == len(ends), metrics["steps"]
    assert metrics["packing"]["row_tokens"] == {"min": sequence, "median": sequence, "p95": sequence, "max": sequence}
    times = [end - before for before, end in zip(ends[WARM - 1 :], ends[WARM:], strict=False)]
    on_gpu = torch.cuda.is_available()
    held = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"step_s": statistics.median(times), "peak_bytes": held, "layout": metrics["packing"]["layout"]}


def one_side(folder: Path, checkpointing: str, sequence: int) -> dict[str, Any]:
    """As `trained`, in a process of its own."""
    command = [sys.executable, __file__, str(folder), checkpointing, str(sequence)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measured(parameters: str, sequence: int, peak_tflops: float | None) -> dict[str, Any]:
    """The result. SystemExit where there is no GPU and no peak is given."""
    name = device()
    peak = peak_of(name, peak_tflops)
    sides: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = prepare(folder, count(parameters), sequence)
        flops = flops_of_token(model["parameters"], model["layers"], model["width"], sequence)
        for recomputed in ("no", "yes"):
            side = one_side(folder, recomputed, sequence)
            speed = BATCH * sequence / side["step_s"]
            figures = {"tokens_per_s": round(speed), "peak_gb": round(side["peak_bytes"] / 1e9, 2)}
            sides[recomputed] = {"mfu": round(speed * flops / (peak * 1e12), 4), **figures, "layout": side["layout"]}
            print(f"activations recomputed: {recomputed}: {sides[recomputed]}", flush=True)
    best = max(side["mfu"] for side in sides.values())
    told = {"benchmark": "training, GPU", "ratio": best, "goal": GOAL, "holds": best >= GOAL}
    told |= {"device": name or "no GPU: this says nothing of one", "peak_tflops": peak, "sequence": sequence, **model}
    return {**told, "recomputed": sides}


def main(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpointing", choices=("no", "yes"))
    parser.add_argument("sequence", type=int)
    options = parser.parse_args(given)
    print(json.dumps(trained(options.folder, options.checkpointing, options.sequence)))


if __name__ == "__main__":
    main(sys.argv[1:])
