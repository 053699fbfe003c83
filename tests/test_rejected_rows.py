"""What is stored of a rejected row: all of it, or the beginning where the input holds the whole."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from reinstruct.records import Document, Rejected
from reinstruct.rejected import BEGINNING, as_json, json_objects
from reinstruct.stage import Transform
from reinstruct.stages.text import KeepLengths
from reinstruct.stream import FILTERED_ROWS, Tally, run_stages
from reinstruct.tables import Chunk, joined

LONG = "The mill stands by the river. " * 100


@dataclass(frozen=True)
class Doubled(Transform[Document, Document]):
    def apply(self, record: Document) -> Document:
        return Document(id=record.id, text=record.text * 2)


def rejected(stages: Sequence[Any], *texts: str) -> list[Rejected]:
    found: list[Rejected] = []
    tally = Tally("step", lambda chunk: found.extend(chunk.records))
    rows = [Document(id=str(n), text=text, url="http://a.org") for n, text in enumerate(texts)]
    assert sum(map(len, run_stages(stages, iter([Chunk(Document, rows=rows)]), tally, None, None))) == 0
    return found


def test_of_a_long_text_that_the_input_holds_the_beginning_is_stored():
    too_short = KeepLengths[Document]("text", 10_000)
    short, exact, long = [json.loads(row.record) for row in rejected([too_short], "Short.", "x" * BEGINNING, LONG)]
    assert short == {"id": "0", "text": "Short.", "url": "http://a.org", "source": "", "licence": ""}
    assert exact["text"] == "x" * BEGINNING
    assert long["text"] == LONG[:BEGINNING] + "…"


def test_a_text_made_on_the_way_is_stored_whole():
    (row,) = rejected([Doubled(), KeepLengths[Document]("text", 10_000)], LONG)
    assert json.loads(row.record)["text"] == LONG * 2
    assert (row.stage, row.reason) == ("KeepLengths", "too_short")


def test_chunks_are_joined_in_order_up_to_a_size():
    chunks = [Chunk(Document, rows=[Document(id=f"{n}-{k}", text="x" * 100) for k in range(3)]) for n in range(5)]
    by_rows = list(joined(iter(chunks), 6, 1 << 30))
    assert [len(chunk) for chunk in by_rows] == [6, 6, 3]
    assert [row.id for chunk in by_rows for row in chunk.records] == [
        row.id for chunk in chunks for row in chunk.rows or ()
    ]
    assert [len(chunk) for chunk in joined(iter(chunks), FILTERED_ROWS, 400)] == [6, 6, 3]


@pytest.mark.skipif(json_objects is None, reason="the package was installed without a C compiler")
@pytest.mark.parametrize("most", [0, 1, 7, 63, 64, 65, 200])
def test_the_compiled_loop_writes_what_polars_writes(most):
    draw = random.Random(most)
    characters = [*map(chr, range(0x20)), *'"\\/ abc\x7f\xa0é中👍\u2028\u0301\ufeff']
    texts = ["".join(draw.choices(characters, k=draw.randrange(300))) for _ in range(200)]
    rows = pl.DataFrame({"id": texts, "text": texts[::-1], "url": ["a" * n for n in range(200)]})
    for some in (rows, rows.slice(3, 5), rows.head(0), pl.concat([rows, rows], rechunk=False)):
        written = as_json(some, most)
        assert written.equals(as_json(some, most, json_objects=None))
        if not most:
            assert [json.loads(row) for row in written.to_pylist()] == some.to_dicts()


def test_rows_that_are_not_all_texts_are_json_too():
    rows = pl.DataFrame({"id": ["1", "2"], "text": ["x" * 9, None], "scores": [[1.5], []]})
    assert [json.loads(row) for row in as_json(rows, 5).to_pylist()] == [
        {"id": "1", "text": "xxxxx…", "scores": [1.5]},
        {"id": "2", "text": None, "scores": []},
    ]


@pytest.mark.skipif(json_objects is None, reason="the package was installed without a C compiler")
def test_columns_that_cannot_be_are_errors():
    one, two = (pl.Series(["x"] * n).to_arrow(compat_level=pl.CompatLevel.newest()).buffers()[1] for n in (1, 2))
    assert json_objects is not None
    with pytest.raises(ValueError, match="different lengths"):
        json_objects((("a", 1, one, ()), ("b", 1, two, ())))
    with pytest.raises(ValueError, match="-1 characters"):
        json_objects((("a", -1, one, ()),))
    with pytest.raises(ValueError, match="more than 64"):
        json_objects((("a", 1, one, ()),) * 65)
    with pytest.raises(ValueError, match="does not lie in its buffer"):
        json_objects((("a", 1, (99).to_bytes(16, "little"), ()),))
