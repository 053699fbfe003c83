"""The whole of REInstruct through the command line, with real training and generation, killed on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from reinstruct.reply_frames import frames_in
from tests.conftest import SEED

pytestmark = pytest.mark.slow

TOPICS = ("a bicycle", "a loose shelf", "a slow kettle", "an old radio", "a garden gate", "a wooden boat")
ADVICE = (
    "Look at {thing} in good light and note what is wrong with it before you take any of it apart.",
    "Clean every part of {thing} with a soft cloth, because dirt hides cracks and the marks of wear.",
    "Replace what is broken with a part of the same size, and keep the old one until the new one fits.",
    "Test {thing} slowly at first, and listen for sounds that were not there on the day it was new.",
    "Write down what you did to {thing}, so that the next repair takes half the time of the first.",
)


def corpus(folder: Path) -> Path:
    """Seventy short guides, no two alike."""
    rng = random.Random(7)
    rows: list[dict[str, str]] = []
    for number in range(70):
        thing = f"{rng.choice(TOPICS)} of the year {1900 + number}"
        rows.append({"text": "\n".join(line.format(thing=thing) for line in rng.sample(ADVICE, 4))})
    path = folder / "guides.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def seed(folder: Path) -> Path:
    path = folder / "seed.jsonl"
    path.write_text("".join(SEED.read_text().splitlines(keepends=True)[:40]))
    return path


def command(folder: Path, out: str) -> list[str]:
    settings = {
        "rules": "loose",
        "candidates": "24",
        "writing.max-tokens": "24",
        "rewriting.max-tokens": "48",
        "rewriting.temperature": "0.8",
        "sft.epochs": "1",
        "sft.learning-rate": "1e-3",
        "sft.batch-size": "8",
        "sft.max-tokens": "1024",
        "held-out": "0.2",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    inputs = ["--corpus", str(corpus(folder)), "--seed", str(seed(folder)), "--base", "scratch:tiny"]
    return [sys.executable, "-m", "reinstruct", "run", "reinstruct", *inputs, "--out", str(folder / out), *flags]


def finish(argv: list[str]) -> str:
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def killed(argv: list[str], run: Path, files: str, after_s: float, least: int = 1) -> bool:
    """Start the run, and `kill -9` it with all its processes so long after it has so many such files.

    False if it was finished before.
    """
    process = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL)
    while len(list(run.glob(files))) < least and process.poll() is None:
        time.sleep(0.05)
    try:
        process.wait(timeout=after_s)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def dataset(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "dataset" / "*.parquet")


def test_a_run_killed_again_and_again_makes_the_dataset_of_an_undisturbed_one(tmp_path: Path):
    argv = command(tmp_path, "killed")
    run, rng = tmp_path / "killed", random.Random(3)
    assert killed(argv, run, "steps/base-*/work/log.jsonl", rng.uniform(0, 4)), "in its first training"
    assert killed(argv, run, "replies/**/*.*", rng.uniform(0, 1)), "while it is answered"
    assert killed(argv, run, "steps/*/result.json", rng.uniform(0, 4), least=18), "among the last of 24 steps"
    finish(argv)
    again = finish(argv)
    assert "\n0 steps run" in again

    finish(command(tmp_path, "whole"))
    one, other = dataset(tmp_path / "killed"), dataset(tmp_path / "whole")
    assert one.equals(other)
    assert set(one["origin"]) >= {"seed"}
    for name in ("base", "backward", "rewriter", "final"):
        weights = [tmp_path / run / "models" / name / "model.safetensors" for run in ("killed", "whole")]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name
    logs = [log.read_bytes() for log in (tmp_path / "killed" / "replies").rglob("*.jsonl.zst")]
    asked = Counter(key for log in logs for frame in frames_in(log) for key in frame.keys)
    assert asked
    assert max(asked.values()) == 1, "no reply was asked for twice"
    summary = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert set(summary["held_out_nll"]) == {"base", "seed-only", "final"}
    assert all(value > 0 for value in summary["held_out_nll"].values())
    assert (tmp_path / "killed" / "report.html").read_text().count("<svg") >= 3
