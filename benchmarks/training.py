"""Fine-tuning speed: rows dealt to full passes and logits of targets alone, against padding every row to the limit.

    python benchmarks/training.py                 # rows of Open Assistant, where the test data are; else of examples/
    python benchmarks/training.py --only kill     # what a kill and a resume cost; or: --only speed
    python benchmarks/training.py --only loss     # losses of both sides after more steps than padding leaves time for
    python benchmarks/training.py --only gpu      # model FLOP utilisation on a GPU (utilisation.py)

The peer is the released recipe of REInstruct as its train/sft.py sets it, on today's transformers: each row padded to
2,048 tokens, one row a pass, logits of every position. Both sides train the same random Llama (about 50 million
parameters) on the same rows in the same order, in processes of their own, in turn. Tokens are those of the rows.
For losses alone the model is smaller and the peer leaves out the padding, which counts in no loss but is most work.
"""

import argparse
import gzip
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT = 2048  # tokens, as in the release
GOAL = 3.0
LOST = 1.5  # most that a training may take with a kill and a new start, of one without
CHECKPOINT_S = 5  # between checkpoints
RATE = 5e-4  # high for so few steps: the loss has to move
LONGEST_S = 3600  # of one side
APART = 0.02  # most that the losses of the two sides may differ for any seed
NOISE = 0.1  # most that they may differ on average, as a share of the standard deviation over seeds


def pairs() -> list[tuple[str, str]]:
    """Instructions and responses of natural lengths."""
    data = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
    trees = data / "seed" / "oasst_trees_100.jsonl.gz"
    if trees.exists():
        with gzip.open(trees, "rt", encoding="utf-8") as file:
            prompts = [json.loads(line)["prompt"] for line in file]
        return [(asked["text"], reply["text"]) for asked in prompts for reply in asked["replies"]]
    rows = [json.loads(line) for line in (ROOT / "examples" / "seed.jsonl").read_text(encoding="utf-8").splitlines()]
    return [("\n\n".join(filter(None, (row["instruction"], row["input"]))), row["output"]) for row in rows]


def prepare(folder: Path, *, small: bool) -> None:
    """The rows and the model in `folder`; a `small` one has about 4 million parameters."""
    import pyarrow.parquet as pq

    from reinstruct.recipes.reinstruct import Prompts
    from reinstruct.records import Example, Pair, to_table
    from reinstruct.stages.instruct import PutToModel
    from reinstruct.train.model import quiet
    from reinstruct.train.scratch import Size, new_model
    from reinstruct.train.text import train_tokenizer

    quiet()
    said = pairs()
    prompts = Prompts()
    put = PutToModel(prompts.chat, (prompts.seed_tag,))
    rows = [put.apply(Pair(id=str(n), instruction=asked, output=told)) for n, (asked, told) in enumerate(said)]
    pq.write_table(to_table(rows, Example), folder / "rows.parquet")
    vocabulary, width, layers = (4_096, 256, 4) if small else (16_384, 512, 13)
    tokenizer = train_tokenizer([row.prompt + row.target for row in rows], vocabulary)
    size = Size(vocabulary, width, layers, width // 64, 3 * width, LIMIT, 1, 1, RATE, LIMIT)
    model = new_model(size, tokenizer, seed=0)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    print(f"{model.num_parameters():,} parameters, {len(rows)} rows")


def ours(folder: Path, steps: int, batch: int, seed: int, name: str = "ours") -> dict[str, Any]:
    """The product's own job. A kill may end it at any moment; run again, it goes on."""
    from reinstruct.train.job import make_job, run

    epochs = (steps - 0.5) * batch / len(json.loads((folder / "lengths.json").read_text()))
    settings = {"epochs": epochs, "learning_rate": RATE, "batch_size": batch, "max_tokens": LIMIT, "seed": seed}
    place = folder / f"{name}-{seed}"
    work = {"work": str(place / "work"), "out": str(place / "out"), "checkpoint_s": CHECKPOINT_S}
    job = {"kind": "sft", "data": [str(folder / "rows.parquet")], "base": str(folder / "base"), "settings": settings}
    metrics = run(make_job({**job, **work}))
    assert metrics["steps"] == steps, metrics["steps"]
    losses = [loss for _, loss in metrics["curve"]]
    return {"tokens_per_s": metrics["tokens_per_s"], "loss": final(losses), "packing": metrics["packing"]}


def final(losses: list[float]) -> float:
    """Mean over the last quarter of the steps: that of one step is noise."""
    return statistics.mean(losses[-max(1, len(losses) // 4) :])


def released(folder: Path, steps: int, batch: int, seed: int, *, padded: bool) -> dict[str, Any]:
    """The released recipe: padding to the limit if `padded`, logits of all tokens."""
    import datasets
    import torch
    from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainingArguments

    from reinstruct.train import model as models
    from reinstruct.train.rows import encode_all, read_examples
    from reinstruct.train.schedule import Schedule, order
    from reinstruct.train.settings import Sft

    models.quiet()
    tokenizer = models.load_tokenizer(str(folder / "base"))
    model = models.load_model(str(folder / "base"), tokenizer)
    rows = encode_all(read_examples([str(folder / "rows.parquet")]), tokenizer, LIMIT).rows
    planned = order(rows, range(len(rows)), Schedule(steps, batch, Sft(seed=seed)))

    def features(row: int) -> dict[str, list[int]]:
        ids, prompt = rows.tokens(row).tolist(), rows.prompt_tokens(row)
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * prompt + ids[prompt:]}

    arguments = TrainingArguments(
        output_dir=str(folder / "released"),
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=batch,
        train_sampling_strategy="sequential",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, padding="max_length" if padded else "longest", max_length=LIMIT)
    data = datasets.Dataset.from_list([features(row) for row in planned])
    trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=collator)
    trainer.remove_callback(PrinterCallback)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"tokens_per_s": sum(rows.lengths[row] for row in planned) / seconds, "loss": final(losses)}


def side(name: str, folder: Path, steps: int, batch: int, seed: int) -> dict[str, Any]:
    """One side in a process of its own, and the most memory it held, in megabytes."""
    command = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--seed", str(seed)]
    command += ["--steps", str(steps), "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, env=environment(), check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def write_lengths(folder: Path) -> list[int]:
    from reinstruct.train import model as models
    from reinstruct.train.rows import encode_all, read_examples

    tokenizer = models.load_tokenizer(str(folder / "base"))
    lengths = encode_all(read_examples([str(folder / "rows.parquet")]), tokenizer, LIMIT).rows.lengths
    (folder / "lengths.json").write_text(json.dumps(list(lengths)))
    return list(lengths)


def killed(folder: Path, steps: int, batch: int) -> dict[str, Any]:
    """The result for an undisturbed run, and for one that is killed after its first checkpoint and run again."""
    began = time.perf_counter()
    side("whole", folder, steps, batch, 0)
    whole = time.perf_counter() - began
    print(f"undisturbed: {whole:.1f} s", flush=True)
    began = time.perf_counter()
    kill(folder, steps, batch)
    side("killed", folder, steps, batch, 0)
    twice = time.perf_counter() - began
    print(f"killed and started again: {twice:.1f} s", flush=True)
    weights = [(folder / f"{name}-0" / "out" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    same, ratio = weights[0] == weights[1], twice / whole
    told = {"benchmark": "training, killed", "ratio": round(ratio, 2), "goal": LOST, "holds": ratio <= LOST and same}
    return {**told, "undisturbed_s": round(whole, 1), "killed_s": round(twice, 1), "same_weights": same}


def kill(folder: Path, steps: int, batch: int) -> None:
    """Start the job and kill it, as far from its first checkpoint as may be."""
    checkpoints = folder / "killed-0" / "work" / "checkpoints"
    command = [sys.executable, __file__, "--side", "killed", "--folder", str(folder), "--seed", "0"]
    command += ["--steps", str(steps), "--batch", str(batch)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()) as process:
        while not any(checkpoints.glob("*/checkpoint-*/manifest.json")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(random.Random(0).uniform(0, CHECKPOINT_S))
        process.send_signal(signal.SIGKILL)
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"it had ended (exit code {process.returncode}) before it could be killed: give more --steps")


def raced(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The result for speed, memory and loss: both sides in turn for every seed, told in a table."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "released": []}
    for seed in range(options.seed, options.seed + options.seeds):
        for name, results in found.items():
            began = time.perf_counter()
            results.append(side(name, folder, options.steps, options.batch, seed))
            told = f"{results[-1]['tokens_per_s']:.0f} tokens/s, {time.perf_counter() - began:.0f} s with the start"
            print(f"seed {seed}, {name}: {told}", flush=True)
    print(f"{'':<10}{'tokens/s':>10}{'peak MB':>10}  final loss by seed")
    for name, results in found.items():
        speed, memory = (statistics.median(each[key] for each in results) for key in ("tokens_per_s", "peak_mb"))
        print(f"{name:<10}{speed:>10.0f}{memory:>10.0f}  {', '.join(format(each['loss'], '.4f') for each in results)}")
    ratios = [our["tokens_per_s"] / their["tokens_per_s"] for our, their in zip(*found.values(), strict=True)]
    losses = compared(*([each["loss"] for each in results] for results in found.values()))
    memory = [statistics.median(each["peak_mb"] for each in results) for results in found.values()]
    ratio = statistics.median(ratios)
    holds = ratio >= GOAL and losses["largest_difference"] < APART
    told = {"benchmark": "training", "ratio": round(ratio, 2), "goal": GOAL, "holds": holds}
    return {**told, "steps": options.steps, "losses": losses, "peak_mb": memory, "packing": found["ours"][0]["packing"]}


def learnt(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The result for the loss alone: the mean difference of the sides as a share of the spread over seeds."""
    found: tuple[list[float], list[float]] = ([], [])
    for seed in range(options.seed, options.seed + options.seeds):
        sized = (folder, options.steps, options.batch, seed)
        for losses, result in zip(found, (ours(*sized), released(*sized, padded=False)), strict=True):
            losses.append(result["loss"])
        print(f"seed {seed}: ours {found[0][-1]:.4f}, released {found[1][-1]:.4f}", flush=True)
    losses = compared(*found)
    ratio = abs(losses["mean_difference"]) / max(min(losses["spread_over_seeds"]), 1e-9)
    holds = ratio <= NOISE and losses["largest_difference"] < APART
    told = {"benchmark": "training, loss", "ratio": round(ratio, 5), "goal": NOISE, "holds": holds}
    return {**told, "steps": options.steps, "losses": losses}


def compared(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Final losses of both sides: how far apart, for the same seed and on average, against their spread over seeds."""
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    return {
        "ours": [round(loss, 4) for loss in ours],
        "released": [round(loss, 4) for loss in theirs],
        "mean_difference": round(statistics.mean(differences), 6),
        "largest_difference": round(max(map(abs, differences)), 6),
        "spread_over_seeds": [round(statistics.stdev(side), 4) if len(side) > 1 else 0.0 for side in (ours, theirs)],
    }


def compare(folder: Path, options: argparse.Namespace) -> None:
    """The parts that are asked for; the last line is their result."""
    prepare(folder, small=options.only == "loss")
    lengths = write_lengths(folder)
    print(f"tokens of a row: median {statistics.median(lengths):.0f}, longest {max(lengths)}", flush=True)
    result: dict[str, Any] = {}
    if options.only in (None, "kill"):
        result = killed(folder, 3 * options.steps, options.batch)
    if options.only in (None, "speed"):
        result = {**raced(folder, options), **({"killed": result} if result else {})}
    if options.only == "loss":
        result = learnt(folder, options)
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "kill", "loss", "gpu"))
    parser.add_argument("--parameters", default="1B", help="of the model, for gpu")
    parser.add_argument("--sequence", type=int, default=LIMIT, help="tokens of a row, for gpu")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in dense bf16, where it is none that is known")
    parser.add_argument("--side", choices=("ours", "released", "whole", "killed"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    options = parser.parse_args()
    if options.only == "gpu":
        from utilisation import measured

        print(json.dumps(measured(options.parameters, options.sequence, options.peak_tflops)))
        return
    if not options.side:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), options)
        return
    sized = (options.folder, options.steps, options.batch, options.seed)
    result = released(*sized, padded=True) if options.side == "released" else ours(*sized, name=options.side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**result, "peak_mb": round(peak)}))


if __name__ == "__main__":
    main()
