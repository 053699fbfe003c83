"""What is stored of a rejected row: all of it, or the beginning where the input holds the whole."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reinstruct.records import Document, Rejected
from reinstruct.rejected import BEGINNING
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
