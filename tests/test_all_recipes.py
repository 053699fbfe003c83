"""The relatives of REInstruct, run together through the command line and killed on the way: nothing is lost,
nothing is asked twice that was answered, and the datasets are those of an undisturbed run.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import SEED, tiny_model
from tests.test_full_run import finish, killed
from tests.well_answering import WellAnswering

pytestmark = pytest.mark.slow

BASE = "the base, which is served, so that no model has to be trained for it"
OWN = {
    "humpback": {"rules": "plain", "rules.min-chars": "100", "paper-steps": "false", "judge": BASE},
    "back_and_forth": {"cut.min-chars": "100", "judge": BASE, "sft": "humpback"},  # the backward model is Humpback's
    "kun": {"chat": BASE},
    "tegit": {"min-chars": "100", "rules.min-output-grounded": "0"},
    "cycle_instruct": {"cycles": "1"},
}
IN_FLIGHT = 64
WORDS = re.findall(
    r"\w+",
    "the a of and to in that it with as at by from on for not old new warm cold long short clean dry loose tight slow "
    "edge handle screw wheel spring paint cloth brush water light morning evening hand side corner spare part",
)
VERBS = ("Clean", "Check", "Warm", "Move", "Turn", "Press", "Lift", "Dry", "Cut", "Fold")


def corpus(folder: Path) -> Path:
    """Guides with headers, questions with their answers, and Chinese notes: each recipe finds some to its liking."""
    rng, rows = random.Random(5), []
    for number in range(24):
        thing = rng.choice(("the kettle", "the saw", "the gate", "the radio", "the boat"))
        lines = [
            f"{verb} {thing} {number}, and mind {' '.join(rng.choices(WORDS, k=14))}." for verb in rng.sample(VERBS, 6)
        ]
        rows.append(f"# How to care for {thing} number {number}\n\n" + "\n".join(lines))
        rows.append(f"How do I repair {thing} when part {number} is broken and no shop has it any more?")
        rows.append(
            f"第{number}天，我们沿着小路走到河边，看见村里的人正在修桥，他们请我们喝茶，还讲了{number}个老故事。"
        )
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    return path


def command(names: tuple[str, ...], folder: Path, out: str, url: str) -> list[str]:
    seed = folder / "seed.jsonl"
    seed.write_text("".join(SEED.read_text().splitlines(keepends=True)[:24]))
    base = tiny_model(folder / "base")
    own = {f"{name}.{setting}": value for name in names for setting, value in OWN[name].items()}
    small = {
        "corpus": str(corpus(folder)),
        "seed": str(seed),
        "base": base,
        **{setting: base if value is BASE else value for setting, value in own.items()},
        "sft.epochs": "0.2",
        "sft.max-tokens": "2048",
        "sft.batch-size": "4",
        "held-out": "0",
        "server": url,
        "out": str(folder / out),
    }
    flags = [part for name, value in small.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "reinstruct", "compare", *names, *flags]


def datasets(names: tuple[str, ...], folder: Path) -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(folder / name / "dataset" / "*.parquet") for name in names}


def test_recipes_that_are_killed_make_the_datasets_of_an_undisturbed_run(tmp_path: Path):
    names = tuple(OWN)
    with WellAnswering(latency_s=0.05) as server:
        argv, rng = command(names, tmp_path, "killed", server.url), random.Random(11)
        at = [rng.randrange(first, first + 15) for first in (5, 20, 40)]  # of 67 steps
        run = tmp_path / "killed"
        kills = sum(killed(argv, run, "steps/*/result.json", rng.uniform(0, 3), least=steps) for steps in at)
        assert kills == 3
        finish(argv)
        asked = Counter(call.prompt for call in server.calls)
        again = sum(count - 1 for count in asked.values())
        finish(argv)
        assert sum(Counter(call.prompt for call in server.calls).values()) == asked.total(), "a third run asks nothing"

    with WellAnswering() as server:
        finish(command(names, tmp_path, "whole", server.url))
        needed = Counter(call.prompt for call in server.calls)
    assert again - (needed.total() - len(needed)) <= kills * 2 * IN_FLIGHT
    assert asked.keys() == needed.keys()
    one, other = datasets(names, tmp_path / "killed"), datasets(names, tmp_path / "whole")
    for name in names:
        assert one[name].equals(other[name]), name
        assert (one[name]["origin"] == "synthetic").sum() >= 3, name
        for model in sorted((tmp_path / "whole" / name / "models").iterdir()):
            same = tmp_path / "killed" / name / "models" / model.name / "model.safetensors"
            assert (model / "model.safetensors").read_bytes() == same.read_bytes(), (name, model.name)
