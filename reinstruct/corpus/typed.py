"""Well-formed JSON lines to columns of documents, without a Python object for each value that nobody reads.

The one rule: what is accepted here equals what the row-by-row road makes of it; anything odd is left to that road.
Blocks are read by the compiled loop of `_lines.c`, or, where there was no C compiler, by msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from operator import attrgetter
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute
from xxhash import xxh3_64_hexdigest

from reinstruct.corpus.fields import Columns, content_id
from reinstruct.records import Document, schema
from reinstruct.views import equally_long, text_array

try:
    from reinstruct._lines import text_columns as text_columns
except ImportError:  # installed where there was no C compiler
    text_columns = None

Parts = tuple[bytes | memoryview, ...]
TextColumns = Callable[[Parts, tuple[tuple[str, ...], ...], int], tuple[tuple[bytearray, bytearray], ...] | None]
SCHEMA = schema(Document)
pc: Any = pyarrow.compute


class DocumentLines:
    """Decodes JSON objects whose fields have the types a document needs; `columns` as in fields.columns_of.

    Without `compiled` blocks are read by msgspec.
    """

    def __init__(self, columns: Columns, compiled: TextColumns | None = text_columns) -> None:
        self._compiled = compiled
        self._fields = ("text", *(field for field in columns if field != "text"))
        self._names = tuple(columns[field] for field in self._fields)
        names = list(dict.fromkeys(name for accepted in columns.values() for name in accepted))
        self._at = {field: [names.index(name) for name in accepted] for field, accepted in columns.items()}
        ids = frozenset(columns["id"]) - frozenset(columns["text"])
        self._decoder = _row_decoder(tuple(names), ids)

    def table(self, *parts: bytes | memoryview) -> pa.Table | None:
        """Whole lines, in parts that are end to end, as a table of documents; None unless each line is a document."""
        if self._compiled is None:
            return self._decoded(b"".join(parts))
        found = self._compiled(parts, self._names, self._fields.index("id"))
        if found is None:
            return None
        arrays = {field: text_array(*buffers) for field, buffers in zip(self._fields, found, strict=True)}
        return _table(arrays)

    def _decoded(self, raw: bytes) -> pa.Table | None:
        lines = _objects(raw)
        if not lines:
            return None
        try:
            raw.decode()  # msgspec does not look at the values that it skips
            rows = self._decoder.decode_lines(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        texts = self._values(rows, "text") if len(rows) == lines else [None]
        if not _all_filled(texts):
            return None
        text = pa.array(texts, pa.string())
        arrays = {field: _filled(self._values(rows, field)) for field in self._at if field not in ("id", "text")}
        return pa.table({"text": text, "id": self._ids(rows, text), **arrays}).select(SCHEMA.names)

    def document(self, raw: bytes) -> Document | None:
        """One line as a document; None unless it is one."""
        try:
            raw.decode()
            rows = [self._decoder.decode(raw)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        values = {field: self._values(rows, field)[0] for field in self._at}
        if not _all_filled([values["text"]]):
            return None
        given = values.pop("id")
        id_ = str(given) if _given(given) else content_id(cast(str, values["text"]))
        return Document(id=id_, **{field: value or "" for field, value in values.items()})

    def _values(self, rows: Sequence[Any], field: str) -> list[Any]:
        """The field of each row: the first of its columns that is not null."""
        first, *others = (f"c{n}" for n in self._at[field])
        values = list(map(attrgetter(first), rows))
        for other in others:
            if None in values:
                both = zip(rows, values, strict=True)
                values = [getattr(row, other) if value is None else value for row, value in both]
        return values

    def _ids(self, rows: Sequence[Any], text: Any) -> Any:
        given = self._values(rows, "id")
        if not any(map(_given, given)):
            return pa.array(content_ids(text), pa.string())
        made = content_ids(text) if not all(map(_given, given)) else []
        return pa.array([str(id_) if _given(id_) else made[n] for n, id_ in enumerate(given)], pa.string())


def _filled(values: list[str | None]) -> Any:
    """Values as a column, nulls as empty text."""
    array: Any = pa.array(values, pa.string())
    if array.null_count == len(array):
        return pa.repeat("", len(array))
    return pc.fill_null(array, "") if array.null_count else array


@cache
def _row_decoder(names: tuple[str, ...], ids: frozenset[str]) -> msgspec.json.Decoder[Any]:
    """Decodes objects with text in the named columns (in `ids` numbers too), as fields c0, c1, ..., or null."""
    fields = [(f"c{n}", str | int | None if name in ids else str | None, None) for n, name in enumerate(names)]
    row = msgspec.defstruct("Row", fields, rename={f"c{n}": name for n, name in enumerate(names)}, gc=False)
    return msgspec.json.Decoder(row)


def content_ids(text: Any) -> list[str]:
    """`content_id` of each text, hashed where it lies in memory. No text may be null."""
    size, buffers = len(text), text.buffers()
    offsets = memoryview(buffers[1]).cast("i")[text.offset : text.offset + size + 1]
    data = memoryview(buffers[2])
    return [xxh3_64_hexdigest(data[start:end]) for start, end in pairwise(offsets)]


def _table(arrays: dict[str, Any]) -> pa.Table:
    """The columns as documents, with an id of its content for each that has none."""
    arrays = {**arrays, "id": _with_ids(arrays["id"], arrays["text"])}
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _with_ids(ids: Any, text: Any) -> Any:
    data = ids.buffers()[2]
    if not data or not data.size:
        return _content_ids(text)
    without = pc.equal(ids, "")
    if not pc.any(without).as_py():
        return ids
    return pc.if_else(without, _content_ids(text), ids)


def _content_ids(text: Any) -> Any:
    return equally_long(content_ids(text), 16)


def of_columns(batch: pa.RecordBatch, columns: Columns) -> pa.Table | None:
    """A batch of a columnar file as a table of documents; None unless every row is a document as it stands."""
    values = {field: _coalesced(batch, names, numbers=field == "id") for field, names in columns.items()}
    text = values["text"]
    if text is None or text.null_count or any(array is None for array in values.values()) or _any_blank(text):
        return None
    arrays: dict[str, Any] = {field: pc.fill_null(array, "") for field, array in values.items()}
    return _table(arrays)


def _coalesced(batch: pa.RecordBatch, names: Iterable[str], *, numbers: bool) -> Any:
    """The first column that is not null, as strings; None where a column needs a look at each value."""
    found: list[Any] = []
    for name in names:
        position = batch.schema.get_field_index(name)
        if position < 0:
            continue
        array = batch.column(position)
        if not (_is_text(array.type) or (numbers and pa.types.is_integer(array.type))):
            return None
        array = array.cast(pa.string())
        try:
            array.validate(full=True)  # Arrow does not check text when it reads it
        except pa.ArrowInvalid:
            return None
        found.append(array)
    return pc.coalesce(*found) if found else pa.nulls(batch.num_rows, pa.string())


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    return pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_null(inner)


def _any_blank(text: Any) -> bool:
    return bool(pc.any(pc.or_(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))).as_py())


def _all_filled(texts: Sequence[str | None]) -> bool:
    return None not in texts and "" not in texts and not any(map(str.isspace, cast(Sequence[str], texts)))


def _given(id_: str | int | None) -> bool:
    return id_ is not None and id_ != ""


def _objects(raw: bytes) -> int:
    """How many lines a block has, each of which begins and ends as an object does; 0 if one does not.

    The decoder alone would take a value that spans lines, and two on one line.
    """
    lines = start = 0
    while (end := raw.find(b"\n", start)) >= 0 or start < len(raw):
        end = end if end >= 0 else len(raw)
        if raw[start] != ord("{") or raw[end - 1] != ord("}"):
            return 0
        start, lines = end + 1, lines + 1
    return lines
