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
import pyarrow as pa
from msgspec import Struct

from reinstruct.architecture import DECODER, Architecture
from reinstruct.errors import TrainingError
from reinstruct.identity import digest
from reinstruct.prompting import targets_ids
from reinstruct.records import Example, from_table
from reinstruct.train.tokens import Row, TokenRows, as_batch, file_digest, portions, read, write

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
    reason: str  # empty_target | prompt_too_long | target_too_long | unknown_tokens | prompt_and_messages
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
        return reasons(self.refused)


def reasons(refused: Iterable[Refused]) -> dict[str, int]:
    """How many there are of each reason."""
    return dict(sorted(Counter(row.reason for row in refused).items()))


def read_examples(paths: Sequence[str]) -> Iterator[Example]:
    """Example rows of Parquet files, in order. TrainingError if a file is not one of them."""
    import pyarrow.parquet as pq

    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    yield from from_table(batch, Example)
        except (pa.ArrowInvalid, msgspec.ValidationError) as error:
            raise TrainingError(f"{path} does not hold training examples: {error}") from error


def encode_once(paths: Sequence[str], tokenizer: Any, max_tokens: int, kept: Path, shape: Shape = Shape()) -> Rows:
    """As `encode_all` for the examples of these files, from the file `kept` if it was made of the same.

    What is not in `kept`, or not whole, is tokenised into it: never more than a portion of it is in memory.
    """
    build = shape.architecture
    limits = [build.name, max_tokens, shape.prompt, shape.target]
    key = digest([NOTES, file_digest(paths), _tokenizer_digest(tokenizer, build.template), limits])
    found = read(kept, key)
    if found is None:
        encoding = _Encoding(tokenizer, max_tokens, shape)
        write(encoding.batches(read_examples(paths)), kept, key, encoding.notes)
        found = read(kept, key)
    if found is None:
        raise TrainingError(f"the tokenised rows in {kept} are not what was written there: is the disk sound?")
    rows, notes = found
    told = _NOTES.decode(notes[NOTES])
    return Rows(rows, told.refused, told.with_messages, told.licences)


def encode_all(examples: Iterable[Example], tokenizer: Any, max_tokens: int, shape: Shape = Shape()) -> Rows:
    """Every example as a Row or a Refused. TrainingError if not one row is left."""
    encoding = _Encoding(tokenizer, max_tokens, shape)
    rows = TokenRows(pa.Table.from_batches(list(encoding.batches(examples))))
    return Rows(rows, encoding.refused, encoding.with_messages, dict(encoding.licences))


def encode(example: Example, tokenizer: Any, max_tokens: int, shape: Shape = Shape()) -> Row | Refused:
    """`max_tokens` holds prompt, target and EOS together."""
    return encode_portion([example], tokenizer, max_tokens, shape)[0]


def encode_portion(
    examples: Sequence[Example], tokenizer: Any, max_tokens: int, shape: Shape = Shape()
) -> list[Row | Refused]:
    """As `encode` for each: all prompts are tokenised in one call, then the targets of those that fit."""
    found: list[Row | Refused | None] = [_without_a_side(example) for example in examples]
    left = [at for at, row in enumerate(found) if row is None]
    asked = [examples[at].messages or examples[at].prompt for at in left]
    prompts = dict(zip(left, shape.architecture.prompts_ids(tokenizer, asked), strict=True))
    for at, prompt in prompts.items():
        if len(prompt) > min(shape.prompt, max_tokens - 2):  # a target token and EOS
            found[at] = Refused(examples[at].id, "prompt_too_long", len(prompt))
    left = [at for at in left if found[at] is None]
    for at, target in zip(left, targets_ids(tokenizer, [examples[at].target for at in left]), strict=True):
        ids = array("i", [*prompts[at], *target, tokenizer.eos_token_id])
        if len(ids) > min(max_tokens, len(prompts[at]) + shape.target):
            found[at] = Refused(examples[at].id, "target_too_long", len(ids))
        elif tokenizer.unk_token_id is not None and tokenizer.unk_token_id in target:
            found[at] = Refused(examples[at].id, "unknown_tokens", len(ids))
        else:
            found[at] = Row(examples[at].id, ids, len(prompts[at]), examples[at].origin)
    return [row for row in found if row is not None]


def write_refused(refused: Iterable[Refused], path: Path) -> None:
    """One JSON line for each."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in refused))


def _tokenizer_digest(tokenizer: Any, template: str) -> str:
    """Of all that decides which ids a text becomes."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = fast.to_str() if fast else str(sorted(tokenizer.get_vocab().items()))
    said = [vocabulary, str(tokenizer.chat_template), template, str(tokenizer.special_tokens_map)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()


class _Encoding:
    """A dataset on its way to tokens, and what is to be told of it when the last batch is made."""

    def __init__(self, tokenizer: Any, max_tokens: int, shape: Shape) -> None:
        self._how = (tokenizer, max_tokens, shape)
        self.refused: list[Refused] = []
        self.licences = Counter[str]()
        self.with_messages = False

    def batches(self, examples: Iterable[Example]) -> Iterator[pa.RecordBatch]:
        """Rows of a portion of examples at a time. TrainingError at the end if there was not one."""
        some = False
        for portion in portions(examples, _characters):
            rows: list[Row] = []
            for example, encoded in zip(portion, encode_portion(portion, *self._how), strict=True):
                if isinstance(encoded, Row):
                    rows.append(encoded)
                    self.licences[example.licence] += 1
                    self.with_messages |= bool(example.messages)
                else:
                    self.refused.append(encoded)
            if rows:
                some = True
                yield as_batch(rows)
        if not some:
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons(self.refused).items())
            limit = self._how[1]
            raise TrainingError(f"no usable training example (max_tokens is {limit}): {counts or 'there are none'}")

    def notes(self) -> dict[str, str]:
        told = Notes(self.refused, self.with_messages, dict(self.licences))
        return {NOTES: msgspec.json.encode(told).decode()}


def _without_a_side(example: Example) -> Refused | None:
    if example.prompt and example.messages:
        return Refused(example.id, "prompt_and_messages")
    return None if example.target.strip() else Refused(example.id, "empty_target")


def _characters(example: Example) -> int:
    asked = sum(len(message.content) for message in example.messages)
    return len(example.prompt) + asked + len(example.target)
