"""Supervised fine-tuning: examples in, a tuned model folder out. The backward model, the rewriter and the final model
are all made here.

The one rule: the loss falls on the target alone, every refused example is listed, nothing is cut.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinstruct.prompting import PLAIN_TEMPLATE
from reinstruct.train import model as models
from reinstruct.train.checkpoints import building, is_first
from reinstruct.train.fit import Schedule, fit, processes
from reinstruct.train.lora import Lora
from reinstruct.train.rows import encode_once, write_refused
from reinstruct.train.settings import Sft

if TYPE_CHECKING:
    from reinstruct.train.job import Job, Progress


def train_sft(job: Job[Sft], progress: Progress | None = None) -> dict[str, Any]:
    """Metrics, also written to `metrics.json` in `job.out`, with the refused examples in `rejected.jsonl`.

    TrainingError for a base without EOS and for data without one usable row.
    """
    settings = job.settings
    models.quiet()
    tokenizer = models.load_tokenizer(job.base)
    model = models.load_model(job.base, tokenizer)
    with processes().main_process_first():
        limit = models.longest_sequence(model, settings.max_tokens)
        found = encode_once(job.data, tokenizer, limit, Path(job.work) / "tokens.arrow")
    if found.with_messages and not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE  # whoever serves the model renders conversations as it learnt them
    schedule = plan(settings, len(found.rows), processes().num_processes)
    with building(Path(job.out)) as out:
        fitted = fit(
            model,
            tokenizer,
            found.rows,
            schedule,
            work=Path(job.work),
            out=out,
            checkpoint_s=job.checkpoint_s,
            dtype=models.stored_dtype(job.base),
            progress=progress,
            loader_workers=job.loader_workers,
        )
        metrics = {
            "rows": len(found.rows),
            "rejected": found.reasons,
            "target_tokens": found.rows.target_tokens,
            "batch_size": schedule.batch,
            "epochs": round(schedule.steps * schedule.batch / len(found.rows), 3),
            **fitted.metrics(),
            "settings": asdict(settings),
        }
        if is_first():
            write_refused(found.refused, out / "rejected.jsonl")
            (out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def plan(settings: Sft, rows: int, processes: int = 1) -> Schedule:
    """Steps and batch for a number of rows.

    A batch above a quarter of the rows becomes the largest power of two below that, so that it still splits evenly;
    then it is made a multiple of the processes. Steps are rounded up: every row is seen at least `epochs` times.
    """
    cap = max(1, rows // 4)
    batch = settings.batch_size if settings.batch_size <= cap else 1 << (cap.bit_length() - 1)
    batch = max(processes, batch // processes * processes)
    return Schedule(
        steps=math.ceil(rows * settings.epochs / batch),
        batch=batch,
        learning_rate=settings.learning_rate,
        decay=settings.schedule,
        warmup_ratio=settings.warmup_ratio,
        seed=settings.seed,
        lora=Lora(settings.lora_rank, settings.lora_alpha, settings.lora_dropout) if settings.lora_rank else None,
    )
