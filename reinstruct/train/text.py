"""Documents as a tokenizer and as blocks of its tokens: what a model trained from nothing is trained on.

The one rule: the same documents in the same order give the same tokenizer and the same blocks. No torch in here.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reinstruct.errors import TrainingError
from reinstruct.train.tokens import Row, portions

END = "<|endoftext|>"


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


def read_enough(paths: Sequence[str], characters: int, least: int, seed: int) -> list[str]:
    """As `read_texts`, but never fewer than `least` characters where the corpus holds them.

    A draw of few documents may fall short, and one of texts with several bytes a character does: then more are drawn.
    """
    held = sum(map(_text_bytes, paths))
    characters = max(characters, least)
    while True:
        texts = list(read_texts(paths, characters, seed))
        if sum(map(len, texts)) >= least or characters >= held:  # all there is
            return texts
        characters *= 2


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
    for portion in portions(texts, len):
        for encoded in tokenizer.backend_tokenizer.encode_batch_fast(portion, add_special_tokens=False):
            stream.extend(encoded.ids)
            stream.append(tokenizer.eos_token_id)
    return [Row(str(at), stream[at : at + block], 0) for at in range(0, len(stream) - block + 1, block)]


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
