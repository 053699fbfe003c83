"""Examples as token ids, with the loss on the target alone.

The one rule: a row is trained on whole or not at all. One that does not fit is refused with a reason, never cut.
Prompt and target are tokenised apart, so the border between them is a border between tokens.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from reinstruct.architecture import DECODER, Architecture
from reinstruct.errors import TrainingError
from reinstruct.identity import digest
from reinstruct.prompting import target_ids
from reinstruct.records import Example, from_table
from reinstruct.train.tokens import Row, TokenRows, file_digest, read, write

UNBOUNDED = 1 << 31  # tokens


@dataclass(frozen=True)
class Shape:
    """How a model's rows are made, and the most tokens that a prompt, and a target with its EOS, may have there."""

    architecture: Architecture = DECODER
    prompt: int = UNBOUNDED
    target: int = UNBOUNDED


class Refused(Struct, frozen=True):
    """An example that cannot be trained on; `tokens` counts prompt, target and EOS as far as known."""

    id: str
    reason: str  # empty_target | prompt_too_long | target_too_long | prompt_and_messages
    tokens: int = 0


class Notes(Struct, frozen=True):
    """What is kept beside the rows of a file."""

    refused: list[Refused]
    with_messages: bool
    licences: dict[str, int]


NOTES = "notes"
_NOTES = msgspec.json.Decoder(Notes)


class Rows(NamedTuple):
    """What became of a dataset."""

    rows: TokenRows
    refused: list[Refused]
    with_messages: bool
    licences: dict[str, int]  # rows of each

    @property
    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(refused.reason for refused in self.refused).items()))


def read_examples(paths: Sequence[str]) -> Iterator[Example]:
    """Example rows of Parquet files, in order. TrainingError if a file is not one of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    yield from from_table(batch, Example)
        except (pa.ArrowInvalid, msgspec.ValidationError) as error:
            raise TrainingError(f"{path} does not hold training examples: {error}") from error


def encode_once(paths: Sequence[str], tokenizer: Any, max_tokens: int, kept: Path, shape: Shape = Shape()) -> Rows:
    """As `encode_all` for the examples of these files, from the file `kept` if it was made of the same."""
    build = shape.architecture
    limits = [build.name, max_tokens, shape.prompt, shape.target]
    key = digest([NOTES, file_digest(paths), _tokenizer_digest(tokenizer, build.template), limits])
    found = read(kept, key)
    if found is None:
        encoded = encode_all(read_examples(paths), tokenizer, max_tokens, shape)
        notes = {NOTES: msgspec.json.encode(Notes(*encoded[1:])).decode()}
        write(encoded.rows, kept, key, notes)
        found = read(kept, key) or (encoded.rows, notes)
    rows, notes = found
    told = _NOTES.decode(notes[NOTES])
    return Rows(rows, told.refused, told.with_messages, told.licences)


def encode_all(examples: Iterable[Example], tokenizer: Any, max_tokens: int, shape: Shape = Shape()) -> Rows:
    """Every example as a Row or a Refused. TrainingError if not one row is left."""
    rows: list[Row] = []
    refused: list[Refused] = []
    licences = Counter[str]()
    with_messages = False
    for example in examples:
        encoded = encode(example, tokenizer, max_tokens, shape)
        if isinstance(encoded, Row):
            rows.append(encoded)
            licences[example.licence] += 1
            with_messages |= bool(example.messages)
        else:
            refused.append(encoded)
    found = Rows(TokenRows.of(rows), refused, with_messages, dict(licences))
    if not rows:
        counts = ", ".join(f"{count} {reason}" for reason, count in found.reasons.items()) or "there are none"
        raise TrainingError(f"no usable training example (max_tokens is {max_tokens}): {counts}")
    return found


def encode(example: Example, tokenizer: Any, max_tokens: int, shape: Shape = Shape()) -> Row | Refused:
    """`max_tokens` holds prompt, target and EOS together."""
    if example.prompt and example.messages:
        return Refused(example.id, "prompt_and_messages")
    if not example.target.strip():
        return Refused(example.id, "empty_target")
    prompt = shape.architecture.prompt_ids(tokenizer, example.messages or example.prompt)
    if len(prompt) > min(shape.prompt, max_tokens - 2):  # a target token and EOS
        return Refused(example.id, "prompt_too_long", len(prompt))
    ids = array("i", [*prompt, *target_ids(tokenizer, example.target), tokenizer.eos_token_id])
    if len(ids) > min(max_tokens, len(prompt) + shape.target):
        return Refused(example.id, "target_too_long", len(ids))
    return Row(example.id, ids, len(prompt), example.origin)


def write_refused(refused: Iterable[Refused], path: Path) -> None:
    """One JSON line for each."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in refused))


def _tokenizer_digest(tokenizer: Any, template: str) -> str:
    """Of all that decides which ids a text becomes."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = fast.to_str() if fast else str(sorted(tokenizer.get_vocab().items()))
    said = [vocabulary, str(tokenizer.chat_template), template, str(tokenizer.special_tokens_map)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()
