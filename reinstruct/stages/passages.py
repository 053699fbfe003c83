"""Long documents to passages of a bounded length, cut where their authors cut: at headers, paragraphs, sentences.

The one rule: the passages of a document, one after the other, are the document; none is dropped here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
from msgspec.structs import replace

from reinstruct.errors import expect
from reinstruct.records import Document, Drop
from reinstruct.stage import Filter, Transform
from reinstruct.stages.headers import header_levels
from reinstruct.stages.scripts import WORD, count_words
from reinstruct.stages.select import first_reason
from reinstruct.stages.sentences import sentences

Piece = tuple[str, bool]  # a text, and whether a section begins with it


@dataclass(frozen=True)
class SplitPassages(Transform[Document, Document]):
    """Passages of `min_words` to `max_words`: whole paragraphs of one section as long as they fit.

    A section is what follows a Markdown header outside of code; with `keep_sections` no passage holds parts of two,
    else short ones are joined. A paragraph that is too long by itself is cut between sentences, a sentence never. What
    stays shorter than `min_words` is a passage too: KeepWords turns it away with a reason.
    """

    version: ClassVar[int] = 2
    expands: ClassVar[bool] = True
    max_words: int = 400
    min_words: int = 50
    keep_sections: bool = True

    def __post_init__(self) -> None:
        accepted = f"a number of words from 1 to max_words ({self.max_words})"
        expect(0 < self.min_words <= self.max_words, "min_words", self.min_words, accepted)

    def apply(self, record: Document) -> list[Document] | Drop:
        passages = self._joined(self._packed(record.text))
        if not passages:
            return Drop("empty_document")
        return [replace(record, id=f"{record.id}.{number}", text=text) for number, text in enumerate(passages)]

    def _packed(self, text: str) -> Iterator[Piece]:
        """Paragraphs joined until the next would not fit, or begins a section."""
        held: list[str] = []
        size, held_begins = 0, False
        for paragraph, begins in self._fitting(text):
            words = count_words(paragraph)
            if held and (size + words > self.max_words or (begins and self.keep_sections)):
                yield "\n\n".join(held), held_begins
                held, size = [], 0
            held_begins = held_begins if held else begins
            held.append(paragraph)
            size += words
        if held:
            yield "\n\n".join(held), held_begins

    def _joined(self, passages: Iterator[Piece]) -> list[str]:
        """The last passage of a section joins the one before it where it is too short and both fit together."""
        joined: list[str] = []
        for passage, begins in passages:
            words = count_words(passage)
            fits = joined and count_words(joined[-1]) + words <= self.max_words
            if fits and not (begins and self.keep_sections) and words < self.min_words:
                joined[-1] = f"{joined[-1]}\n\n{passage}"
            else:
                joined.append(passage)
        return joined

    def _fitting(self, text: str) -> Iterator[Piece]:
        for paragraph, begins in _paragraphs(text):
            if count_words(paragraph) <= self.max_words:
                yield paragraph, begins
            else:
                first, *rest = self._cut(paragraph)
                yield first, begins
                yield from ((piece, False) for piece in rest)

    def _cut(self, paragraph: str) -> Iterator[str]:
        """Pieces of whole sentences that fit; white space between two pieces is lost, as between two paragraphs."""
        held, size = "", 0
        for sentence in sentences(paragraph):
            words = count_words(sentence)
            if held and size + words > self.max_words:
                yield held.strip()
                held, size = "", 0
            held, size = held + sentence, size + words
        yield held.strip()


@dataclass(frozen=True)
class KeepWords(Filter[Document]):
    """Documents of `min_words` to `max_words`, a character counting as a word in scripts without spaces.

    The defaults are AIR's bounds on its documents.
    """

    version: ClassVar[int] = 2
    min_words: int = 50
    max_words: int = 2048

    def reason(self) -> pl.Expr:
        words = pl.col("text").str.count_matches(WORD)
        return first_reason([("too_short", words < self.min_words), ("too_long", words > self.max_words)])


def _paragraphs(text: str) -> Iterator[Piece]:
    """What stands between blank lines, and a header with what follows it, without a blank line before."""
    held: list[str] = []
    held_begins = False
    lines = text.strip().split("\n")
    for line, level in zip(lines, header_levels(lines), strict=True):
        if held and (level > 0 or not line.strip()):
            yield "\n".join(held), held_begins
            held = []
        if line.strip():
            held_begins = held_begins if held else level > 0
            held.append(line)
    if held:
        yield "\n".join(held), held_begins
