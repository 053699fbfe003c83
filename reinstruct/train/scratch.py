"""A tokenizer and a small Llama from nothing but documents, for machines where no model can be had.

The one rule: size and seed say everything; with the same documents they give the same tokenizer and the same weights.
"""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reinstruct.errors import TrainingError
from reinstruct.train import model as models
from reinstruct.train.checkpoints import building, is_first
from reinstruct.train.fit import Schedule, fit
from reinstruct.train.rows import Row
from reinstruct.train.settings import Pretrain

if TYPE_CHECKING:
    from reinstruct.train.job import Job, Progress

END = "<|endoftext|>"
LEAST_CHARACTERS = 20_000
CHARACTERS_PER_TOKEN = 6  # more than a byte-level vocabulary reaches: what is read always fills the token budget
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


SIZES = {
    "tiny": Size(2048, 128, 3, 4, 352, 256, 16, 500_000, 4e-3),
    "small": Size(16384, 384, 10, 6, 1024, 512, 32, 100_000_000, 1e-3),
}


def train_base(job: Job[Pretrain], progress: Progress | None = None) -> dict[str, Any]:
    """Metrics, also written to `metrics.json` in `job.out`. TrainingError for too little text."""
    settings = job.settings
    size = SIZES[settings.size]
    models.quiet()
    texts = list(read_texts(job.data, size.token_budget * CHARACTERS_PER_TOKEN, settings.seed))
    _expect_enough(sum(map(len, texts)))
    tokenizer = train_tokenizer(texts, size.vocabulary)
    rows = blocks(texts, tokenizer, size.block)
    schedule = plan(size, len(rows), settings.seed)
    with building(Path(job.out)) as out:
        fitted = fit(
            new_model(size, tokenizer, settings.seed),
            tokenizer,
            rows,
            schedule,
            work=Path(job.work),
            out=out,
            checkpoint_s=job.checkpoint_s,
            progress=progress,
        )
        metrics = {
            "rows": len(texts),
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


def read_texts(paths: Sequence[str], characters: int, seed: int) -> Iterator[str]:
    """Documents of Parquet files, in order, about `characters` in all, spread over the whole corpus.

    Where the corpus holds more, each document is taken by a seeded draw: the first files are not all there is.
    """
    chance = min(1.0, 1.2 * characters / max(1, sum(map(_text_bytes, paths))))
    draw = random.Random(seed)
    left = characters
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if draw.random() < chance and text and left > 0:
                        left -= len(text)
                        yield text


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer: any text survives encoding and decoding unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )


def blocks(texts: Sequence[str], tokenizer: Any, block: int) -> list[Row]:
    """All texts behind one another, EOS between them, in sequences of `block` tokens; what fills none is left."""
    stream = array("i")
    for encoded in tokenizer._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        stream.extend(encoded.ids)
        stream.append(tokenizer.eos_token_id)
    return [Row(str(at), stream[at : at + block], 0) for at in range(0, len(stream) - block + 1, block)]


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


def plan(size: Size, rows: int, seed: int) -> Schedule:
    """As many steps as the token budget gives, but no block more than PASSES times."""
    batch = min(size.batch, rows)
    tokens = min(size.token_budget, PASSES * rows * size.block)
    return Schedule(
        steps=max(1, tokens // (batch * size.block)),
        batch=batch,
        learning_rate=size.learning_rate,
        decay="cosine",
        warmup_ratio=0.05,
        weight_decay=0.1,
        beta2=0.95,
        seed=seed,
    )


def _text_bytes(path: str) -> int:
    """Size of the text column; TrainingError if there is none."""
    try:
        metadata = pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise TrainingError(f"{path} is not a Parquet file: {error}") from error
    names = metadata.schema.names
    if "text" not in names:
        raise TrainingError(f"{path} has no column 'text' (it has: {', '.join(names)})")
    column = names.index("text")
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    return sum(group.column(column).total_uncompressed_size for group in groups)


def _expect_enough(characters: int) -> None:
    if characters < LEAST_CHARACTERS:
        raise TrainingError(
            f"too little text to train a base model on: {characters} characters given, {LEAST_CHARACTERS} needed"
        )
