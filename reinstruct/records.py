"""What flows between stages, and how it lies in Parquet. Frozen: a stage returns new records, never edits old ones.

The Arrow schema of a record type is derived from its fields, so a new field needs no second declaration.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    import pyarrow as pa

R = TypeVar("R")


class Message(Struct, frozen=True):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


class Made(Struct, frozen=True, kw_only=True):
    """One entry of a record's lineage: what made or changed it."""

    step: str
    stage: str
    model: str = ""
    prompt: str = ""  # short hash of the prompt template and sampling


class Score(Struct, frozen=True):
    """A named number given to a record by a judge or a rule."""

    name: str
    value: float


class Record(Struct, frozen=True, kw_only=True):
    """Base of everything stored as a row. `id` is stable between runs, and unique in its dataset if the
    source's own ids are."""

    id: str


class Document(Record, frozen=True, kw_only=True):
    """A text of the unlabeled corpus."""

    text: str
    url: str = ""
    source: str = ""
    licence: str = ""


class Instruction(Record, frozen=True, kw_only=True):
    """A request nobody has answered yet."""

    instruction: str
    input: str = ""
    lineage: tuple[Made, ...] = ()


class Pair(Record, frozen=True, kw_only=True):
    """An instruction and its response: one row of the final dataset."""

    instruction: str
    input: str = ""
    output: str
    origin: str = "seed"  # seed | synthetic
    document: str = ""  # the text the pair was made from, as it was before any rewriting
    document_id: str = ""
    url: str = ""
    source: str = ""
    licence: str = ""
    scores: tuple[Score, ...] = ()
    lineage: tuple[Made, ...] = ()


class Example(Record, frozen=True, kw_only=True):
    """One training row: the loss falls on `target` alone.

    Exactly one of `prompt` (plain text, used as it is) and `messages` (put through the model's chat template) is set.
    """

    prompt: str = ""
    messages: tuple[Message, ...] = ()
    target: str
    origin: str = ""
    licence: str = ""  # as the source of the pair states it


class Rejected(Record, frozen=True, kw_only=True):
    """A record a stage turned away, kept beside the accepted ones."""

    stage: str
    reason: str
    detail: str = ""
    record: str = ""  # the record as JSON, as the stage saw it


class Drop(Struct, frozen=True):
    """Returned by a stage instead of a record it rejects. `reason` is a snake_case state.

    `unreadable` marks a reply that could not be parsed at all; a shard with too many of them fails.
    """

    reason: str
    detail: str = ""
    unreadable: bool = False


def messages(pair: Pair) -> tuple[Message, ...]:
    """The pair as a conversation: the user's turn (instruction, blank line, input if any) and the answer."""
    return (Message("user", question(pair)), Message("assistant", pair.output))


def question(record: Pair | Instruction) -> str:
    """Instruction and input as one text."""
    return f"{record.instruction}\n\n{record.input}" if record.input else record.instruction


@cache
def schema(record_type: type[Any]) -> pa.Schema:
    """Arrow schema of a record type, one field per struct field, in order."""
    import pyarrow as pa

    return pa.schema([pa.field(name, _arrow_type(hint)) for name, hint in get_type_hints(record_type).items()])


def to_table(records: Iterable[Any], record_type: type[Any]) -> pa.Table:
    """Rows as an Arrow table with the type's schema."""
    import pyarrow as pa

    return pa.Table.from_pylist([msgspec.to_builtins(record) for record in records], schema=schema(record_type))


def from_table(table: pa.Table | pa.RecordBatch, record_type: type[R]) -> list[R]:
    """Rows of an Arrow table as records."""
    return msgspec.convert(table.to_pylist(), list[record_type])


def without_none(hint: Any) -> Any:
    """X of X | None; any other type as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        kept = [arg for arg in get_args(hint) if arg is not type(None)]
        return kept[0] if len(kept) == 1 else hint
    return hint


def _arrow_type(hint: Any) -> pa.DataType:
    import pyarrow as pa

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in plain:
        return plain[hint]
    if get_origin(hint) is tuple:
        return pa.list_(_arrow_type(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, Struct):
        return pa.struct([pa.field(name, _arrow_type(inner)) for name, inner in get_type_hints(hint).items()])
    raise TypeError(f"no Arrow type for {hint!r}")
