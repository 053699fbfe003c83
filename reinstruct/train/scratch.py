"""A tokenizer and a small Llama from nothing but documents, for machines where no model can be had.

The one rule: size and seed say everything; with the same documents they give the same tokenizer and the same weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reinstruct.errors import TrainingError
from reinstruct.train import model as models
from reinstruct.train.arguments import processes
from reinstruct.train.finished import building, is_first, tried
from reinstruct.train.fit import fit
from reinstruct.train.place import Place
from reinstruct.train.schedule import Schedule
from reinstruct.train.settings import LEAST_CHARACTERS, Pretrain, Sft
from reinstruct.train.text import blocks, read_enough, train_tokenizer
from reinstruct.train.tokens import TokenRows
from reinstruct.train.turns import Turns

if TYPE_CHECKING:
    from reinstruct.train.job import Job, Progress

CHARACTERS_PER_TOKEN = 5  # more than a byte-level vocabulary reaches: what is read always fills the token budget
PASSES = 4  # tokens seen up to four times teach nearly as much as new ones (Muennighoff et al. 2023)


@dataclass(frozen=True)
class Size:
    """A Llama and how long it is trained. `token_budget` counts trained tokens; `block` is their sequence length."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    inner: int
    block: int
    batch: int  # blocks of one step
    token_budget: int
    learning_rate: float
    positions: int = 2048
    schedule: str = "cosine"
    decay_ratio: float = 0.1
    warmup_steps: int = 0  # 0: a twentieth of the steps
    stored: str = "float32"


SIZES = {
    "tiny": Size(4096, 128, 3, 4, 352, 256, 4, 400_000, 4e-3),
    "mini": replace(
        Size(4096, 192, 4, 6, 512, 512, 4, 16_000_000, 2e-3, stored="bfloat16"),
        schedule="wsd",
        decay_ratio=0.2,
        warmup_steps=100,
    ),
    "small": Size(16384, 384, 10, 6, 1024, 512, 32, 100_000_000, 1e-3),
}


def train_base(job: Job[Pretrain], progress: Progress | None = None) -> dict[str, Any]:
    """Metrics, also written to `metrics.json` in `job.out`. TrainingError for too little text."""
    with Turns.of(processes()) as turns:  # each process chooses its GPU before anything is put there
        return _train(job, progress, turns)


def _train(job: Job[Pretrain], progress: Progress | None, turns: Turns) -> dict[str, Any]:
    settings = job.settings
    size = SIZES[settings.size]
    models.quiet()
    if settings.tokens:
        size = replace(size, token_budget=settings.tokens)
    texts = read_enough(job.data, size.token_budget * CHARACTERS_PER_TOKEN, LEAST_CHARACTERS, settings.seed)
    _expect_enough(sum(map(len, texts)))
    tokenizer = train_tokenizer(texts, size.vocabulary)
    rows = blocks(texts, tokenizer, size.block)
    schedule = plan(size, len(rows), settings.seed, processes().num_processes)
    with building(Path(job.out), tried) as out:
        place, model = Place.of(job, out, progress, turns), new_model(size, tokenizer, settings.seed)
        stored, start = getattr(torch, size.stored), repr(size)
        fitted = fit(model, tokenizer, TokenRows.of(rows), schedule, place, dtype=stored, start=lambda: start)
        metrics = {
            "rows": len(texts),
            "characters": sum(map(len, texts)),
            "parameters": model.num_parameters(),
            "rejected": {},
            "target_tokens": len(rows) * size.block,
            "batch_size": schedule.batch,
            "epochs": round(schedule.steps * schedule.batch / len(rows), 3),
            **fitted.metrics(),
            "settings": asdict(settings),
        }
        if is_first():
            (out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def new_model(size: Size, tokenizer: Any, seed: int) -> Any:
    """A Llama with random weights and tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden,
            intermediate_size=size.inner,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=size.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def plan(size: Size, rows: int, seed: int, processes: int = 1) -> Schedule:
    """As many steps as the token budget gives, but no block more than PASSES times."""
    batch = max(processes, min(size.batch, rows) // processes * processes)
    tokens = min(size.token_budget, PASSES * rows * size.block)
    steps = max(1, tokens // (batch * size.block))
    warmup = (size.warmup_steps - 0.5) / steps if 0 < size.warmup_steps < steps / 2 else 0.05  # it is rounded up
    settings = Sft(
        learning_rate=size.learning_rate,
        schedule=size.schedule,
        warmup_ratio=warmup,
        decay_ratio=size.decay_ratio,
        weight_decay=0.1,
        beta2=0.95,
        seed=seed,
    )
    return Schedule(steps, batch, settings)


def _expect_enough(characters: int) -> None:
    if characters < LEAST_CHARACTERS:
        raise TrainingError(
            f"too little text to train a base model on: {characters} characters given, {LEAST_CHARACTERS} needed"
        )
