"""How likely a model finds targets: the mean negative log-likelihood per target token.

The one rule: the tokens counted are those that fine-tuning trains on, EOS included.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from reinstruct.architecture import ENCODER_DECODER, architecture_of
from reinstruct.train import model as models
from reinstruct.train.encoded import encoded_sums
from reinstruct.train.finished import building, is_first
from reinstruct.train.rows import encode_all, read_examples, write_refused
from reinstruct.train.settings import Sft
from reinstruct.train.tokens import Row, TokenRows
from reinstruct.train.towers import text_config

if TYPE_CHECKING:
    from reinstruct.train.job import Job, Progress

PASS_TOKENS = 8192
PASS_LOGITS = 1 << 28  # of one forward pass: 1 GiB of float32, however large the vocabulary


def measure(job: Job[Sft], progress: Progress | None = None) -> dict[str, Any]:
    """{nll, perplexity, tokens, rows, rejected}, also in `metrics.json`; each row's nll in `rows.jsonl`.

    `nll` is in nats per target token, over all targets together. TrainingError if no example is usable.
    """
    models.quiet()
    tokenizer = models.load_tokenizer(job.base)
    model = models.load_model(job.base, tokenizer)
    limit = models.longest_sequence(model, job.settings.max_tokens)
    found = encode_all(read_examples(job.data), tokenizer, limit, models.shape_of(model))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sums = nll_sums(model.to(device), found.rows, progress, job.pass_tokens or PASS_TOKENS)
    nll = sum(sums) / found.rows.target_tokens
    metrics = {
        "nll": nll,
        "perplexity": math.exp(nll),
        "tokens": found.rows.target_tokens,
        "rows": len(found.rows),
        "rejected": found.reasons,
    }
    if is_first():
        with building(Path(job.out)) as out:
            _write_rows(found.rows, sums, out / "rows.jsonl")
            write_refused(found.refused, out / "rejected.jsonl")
            (out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return metrics


def nll_sums(
    model: Any, rows: TokenRows, progress: Progress | None = None, pass_tokens: int = PASS_TOKENS
) -> list[float]:
    """For each row, in their order, the negative log-likelihood of its whole target in nats."""
    pass_sums = encoded_sums if architecture_of(model.config) is ENCODER_DECODER else _pass_sums
    sums = [0.0] * len(rows)
    done = 0
    model.eval()
    for batch in _passes(rows.lengths, text_config(model.config).vocab_size, pass_tokens):
        for index, value in zip(batch, pass_sums(model, [rows[index] for index in batch]), strict=True):
            sums[index] = value
        done += len(batch)
        if progress:
            progress(done, len(rows))
    return sums


@torch.inference_mode()
def _pass_sums(model: Any, rows: Sequence[Row]) -> list[float]:
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row.ids))] for row in rows])
    position = torch.arange(longest)
    ends = torch.tensor([[len(row.ids)] for row in rows])
    starts = torch.tensor([[row.prompt_tokens] for row in rows])
    is_target = ((position >= starts) & (position < ends))[:, 1:].to(model.device)
    ids = ids.to(model.device)
    logits = model(input_ids=ids, attention_mask=(position < ends).long().to(model.device), use_cache=False).logits
    losses = cross_entropy(logits[:, :-1].transpose(1, 2).float(), ids[:, 1:], reduction="none")
    return (losses * is_target).double().sum(dim=1).tolist()


def _passes(lengths: Sequence[int], vocabulary: int, most: int) -> Iterator[list[int]]:
    """Row numbers for each forward pass: longest first, so that memory runs out at once or never."""
    budget = min(most, PASS_LOGITS // vocabulary)
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _write_rows(rows: Sequence[Row], sums: Sequence[float], path: Path) -> None:
    with path.open("w") as file:
        for row, total in zip(rows, sums, strict=True):
            tokens = len(row.ids) - row.prompt_tokens
            file.write(json.dumps({"id": row.id, "nll": total / tokens, "tokens": tokens}) + "\n")
