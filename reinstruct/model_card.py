"""The model folder of `reinstruct pretrain`: weights and tokenizer, figures in metrics.json, and a card in README.md.

The one rule: the card says only what the plan, the counts and the measurements say.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reinstruct.card import cell, collection, ranked, section, settings_table, table
from reinstruct.commit import result_of
from reinstruct.layout import output_parts
from reinstruct.planfile import Plan, StepSpec, steps_of
from reinstruct.pretrain import HELD, WRITTEN
from reinstruct.records import Example, Pair
from reinstruct.report_funnel import StageRow, stage_rows
from reinstruct.report_rows import open_run
from reinstruct.report_text import number
from reinstruct.store import Store
from reinstruct.tables import read_parts
from reinstruct.train.finished import MANIFEST, METRICS, write_manifest

FOLDER = "model"
CURVE = 100  # points of the training loss that metrics.json keeps

LICENCE_NOTE = "Documents the model was trained on, by the licence their source states."
HELD_OUT_NOTE = "Of sources no part of which was trained on. Each text's first sentence is given, the rest measured."


def publish_model(store: Store, plan: Plan) -> tuple[Path, dict[str, Any]]:
    """The finished model's folder, at `model` in the store, and its figures. Files of weights are linked."""
    figures = _figures(store, plan)
    step = plan.models["model"]
    result = result_of(store, step)
    assert result is not None
    new, place = store.path(f".{FOLDER}.new"), store.path(FOLDER)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    source = store.path(result.shards[0].model)
    for file in sorted(path for path in source.iterdir() if path.name not in (METRICS, MANIFEST)):
        os.link(file, new / file.name)
    (new / METRICS).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (new / "README.md").write_text(model_card(store, plan, figures), encoding="utf-8")
    write_manifest(new)
    shutil.rmtree(place, ignore_errors=True)
    new.rename(place)
    return place, figures


def model_card(store: Store, plan: Plan, figures: Mapping[str, Any]) -> str:
    """The card as Markdown with the Hub's YAML header."""
    run = open_run(store, plan)
    documents = run.count("licence").total()
    sections = [
        _header(plan.settings["model_licence"]),
        _about(plan, figures, documents),
        _figures_table(figures),
        _samples(store, plan),
        section("How it was made", f"Plan: `{plan.id}`", "", *settings_table(plan.settings)),
        _selection(stage_rows(run)[0]),
        ranked("Licences", LICENCE_NOTE, run.count("licence")),
        ranked("Sources", "The collections these documents are from.", run.count("source", collection)),
    ]
    return "\n\n".join(sections) + "\n"


def _header(licence: str) -> str:
    """What the Hub reads. The licence of a model is its maker's to say: those of the texts do not decide it."""
    stated = f"license: {json.dumps(licence)}\n" if licence else ""
    told = "language: en\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- base-model\n"
    return f"---\n{told}{stated}---"


def _figures(store: Store, plan: Plan) -> dict[str, Any]:
    """The trainer's metrics with a shorter curve, and the loss on held-out sources: per token, and in bits per byte."""
    trained, measured = (dict(_done(store, step)) for step in (plan.models["model"], plan.losses["model"]))
    curve = trained.pop("curve")
    every = max(1, len(curve) // CURVE)
    held_out_bytes = sum(len(target.encode()) for target in _targets(store, plan))
    nats = measured["nll"] * measured["tokens"]
    held_out = {
        "texts": measured["rows"],
        "tokens": measured["tokens"],
        "bytes": held_out_bytes,
        "nll_per_token": round(measured["nll"], 4),
        "perplexity": round(measured["perplexity"], 2),
        "bits_per_byte": round(nats / math.log(2) / held_out_bytes, 4),
    }
    return {**trained, "held_out": held_out, "curve": curve[::every]}


def _done(store: Store, step_id: str) -> Mapping[str, Any]:
    result = result_of(store, step_id)
    assert result is not None
    return result.shards[0].metrics


def _targets(store: Store, plan: Plan) -> Iterator[str]:
    for chunk in read_parts(store, output_parts(store, steps_of(plan)[_named(plan, HELD).id]), Example):
        yield from (example.target for example in chunk.records)


def _named(plan: Plan, name: str) -> StepSpec:
    return next(spec for spec in plan.steps if spec.name == name)


def _about(plan: Plan, figures: Mapping[str, Any], documents: int) -> str:
    return f"""# A base model of {figures["parameters"]:,} parameters

Trained from nothing by `reinstruct pretrain` on {number(documents)} English documents of
{figures["characters"]:,} characters in all. It continues text; it follows no instructions until it is tuned, and it
knows next to nothing: what it says of the world is made up.

Architecture: Llama, tied embeddings, byte-level BPE tokenizer trained on the same text, in the Hugging Face format."""


def _figures_table(figures: Mapping[str, Any]) -> str:
    held = figures["held_out"]
    rows = [
        ("Loss on held-out sources, nats a token", f"{held['nll_per_token']:.4f}"),
        ("Perplexity of a token there", f"{held['perplexity']:.2f}"),
        ("Bits per byte there", f"{held['bits_per_byte']:.4f}"),
        ("Held-out texts, tokens, bytes", f"{held['texts']:,}, {held['tokens']:,}, {held['bytes']:,}"),
        ("Training loss, last tenth of the steps", f"{figures['loss']:.4f}"),
        ("Tokens of the training text", f"{figures['target_tokens']:,}"),
        ("Steps, sequences of a step", f"{figures['steps']:,}, {figures['batch_size']}"),
        ("Epochs", f"{figures['epochs']}"),
    ]
    return section("Figures", HELD_OUT_NOTE, "", *table(("Figure", "Value"), rows))


def _samples(store: Store, plan: Plan) -> str:
    step = steps_of(plan)[_named(plan, WRITTEN).id]
    pairs: list[Pair] = [pair for chunk in read_parts(store, output_parts(store, step), Pair) for pair in chunk.records]
    shown = [f"> **{cell(pair.instruction)}** {cell(pair.output, 800)}" for pair in pairs]
    note = "First sentences of held-out texts in bold, and what the model wrote after them; not chosen."
    return "\n\n".join(["## What it writes", note, *(shown or ["Not one whole sentence."])])


def _selection(rows: Sequence[StageRow]) -> str:
    listed = [(row.stage, number(row.read), number(row.kept), ", ".join(_reasons(row))) for row in rows]
    return section("Selection", *table(("Stage", "Read", "Kept", "Rejected for"), listed))


def _reasons(row: StageRow) -> list[str]:
    return [f"{reason.name} {number(reason.rows)}" for reason in row.reasons]
