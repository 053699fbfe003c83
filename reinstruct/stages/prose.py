"""Documents as a base model should read them: of the licences that are wanted, and of their text the prose alone.

The one rule: a paragraph is kept whole or not at all. What the spelling of quotes, dashes and emphasis adds to a
vocabulary and not to a text is made plain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
from msgspec.structs import replace

from reinstruct.draw import draw
from reinstruct.errors import expect
from reinstruct.llm import Prompt, Reply
from reinstruct.records import Document, Drop, Example, Pair
from reinstruct.stage import Ask, Filter, Transform
from reinstruct.stages.select import first_reason
from reinstruct.stages.sentences import sentences, whole_sentences

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ`´", "'"),
        **dict.fromkeys("“”„‟«»", '"'),
        **dict.fromkeys("–—―", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\t", " "),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", None),
        **{"…": "...", "•": "-", "·": "-", "−": "-"},
    }
)
_DASH = re.compile(r" ?(?:—|―|--+|(?<=[\w ])–(?=[a-zA-Z ])) ?")
_MARKUP = re.compile(
    r"!?\[([^\]\[\n]*)\](?:\([^()\s]*\)|\[[^\]\n]*\])"  # links and images: their text stays
    r"|(?<![\w*_])(?:\*{1,3}|_{1,3})(?=\S)([^*_\n]+?)(?<=\S)[*_]{1,3}(?![\w*_])"  # emphasis
)
_MARKS = re.compile(r"\[\^?\d+\]|\{[#:%][^{}\n]*\}|^#{1,6} +|^> ?", re.MULTILINE)
_ITEM = re.compile(r"(?:[-*+]|\(?\d{1,2}[.)]) +(?=\S)")
_ENDED = re.compile(r"[.!?][\"')\]]*$")
_CODE = re.compile(
    r"://|www\.|[{}<>|=\\~^]|\w\(|\w_\w|::|\w@\w|->|\$\w|(?<!\w)[-/.]\w+/|\w\[|[a-z][A-Z]\w*[a-z][A-Z]|0x\w"
)
_OTHER = re.compile(r"[^\x20-\x7e\n]")
_PROSE = re.compile(r"[A-Za-z ,.;:!?'\"-]")


@dataclass(frozen=True)
class KeepLicences(Filter[Document]):
    """Keep documents whose licence holds one of `licences`, in any case; none keeps all, also those without any."""

    licences: tuple[str, ...] = ()

    def reason(self) -> pl.Expr:
        pattern = "(?i)" + "|".join(map(re.escape, self.licences))
        licence = pl.col("licence").fill_null("")
        missing = (licence == "") & bool(self.licences)
        return first_reason([("no_licence", missing), ("other_licence", ~licence.str.contains(pattern))])


@dataclass(frozen=True)
class KeepParagraphs(Transform[Document, Document]):
    """Of a text in English letters, the paragraphs and list items that are sentences, each on one line.

    A line without an end is kept as a heading where a kept paragraph follows. Code, tables, addresses and lists of
    names go. Quotes become straight, dashes hyphens, links and emphasis their text.
    """

    min_words: int = 4
    max_heading_words: int = 12
    min_prose: float = 0.93  # letters, spaces and the marks of sentences, of all characters
    max_other: float = 0.01  # of characters outside of ASCII

    def __post_init__(self) -> None:
        expect(self.min_words >= 1, "KeepParagraphs.min_words", self.min_words, "1 or more")
        for name in ("min_prose", "max_other"):
            expect(0 <= getattr(self, name) <= 1, f"KeepParagraphs.{name}", getattr(self, name), "a share, 0 to 1")

    def apply(self, record: Document) -> Document | Drop:
        kept: list[str] = []
        heading = ""
        for line in _lines(plain(record.text)):
            if self._is_sentences(line):
                kept += [heading, line] if heading else [line]
                heading = ""
            else:
                heading = line if self._is_heading(line) else ""
        return replace(record, text="\n".join(kept)) if kept else Drop("no_prose")

    def _is_sentences(self, line: str) -> bool:
        return bool(_ENDED.search(line)) and len(line.split()) >= self.min_words and self._is_english(line)

    def _is_heading(self, line: str) -> bool:
        few = len(line.split()) <= self.max_heading_words or line.endswith(":")
        return few and line[:1].isupper() and not line.isupper() and self._is_english(line)

    def _is_english(self, line: str) -> bool:
        if _CODE.search(line) or len(_OTHER.findall(line)) > self.max_other * len(line):
            return False
        return len(_PROSE.findall(line)) >= self.min_prose * len(line)


@dataclass(frozen=True)
class HoldOutSources(Transform[Document, Document]):
    """One side of a split by source: about `share` of the sources are the "test" side, the others "train".

    A source is a path or address, what stands in `source` before its first #: parts of a book are never on both sides.
    Where `source` is the name of a whole collection (no / in it), each document is one of its own.
    """

    share: float
    side: str
    seed: int = 0

    def apply(self, record: Document) -> Document | Drop:
        place = record.source.partition("#")[0]
        tested = draw(self.seed, "hold-out-source", place if "/" in place else record.id) < self.share
        return record if tested == (self.side == "test") else Drop("held_out" if tested else "for_training")


@dataclass(frozen=True)
class ContinueText(Transform[Document, Example]):
    """A text's opening as prompt and what follows as target: the first sentence, then whole ones up to `max_chars`."""

    version: ClassVar[int] = 2
    max_chars: int = 1200

    def apply(self, record: Document) -> Example | Drop:
        opening, *rest = sentences(record.text)
        target = ""
        for sentence in rest:
            if len(target) + len(sentence) > self.max_chars:
                break
            target += sentence
        if not target.strip():
            return Drop("one_sentence")
        return Example(id=record.id, prompt=opening, target=target.rstrip())


@dataclass(frozen=True)
class WriteOn(Ask[Document, Pair]):
    """Let a base model write on after a text's first sentence: the opening as instruction, what was written as output.

    A reply that reached its length is kept up to its last whole sentence.
    """

    version: ClassVar[int] = 2

    def prompt(self, record: Document) -> Prompt:
        return sentences(record.text)[0].rstrip()

    def parse(self, record: Document, reply: Reply) -> Pair | Drop:
        text = whole_sentences(reply.text) if reply.finish == "length" else reply.text.strip()
        if not text:
            return Drop("no_sentence", reply.text[:200])
        opening = sentences(record.text)[0].strip()
        return Pair(id=record.id, instruction=opening, output=text, origin="synthetic", document_id=record.id)


def plain(text: str) -> str:
    """Text in NFC with straight quotes, spaces and hyphens, without the marks of Markdown."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _MARKUP.sub(lambda found: found[1] or found[2] or "", _DASH.sub(" - ", text))
    return _MARKS.sub("", text.translate(_PLAIN))


def _lines(text: str) -> Iterator[str]:
    """Paragraphs and list items, unwrapped. A blank line, a list's mark or a new indentation begins another."""
    for block in re.split(r"\n[ ]*\n", text):
        line = ""
        for part in block.split("\n"):
            stripped = " ".join(part.split())
            if line and (_ITEM.match(stripped) or _stands_alone(line)):
                yield line
                line = ""
            line = f"{line} {stripped}".strip()
        if line:
            yield line


def _stands_alone(line: str) -> bool:
    """A short ended line, or a long one: the next line is no continuation of it."""
    return bool(_ENDED.search(line)) and not 50 <= len(line) % 1000 <= 90
