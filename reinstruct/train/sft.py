"""Supervised fine-tuning: examples in, a tuned model folder out. The backward model, the rewriter and the final model
are all made here.

The one rule: the loss falls on the target alone, every refused example is listed, nothing is cut.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reinstruct.prompting import without_clock
from reinstruct.train import model as models
from reinstruct.train.arguments import in_bf16, processes
from reinstruct.train.bases import expect_trainable
from reinstruct.train.finished import building, is_first, tried
from reinstruct.train.fit import Fitted, fit
from reinstruct.train.lora import FOLDER, held_dtype, merged, with_adapters
from reinstruct.train.model_card import model_card
from reinstruct.train.place import Place
from reinstruct.train.rows import Rows, encode_once, write_refused
from reinstruct.train.schedule import plan, split
from reinstruct.train.settings import Sft
from reinstruct.train.towers import freeze_towers
from reinstruct.train.turns import Turns

if TYPE_CHECKING:
    from reinstruct.train.job import Job, Progress


def train_sft(job: Job[Sft], progress: Progress | None = None) -> dict[str, Any]:
    """Metrics, also written to `metrics.json` in `job.out`, with the refused examples in `rejected.jsonl`.

    TrainingError for a base without EOS and for data without one usable row.
    """
    with Turns.of(processes()) as turns:  # each process chooses its GPU before anything is put there
        return _train(job, progress, turns)


def _train(job: Job[Sft], progress: Progress | None, turns: Turns) -> dict[str, Any]:
    settings, work = job.settings, Path(job.work)
    models.quiet()
    tokenizer = models.load_tokenizer(job.base)
    held = held_dtype(settings, "cuda" if torch.cuda.is_available() else "cpu", bf16=in_bf16(settings.precision))
    model = models.load_model(job.base, tokenizer, dropout=settings.dropout, quantize=settings.quantize, dtype=held)
    expect_trainable(job.base, settings, job.profile, model)
    freeze_towers(model)
    with turns.in_turn():
        limit, shape = models.longest_sequence(model, settings.max_tokens), models.shape_of(model)
        found = encode_once(job.data, tokenizer, limit, work / "tokens.arrow", shape)
    if found.with_messages:  # whoever serves the model renders conversations as it learnt them
        tokenizer.chat_template = without_clock(tokenizer.chat_template or shape.architecture.template)
    _tell_unused_weights(settings, found.rows.origins)
    trained, held_out = split(found.rows, settings.held_out, settings.seed)
    schedule = plan(settings, found.rows, trained, processes().num_processes)
    with building(Path(job.out), tried) as out:
        adapters = out / FOLDER if settings.lora_rank else None
        place = Place.of(job, adapters or out, progress, turns)
        tuned = with_adapters(model, settings, job.base) if adapters else model
        fitted = fit(
            tuned,
            tokenizer,
            found.rows,
            schedule,
            place,
            trained=trained,
            held_out=held_out,
            saved=lambda trained: models.with_dropout_of(job.base, trained.config),
            dtype=None if adapters else models.stored_dtype(job.base),
            start=lambda: models.weights_digest(job.base, model),
        )
        metrics = _metrics(found, fitted, schedule.batch, settings, trained)
        if is_first():
            if adapters:
                _save_merged(job, tokenizer, adapters, out)
            shutil.copyfile(work / "log.jsonl", out / "log.jsonl")
            write_refused(found.refused, out / "rejected.jsonl")
            (out / "metrics.json").write_text(json.dumps(metrics, indent=1))
            (out / "README.md").write_text(model_card(job, found, metrics, shape.architecture), encoding="utf-8")
    return metrics


def _save_merged(job: Job[Sft], tokenizer: Any, adapters: Path, out: Path) -> None:
    plain = merged(models.load_model(job.base, tokenizer), adapters, job.settings, job.base)
    stored = models.stored_dtype(job.base)
    plain.to(stored).save_pretrained(out)
    models.state_dtype(out, stored)
    tokenizer.save_pretrained(out)


def _tell_unused_weights(settings: Sft, origins: Sequence[str]) -> None:
    """A weight for an origin of no row changes nothing; it may be a slip, or of another training of the same recipe."""
    given = sorted(set(origins))
    unused = sorted(set(settings.weighted) - set(given))
    if unused and is_first():
        known = ", ".join(origin or "no stated origin" for origin in given)
        sys.stderr.write(f"weights of {', '.join(unused)} are not used: rows are of {known}\n")


def _metrics(found: Rows, fitted: Fitted, batch: int, settings: Sft, trained: Sequence[int]) -> dict[str, Any]:
    origins = found.rows.origins
    shown = sum(settings.weight_of(origins[row]) for row in trained)
    return {
        "rows": len(found.rows),
        "rejected": found.reasons,
        "origins": dict(sorted(Counter(origins).items())),
        "licences": dict(sorted(found.licences.items())),
        "target_tokens": found.rows.targets_of(trained),
        "batch_size": batch,
        "epochs": round(len(fitted.curve) * batch / shown, 3),
        **fitted.metrics(),
        "settings": asdict(settings),
    }
