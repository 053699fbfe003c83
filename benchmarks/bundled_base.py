"""What a base model of `reinstruct pretrain` has learnt, in bits a byte of text it never saw, against two floors.

    reinstruct pretrain CORPUS... --licence ... --out RUN
    python benchmarks/bundled_base.py RUN [--model FOLDER]

All three learn from the training texts of RUN and are measured on its held-out texts, given the same first sentences:
the model (RUN/model, or --model), what scratch:tiny makes of these texts, and a 5-gram model with interpolated
Kneser-Ney smoothing (Chen and Goodman 1999) over the 4,096 tokens of scratch:tiny. A byte is one of the held-out text.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reinstruct.layout import output_parts
from reinstruct.planfile import newest, steps_of
from reinstruct.store import open_store
from reinstruct.train.job import Job, run
from reinstruct.train.rows import read_examples
from reinstruct.train.settings import Pretrain, Sft

ROOT = Path(__file__).parents[1]
GOAL = 1.05
ORDER, BITS = 5, 12  # tokens of a run, bits of a token: five of them are one number


class Level:
    """Runs of `length` tokens and how often each stands: in the text for the longest, else behind how many tokens.

    Of the first tokens of the runs (`heads`): the sum of these times, and how many different tokens follow.
    """

    def __init__(self, runs: Any, length: int) -> None:
        self.length = length
        self.runs, self.times = np.unique(runs, return_counts=True)
        self.heads, first = np.unique(self.runs >> BITS, return_index=True)
        self.totals = np.add.reduceat(self.times, first)
        self.kinds = np.append(first[1:], len(self.runs)) - first
        once, twice = (int((self.times == n).sum()) for n in (1, 2))
        self.discount = once / max(1, once + 2 * twice) or 0.5

    def shorter(self) -> "Level":
        return Level(last(self.runs, self.length - 1), self.length - 1)

    def likely(self, runs: Any, shorter: Any) -> Any:
        """P of the last token of each run after the others; `shorter` is that without the first."""
        seen = looked_up(self.runs, self.times, runs)
        total, kinds = (looked_up(self.heads, values, runs >> BITS) for values in (self.totals, self.kinds))
        own = np.maximum(seen - self.discount, 0) + self.discount * kinds * shorter
        return np.where(total > 0, own / np.maximum(total, 1), shorter)


class NGrams:
    """P(token | the four before), interpolated Kneser-Ney with one discount an order."""

    def __init__(self, stream: Any, vocabulary: int) -> None:
        self.vocabulary, self.levels = vocabulary, [Level(packed(stream), ORDER)]
        while self.levels[-1].length > 1:
            self.levels.append(self.levels[-1].shorter())

    def bits(self, runs: Any) -> Any:
        """-log2 P of the last token of each run of five, after the others."""
        likely = np.full(len(runs), 1 / self.vocabulary)
        for level in reversed(self.levels):
            likely = level.likely(last(runs, level.length), likely)
        return -np.log2(likely)


def last(runs: Any, length: int) -> Any:
    """The last so many tokens of each run."""
    return runs & ((1 << BITS * length) - 1)


def packed(stream: Any) -> Any:
    """Every run of five neighbours as one number, the last token in the lowest bits."""
    wide = np.asarray(stream, np.uint64)
    count = len(wide) - ORDER + 1
    found = np.zeros(count, np.uint64)
    for place in range(ORDER):
        found = (found << np.uint64(BITS)) | wide[place : place + count]
    return found.astype(np.int64)


def looked_up(keys: Any, values: Any, wanted: Any) -> Any:
    """The value of each wanted key; 0 where there is none. Keys are sorted."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


def texts(files: list[str]) -> Iterator[str]:
    import pyarrow.parquet as pq

    for file in files:
        yield from pq.read_table(file, columns=["text"]).column(0).to_pylist()


def five_grams(folder: str, trained: list[str], tested: list[str]) -> float:
    """Bits of the held-out targets, their ends included."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer) > 1 << BITS:
        sys.exit(f"{folder} has {len(tokenizer)} tokens; the 5-gram model takes {1 << BITS} at most")
    end = [tokenizer.eos_token_id]

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    stream = [token for text in texts(trained) for token in (*ids(text), *end)]
    model = NGrams([*end * ORDER, *stream], len(tokenizer))
    total = 0.0
    for example in read_examples(tested):
        target = [*ids(example.target), *end]
        runs = packed([*end * (ORDER - 1), *ids(example.prompt), *target])
        total += float(model.bits(runs[-len(target) :]).sum())
    return total


def loss_bits(folder: str, tested: list[str], work: Path) -> float:
    """Bits of the same under a model, by the product's own measurement."""
    job = Job(kind="loss", base=folder, data=tuple(tested), work=str(work), out=str(work / "loss"), settings=Sft())
    measured = run(job)
    assert not measured["rejected"], measured["rejected"]
    return measured["nll"] * measured["tokens"] / math.log(2)


def tiny(trained: list[str], work: Path) -> str:
    job = Job(kind="base", data=tuple(trained), work=str(work / "w"), out=str(work / "tiny"), settings=Pretrain("tiny"))
    run(job)
    return job.out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", help="folder of a run of reinstruct pretrain")
    parser.add_argument("--model", default="", help="another model than RUN/model, such as a bundled one's folder")
    given = parser.parse_args()
    store = open_store(given.run)
    steps = {step.name: step for step in steps_of(newest(store)).values()}
    trained, tested = (
        [str(store.path(part.name)) for part in output_parts(store, steps[name])]
        for name in ("train-texts", "held-out")
    )
    folder = given.model or str(store.path("model"))
    size = sum(len(example.target.encode()) for example in read_examples(tested))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        small = tiny(trained, work)
        figures = {
            "model": loss_bits(folder, tested, work) / size,
            "scratch:tiny": loss_bits(small, tested, work / "t") / size,
            "5-gram": five_grams(small, trained, tested) / size,
        }
    for name, bits in figures.items():
        print(f"{name:<14} {bits:.4f} bits a byte")
    ratio = min(figures["scratch:tiny"], figures["5-gram"]) / figures["model"]
    told = {"benchmark": "bundled_base", "ratio": round(ratio, 3), "goal": GOAL, "holds": ratio >= GOAL}
    rounded = {name: round(bits, 4) for name, bits in figures.items()}
    print(json.dumps({**told, "bits_per_byte": rounded, "bytes": size, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
