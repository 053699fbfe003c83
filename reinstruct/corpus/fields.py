"""Named columns to the fields of a record. Names that other datasets use for a field are listed here, and only here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from xxhash import xxh3_64_hexdigest

from reinstruct.corpus.trees import first_turn, is_tree
from reinstruct.errors import CorpusError
from reinstruct.records import Document, Drop, Instruction, Pair, Record

# field of the record -> columns it is read from, the first present and not null; a mapping replaces the list.
DOCUMENT_COLUMNS = {"id": ("id",), "text": ("text",)}
INSTRUCTION_COLUMNS = {
    "id": ("id",),
    "instruction": ("instruction", "prompt", "question"),
    "input": ("input", "context"),
}
PAIR_COLUMNS = {
    **INSTRUCTION_COLUMNS,
    "output": ("output", "response", "answer", "completion"),
    "messages": ("messages",),
    "instances": ("instances",),
}
ORIGIN_COLUMNS = {"url": ("url",), "source": ("source",), "licence": ("licence", "license")}
SOURCE_TEXT_COLUMNS = {"document": ("document", "web_text")}  # of pairs that teach rewriting

Columns = Mapping[str, tuple[str, ...]]


def columns_of(record_type: type[Any], mapping: Mapping[str, str]) -> Columns:
    """Field -> accepted columns. CorpusError for a record type that is not read, or a field it does not have."""
    known = {
        Document: {**DOCUMENT_COLUMNS, **ORIGIN_COLUMNS},
        Instruction: INSTRUCTION_COLUMNS,
        Pair: {**PAIR_COLUMNS, **ORIGIN_COLUMNS, **SOURCE_TEXT_COLUMNS},
    }
    if record_type not in known:
        raise CorpusError(f"files hold Document, Instruction or Pair records, not {record_type.__name__}")
    fields = known[record_type]
    if unknown := sorted(set(mapping) - set(fields)):
        raise CorpusError(
            f"no field {unknown[0]!r} in {record_type.__name__} to map a column to; it has {list(fields)}"
        )
    return {**fields, **{name: (column,) for name, column in mapping.items()}}


def convert(row: dict[str, Any], record_type: type[Any], columns: Columns) -> Record | Drop:
    """The row as a record of the type, or why it is none."""
    return _CONVERTERS[record_type](row, columns)


def missing(record_type: type[Any], present: Iterable[str], columns: Columns) -> str:
    """The first required field that none of the columns `present` can fill; empty if there is none."""
    present = set(present)
    absent = [name for name in _REQUIRED[record_type] if present.isdisjoint(columns[name])]
    whole_pair = absent and record_type is Pair and not present.isdisjoint(columns["messages"])
    instances = absent == ["output"] and record_type is Pair and not present.isdisjoint(columns["instances"])
    return "" if not absent or whole_pair or instances else absent[0]


def content_id(*texts: str) -> str:
    """Stable id of content: the 16 hex digits of its XXH3, which costs a seventh of a SHA-256."""
    return xxh3_64_hexdigest("\0".join(texts).encode())


def _to_document(row: dict[str, Any], columns: Columns) -> Document | Drop:
    text = _text(row, columns, "text")
    if isinstance(text, Drop):
        return text
    return Document(id=_id(row, columns) or content_id(text), text=text, **_origin(row, columns))


def _to_instruction(row: dict[str, Any], columns: Columns) -> Instruction | Drop:
    instruction = _text(row, columns, "instruction")
    given = _text(row, columns, "input", required=False)
    if isinstance(instruction, Drop) or isinstance(given, Drop):
        return instruction if isinstance(instruction, Drop) else cast(Drop, given)
    return Instruction(id=_id(row, columns) or content_id(instruction, given), instruction=instruction, input=given)


def _to_pair(row: dict[str, Any], columns: Columns) -> Pair | Drop:
    parts = _pair_columns(row, columns)
    if isinstance(parts, Drop):
        return parts
    texts = {name: _text(parts, columns, name, required=name != "input") for name in ("instruction", "input", "output")}
    bad = next((text for text in texts.values() if isinstance(text, Drop)), None)
    if bad:
        return bad
    fields = cast(dict[str, str], texts)
    known = {**row, **parts}
    return Pair(id=_id(known, columns) or content_id(*fields.values()), **fields, **_origin(known, columns))


def _pair_columns(row: dict[str, Any], columns: Columns) -> dict[str, Any] | Drop:
    """The row with instruction, input and output as columns, whatever form they came in."""
    if is_tree(row):
        turn = first_turn(row)
        return turn if isinstance(turn, Drop) else {columns[name][0]: text for name, text in turn.items()}
    if _first(row, columns["output"]) is not None:
        return row
    if (turns := _first(row, columns["messages"])) is not None:
        return _from_messages(turns, columns)
    if (instances := _first(row, columns["instances"])) is not None:
        return _from_instances(row, instances, columns)
    return row


def _from_messages(turns: Any, columns: Columns) -> dict[str, Any] | Drop:
    """One user turn and one assistant turn. A system turn says how to answer, so it opens the instruction."""
    try:
        said = [(turn.role, turn.content) for turn in msgspec.convert(turns, list[_Turn])]
    except msgspec.ValidationError as error:
        return Drop("wrong_type", f"messages: {error}")
    system = said.pop(0)[1] if said and said[0][0] == "system" else ""
    roles = [role for role, _ in said]
    if len(roles) > 2:
        return Drop("extra_turns", f"{len(roles)} turns where one question and one answer are wanted")
    if roles != ["user", "assistant"]:
        return Drop("wrong_roles", f"turns by {roles} where user, assistant is wanted")
    instruction = f"{system}\n\n{said[0][1]}" if system.strip() and said[0][1].strip() else said[0][1]
    return {columns["instruction"][0]: instruction, columns["output"][0]: said[1][1]}


def _from_instances(row: dict[str, Any], instances: Any, columns: Columns) -> dict[str, Any] | Drop:
    """The first of the `instances` that a Self-Instruct task lists (yizhongw/self-instruct, data/seed_tasks.jsonl)."""
    if not isinstance(instances, list) or not all(isinstance(item, dict) for item in cast(list[Any], instances)):
        return Drop("wrong_type", "instances is not a list of objects")
    if not instances:
        return Drop("missing_output", "instances is empty")
    first = cast(dict[str, Any], instances[0])
    found = {columns[name][0]: _first(first, PAIR_COLUMNS[name]) for name in ("input", "output")}
    return {**row, **found}


class _Turn(msgspec.Struct):
    role: str
    content: str


def _text(row: dict[str, Any], columns: Columns, name: str, *, required: bool = True) -> str | Drop:
    accepted = columns[name]
    value = _first(row, accepted)
    if value is None and required and not any(column in row for column in accepted):
        return Drop(f"missing_{name}", f"no {' or '.join(accepted)} among {list(row)[:20]}")
    if value is None:
        return Drop(f"empty_{name}", "null") if required else ""
    if not isinstance(value, str):
        return Drop("wrong_type", f"{name} is {type(value).__name__}, not text")
    if required and not value.strip():
        return Drop(f"empty_{name}")
    if not _encodes(value):
        return Drop("bad_utf8", f"{name} holds half of a surrogate pair")
    return value


def _first(row: dict[str, Any], accepted: tuple[str, ...]) -> Any:
    return next((row[column] for column in accepted if row.get(column) is not None), None)


def _id(row: dict[str, Any], columns: Columns) -> str:
    value = _first(row, columns["id"])
    return str(value) if isinstance(value, (str, int, float)) and _encodes(str(value)) else ""


def _origin(row: dict[str, Any], columns: Columns) -> dict[str, Any]:
    optional = (*ORIGIN_COLUMNS, *SOURCE_TEXT_COLUMNS)
    values = {name: _first(row, columns[name]) for name in optional if name in columns}
    return {name: value for name, value in values.items() if isinstance(value, str) and _encodes(value)}


def _encodes(text: str) -> bool:
    """False for half a surrogate pair, which JSON can write and UTF-8, so Parquet too, cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_REQUIRED = {Document: ("text",), Instruction: ("instruction",), Pair: ("instruction", "output")}
_CONVERTERS: dict[type[Any], Callable[[dict[str, Any], Columns], Record | Drop]] = {
    Document: _to_document,
    Instruction: _to_instruction,
    Pair: _to_pair,
}
