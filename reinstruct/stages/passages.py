"""Long documents to passages of a bounded length, cut where their authors cut: at headers, paragraphs, sentences.

The one rule: the passages of a document, one after the other, are the document; none is dropped here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
from msgspec.structs import replace

from reinstruct.errors import expect
from reinstruct.records import Document, Drop
from reinstruct.stage import Filter, Transform
from reinstruct.stages.select import first_reason

_PARAGRAPH = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_HEADER = re.compile(r"#{1,6} \S|[^\n]+\n(?:=+|-{3,})[ \t]*(?:\n|$)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
# What counts as a word where words are not set apart by spaces: a character.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


@dataclass(frozen=True)
class SplitPassages(Transform[Document, Document]):
    """Passages of `min_words` to `max_words`: whole paragraphs of one section as long as they fit.

    A section is what follows a Markdown header; with `keep_sections` no passage holds parts of two, else short ones are
    joined. A paragraph that is too long by itself is cut between sentences, a sentence never. What stays shorter than
    `min_words` is a passage too: KeepWords turns it away with a reason.
    """

    expands: ClassVar[bool] = True
    max_words: int = 400
    min_words: int = 50
    keep_sections: bool = True

    def __post_init__(self) -> None:
        accepted = f"a number of words from 1 to max_words ({self.max_words})"
        expect(0 < self.min_words <= self.max_words, "min_words", self.min_words, accepted)

    def apply(self, record: Document) -> list[Document] | Drop:
        passages = self._joined(list(self._packed(record.text)))
        if not passages:
            return Drop("empty_document")
        return [replace(record, id=f"{record.id}.{number}", text=text) for number, text in enumerate(passages)]

    def _packed(self, text: str) -> Iterator[str]:
        """Paragraphs joined until the next would not fit, or begins a section."""
        held: list[str] = []
        size = 0
        for paragraph in self._paragraphs(text):
            words, header = _count(paragraph), bool(_HEADER.match(paragraph))
            if held and (size + words > self.max_words or (header and self.keep_sections)):
                yield "\n\n".join(held)
                held, size = [], 0
            held.append(paragraph)
            size += words
        if held:
            yield "\n\n".join(held)

    def _joined(self, passages: list[str]) -> list[str]:
        """The last passage of a section joins the one before it where it is too short and both fit together."""
        joined: list[str] = []
        for passage in passages:
            fits = joined and _count(joined[-1]) + _count(passage) <= self.max_words
            begins = self.keep_sections and _HEADER.match(passage)
            if fits and not begins and _count(passage) < self.min_words:
                joined[-1] = f"{joined[-1]}\n\n{passage}"
            else:
                joined.append(passage)
        return joined

    def _paragraphs(self, text: str) -> Iterator[str]:
        for paragraph in filter(str.strip, _PARAGRAPH.split(text.strip())):
            if _count(paragraph) <= self.max_words:
                yield paragraph
            else:
                yield from self._sentences(paragraph)

    def _sentences(self, paragraph: str) -> Iterator[str]:
        """Pieces of whole sentences that fit; white space between two pieces is lost, as between two paragraphs."""
        held, size, start = "", 0, 0
        for following in [*(found.end() for found in _SENTENCE.finditer(paragraph)), len(paragraph)]:
            sentence = paragraph[start:following]
            words = _count(sentence)
            if held and size + words > self.max_words:
                yield held.strip()
                held, size = "", 0
            held, size, start = held + sentence, size + words, following
        if held.strip():
            yield held.strip()


@dataclass(frozen=True)
class KeepWords(Filter[Document]):
    """Documents of `min_words` to `max_words`, a character counting as a word in scripts without spaces.

    The defaults are AIR's bounds on its documents.
    """

    min_words: int = 50
    max_words: int = 2048

    def reason(self) -> pl.Expr:
        words = pl.col("text").str.count_matches(_WORD.pattern)
        return first_reason([("too_short", words < self.min_words), ("too_long", words > self.max_words)])


def _count(text: str) -> int:
    return len(_WORD.findall(text))
