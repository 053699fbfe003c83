"""The card of a trained model: what its README.md says of where it comes from and how good it is.

The one rule: the card says only what the job, its files and its measurements say.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinstruct.architecture import ENCODER_DECODER, Architecture
from reinstruct.card import cell, ranked, section, settings_table, table
from reinstruct.train.rows import Rows
from reinstruct.train.settings import Sft
from reinstruct.train.tokens import file_digest

if TYPE_CHECKING:
    from reinstruct.train.job import Job

SHOWN = 12  # points of the loss curve
USE = """```python
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = {auto}.from_pretrained("{folder}", dtype="auto")
{asked}
reply = model.generate(**asked, max_new_tokens=200)
print(tokenizer.decode(reply[0{after}], skip_special_tokens=True))
```"""
CONVERSATION = """asked = tokenizer.apply_chat_template(
    [{"role": "user", "content": "..."}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)"""
AFTER = ', asked["input_ids"].shape[1]:'
LICENCES = """Base: {base}.

Those of the texts that rows were made from, as their sources state them; nobody checked them."""
PLAIN = 'asked = tokenizer("...", return_tensors="pt")'


def model_card(job: Job[Sft], found: Rows, metrics: Mapping[str, Any], architecture: Architecture) -> str:
    """The card as Markdown with a YAML header, for the folder of the model."""
    sections = [
        _header(job, architecture),
        section("Data", *table(("File", "Bytes", "SHA-256"), _files(job))),
        ranked("Origins", "What rows say of where they come from.", Counter(metrics["origins"])),
        *([ranked("Reasons", "Why other rows were refused.", Counter(found.reasons))] if found.reasons else []),
        ranked(
            "Licences",
            LICENCES.format(base=cell(licence_of(job.base)) or "not stated where it lies"),
            Counter(metrics["licences"]),
        ),
        _results(metrics),
        section("Settings", *settings_table(vars(job.settings))),
        section("How to use it", _use(found, architecture)),
    ]
    return "\n\n".join(sections) + "\n"


def _use(found: Rows, architecture: Architecture) -> str:
    """A reply follows the prompt, but for that of an encoder's decoder, which stands alone."""
    after = "" if architecture is ENCODER_DECODER else AFTER
    asked = CONVERSATION if found.with_messages else PLAIN
    return USE.format(folder=".", auto=architecture.auto, asked=asked, after=after)


def licence_of(base: str) -> str:
    """What the card of a folder, or of a hub id that was fetched, states as its licence; nothing without a card."""
    card = _card_of(base)
    header = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL) if card.is_file() else None
    stated = re.search(r"^license:\s*(\S.*)$", header[1], re.MULTILINE) if header else None
    return _unquoted(stated[1].strip()) if stated else ""


def _unquoted(text: str) -> str:
    """A YAML scalar without its quotes, which cards of our own have: each round of training would add a pair."""
    with suppress(ValueError):
        return str(json.loads(text)) if text.startswith('"') else text.strip("'")
    return text


def _card_of(base: str) -> Path:
    folder = Path(base)
    if folder.is_dir():
        return folder / "README.md"
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        return Path(str(try_to_load_from_cache(base, "README.md") or ""))
    return Path()


def _header(job: Job[Sft], architecture: Architecture) -> str:
    licence, is_folder = licence_of(job.base), Path(job.base).exists()
    lines = ["---", "library_name: transformers", f"pipeline_tag: {architecture.tag}"]
    lines += [] if is_folder else [f"base_model: {json.dumps(job.base)}"]
    lines += [f"license: {json.dumps(licence)}"] if licence else []
    adapters = ", through adapters that are merged into it" if job.settings.lora_rank else ""
    return "\n".join([*lines, "---", "", "# Fine-tuned model", "", f"Made of {cell(_told(job.base))}{adapters}."])


def _files(job: Job[Sft]) -> list[tuple[str, str, str]]:
    """Names, sizes and digests: files are told by their content."""
    digests = zip(job.data, file_digest(job.data), strict=True)
    return [(_told(path), f"{Path(path).stat().st_size:,}", digest) for path, digest in digests]


def _results(metrics: Mapping[str, Any]) -> str:
    packing = metrics["packing"]
    told = [
        ("Rows", f"{metrics['rows']:,}"),
        ("Steps of rows each", f"{metrics['steps']:,} of {metrics['batch_size']}"),
        ("Epochs", f"{metrics['epochs']:g}"),
        ("Target tokens", f"{metrics['target_tokens']:,}"),
        ("Tokens of a row (median, longest)", f"{packing['row_tokens']['median']:,}, {packing['row_tokens']['max']:,}"),
        ("Loss at the end (nats per target token)", f"{metrics['loss']:g}"),
        ("Tokens a second", f"{metrics['tokens_per_s']:,}"),
    ]
    if "held_out" in metrics:
        kept = dict(map(tuple, metrics["held_out"])).get(metrics["kept_step"])
        told.append(("Saved step", f"{metrics['kept_step']:,}"))
        told += [("Held-out loss there", f"{kept:g}")] if kept is not None else []
    lines = [*table(("Measure", "Value"), told), ""]
    for title, curve in (("Loss", metrics["curve"]), ("Held-out loss", metrics.get("held_out", []))):
        if curve:
            lines += [*table(("Step", title), [(f"{step:,}", f"{loss:g}") for step, loss in thinned(curve)]), ""]
    return section("Results", *lines).rstrip()


def thinned(curve: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most SHOWN points of a curve, evenly spaced, with the first and the last."""
    if len(curve) <= SHOWN:
        return list(curve)
    return [curve[round(at * (len(curve) - 1) / (SHOWN - 1))] for at in range(SHOWN)]


def _told(path: str) -> str:
    """A model or file without the folders of this machine: a hub id, or what stands from `steps/` on."""
    if not Path(path).exists():
        return path
    parts = Path(path).absolute().parts
    steps = len(parts) - 1 - parts[::-1].index("steps") if "steps" in parts else len(parts) - 1
    return "/".join(parts[steps:])
