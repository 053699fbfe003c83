"""The folder of a finished job: it appears whole, and a model in it has been tried.

The one rule: `out` appears by one rename, after its model was loaded from the files and wrote a token, and after
`manifest.json` names every file with its size and SHA-256. It replaces nothing but a folder that a job made.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from reinstruct.architecture import architecture_of
from reinstruct.commit import Part
from reinstruct.errors import RecipeError, TrainingError
from reinstruct.store import LocalStore

MANIFEST, METRICS = "manifest.json", "metrics.json"


class Files(Struct, frozen=True):
    """All files of a finished folder but this one, by their names in it."""

    files: list[Part]


def expect_out(out: str, inputs: Mapping[str, str]) -> None:
    """RecipeError unless a job's folder may stand at `out`: what is there is replaced, so it must be a job's, and none
    of the `inputs`, places by the name of their field, may lie in it.
    """
    folder = Path(out).resolve()
    if not out or (folder.exists() and not _is_empty(folder) and not (folder / METRICS).is_file()):
        raise RecipeError(f"out is {out!r}; accepted: a folder that is new, empty or was made by a job: it is replaced")
    for field, place in inputs.items():
        if place and Path(place).exists() and Path(place).resolve().is_relative_to(folder):
            raise RecipeError(f"out is {out}, in which {field} lies ({place}); accepted: a folder of its own")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


@contextmanager
def building(out: Path, ready: Callable[[Path], None] = lambda folder: None) -> Generator[Path]:
    """A folder beside `out` that takes its place when the block ends well and `ready` finds nothing wrong with it.

    Only the first process makes, looks at and moves it.
    """
    partial, former = (out.parent / f".{out.name}.{kind}" for kind in ("partial", "former"))
    if is_first():
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    yield partial
    if is_first():
        ready(partial)
        shutil.rmtree(former, ignore_errors=True)
        if out.exists():
            os.replace(out, former)
        os.replace(partial, out)
        shutil.rmtree(former, ignore_errors=True)


def is_first() -> bool:
    """Whether this process is the one that writes; torchrun numbers processes in RANK."""
    return os.environ.get("RANK", "0") == "0"


def tried(folder: Path) -> None:
    """Make sure that the model in a folder can be used, and write the manifest.

    TrainingError if a weight is no number, is missing or has another shape, if most are of another type than
    config.json says, or if no token can be generated.
    """
    held = _expect_numbers(folder)
    _expect_stated(folder, held)
    _expect_token(folder)
    write_manifest(folder)


def write_manifest(folder: Path) -> None:
    """Name every file of a folder and of those in it, with size and SHA-256."""
    store = LocalStore(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [Part(name, *store.sealed(name)) for name in names if name != MANIFEST]
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(Files(files)), indent=1))


def _expect_numbers(folder: Path) -> Counter[str]:
    """How many numbers there are of each type."""
    import torch
    from safetensors import SafetensorError, safe_open

    held = Counter[str]()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118
                    weight = weights.get_tensor(name)
                    held[str(weight.dtype).removeprefix("torch.")] += weight.numel()
                    if not torch.isfinite(weight).all():
                        raise TrainingError(f"the trained model is of no use: {name} holds values that are no numbers")
        except SafetensorError as error:
            raise TrainingError(f"the trained model is of no use: {path.name} cannot be read: {error}") from error
    return held


def _expect_stated(folder: Path, held: Counter[str]) -> None:
    """Some architectures keep a few weights in 32 bits whatever they state, so the type of most numbers counts."""
    stated = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any]).get("dtype")
    if stated and held and held.most_common(1)[0][0] != stated:
        raise TrainingError(
            f"the trained model is of no use: config.json says {stated}, its weights are {held.most_common(1)[0][0]}"
        )


def _expect_token(folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        options: dict[str, Any] = {"dtype": "auto", "output_loading_info": True}
        auto_class = architecture_of(AutoConfig.from_pretrained(str(folder))).auto_class
        loaded: Any = auto_class.from_pretrained(str(folder), **options)
        model, loading = loaded
        start = torch.tensor([[tokenizer.eos_token_id]])
        once: dict[str, Any] = {"max_new_tokens": 1, "do_sample": False, "num_beams": 1}
        written = model.generate(start, attention_mask=torch.ones_like(start), **once)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"the trained model is of no use: it cannot be loaded and asked: {error}") from error
    lacking = [str(name) for kind in ("missing_keys", "mismatched_keys") for name in loading[kind]]
    if lacking:
        raise TrainingError(f"the trained model is of no use: its files lack {', '.join(lacking)}")
    if written.shape[1] != 2:
        raise TrainingError("the trained model is of no use: asked for one token, it gave none")
