"""Cut documents into texts that can stand as one answer: segments under headers, texts that fit a context.

The one rule: nothing of a document is lost unsaid. Every piece becomes a segment with its header, and rules that each
have a name and a field turn segments away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import polars as pl

from reinstruct.errors import expect
from reinstruct.records import Document, Drop
from reinstruct.stage import Filter, Transform
from reinstruct.stages.bounds import expect_at_least, expect_order, expect_share
from reinstruct.stages.headers import header_lines
from reinstruct.stages.limits import Limit, first_limit
from reinstruct.stages.select import count, first_reason
from reinstruct.stages.sentences import sentences, words_in


class Segment(Document, frozen=True, kw_only=True):
    """A piece of a document and the header it stands under; empty for what comes before the first."""

    header: str = ""


@dataclass(frozen=True)
class SplitAtHeaders(Transform[Document, Segment]):
    """One segment for each header, of Markdown (# or underlined) or HTML, and for the text before the first.

    A header deeper than `max_level` opens no segment and stays in the text as a line. HTML is a text that begins as a
    page, or has tags of blocks or a header outside of code and no header of Markdown. It becomes plain text: blocks are
    lines, scripts, styles and navigation are left out. Source: Li et al. 2023 (segments are the text under an
    HTML header).
    """

    version: ClassVar[int] = 2
    expands: ClassVar[bool] = True
    max_level: int = 6

    def __post_init__(self) -> None:
        expect(1 <= self.max_level <= 6, "SplitAtHeaders.max_level", self.max_level, "a level of headers, 1 to 6")

    def apply(self, record: Document) -> list[Segment] | Drop:
        pieces: list[tuple[str, list[str]]] = [("", [])]
        for level, line in header_lines(record.text):
            if 0 < level <= self.max_level:
                pieces.append((line.strip(), []))
            else:
                pieces[-1][1].append(line)
        found = [(header, "\n".join(body).strip()) for header, body in pieces]
        segments = [
            _segment(record, number, header, text) for number, (header, text) in enumerate(found) if header or text
        ]
        return segments or Drop("empty_document")


@dataclass(frozen=True)
class SegmentRules(Filter[Segment]):
    """Humpback's rules on a segment: characters of its text, and what its header is (Li et al. 2023).

    A header is turned away if it is missing, all in capitals, or holds a phrase of `navigation` (any case).
    """

    min_chars: int = 600
    max_chars: int = 3000
    require_header: bool = True
    allow_capitals: bool = False
    navigation: tuple[str, ...] = ("advertisement", "forum", "quick link", "free newsletter")

    def __post_init__(self) -> None:
        expect_order("SegmentRules.min_chars", self.min_chars, "max_chars", self.max_chars)

    @classmethod
    def plain(cls) -> SegmentRules:
        """For corpora whose headers are lost: a document without any is one segment."""
        return cls(require_header=False)

    @classmethod
    def chinese(cls) -> SegmentRules:
        """For Chinese, which says the same in less than half as many characters: bounds and phrases of its own."""
        navigation = ("广告", "论坛", "友情链接", "快速链接", "相关推荐", "免费订阅")
        return cls(min_chars=200, max_chars=1100, navigation=navigation)

    def reason(self) -> pl.Expr:
        return first_limit(self.limits())

    def limits(self) -> list[Limit]:
        """On the columns "text" and "header"."""
        header, chars = pl.col("header"), pl.col("text").str.len_chars()
        capitals = (header == header.str.to_uppercase()) & (header != header.str.to_lowercase())
        limits = [
            Limit("too_short", chars, "least", self.min_chars, "characters"),
            Limit("too_long", chars, "most", self.max_chars, "characters"),
        ]
        if self.require_header:
            limits.append(Limit("no_header", header.str.strip_chars().str.len_chars(), "least", 1, "of the header"))
        if not self.allow_capitals:
            limits.append(Limit("capital_header", capitals, "most", 0, "1 for a header all in capitals"))
        if self.navigation:
            phrases = "|".join(map(re.escape, self.navigation))
            found = count(header, f"(?i){phrases}")
            limits.append(Limit("navigation_header", found, "most", 0, f"of {', '.join(self.navigation)}"))
        return limits


@dataclass(frozen=True)
class DropRepetitive(Transform[Segment, Document]):
    """Reject segments that say a sentence twice: two sentences whose sets of word n-grams overlap too much. Those kept
    are plain documents; their headers have served.

    Overlap is the Jaccard index, shared n-grams over all n-grams of both; sentences of fewer than `min_words` words
    are not compared. The paper names the measure (Li et al. 2023), the numbers are ours.
    """

    version: ClassVar[int] = 2
    ngram: int = 3
    max_jaccard: float = 0.5
    min_words: int = 6

    def __post_init__(self) -> None:
        expect_at_least("DropRepetitive.ngram", self.ngram, 1)
        expect_at_least("DropRepetitive.min_words", self.min_words, 1)
        expect_share("DropRepetitive.max_jaccard", self.max_jaccard)

    def apply(self, record: Segment) -> Document | Drop:
        for one, other in self._pairs(record.text):
            shared = len(one & other)
            if shared and shared > self.max_jaccard * (len(one) + len(other) - shared):
                return Drop("repetitive", " ".join(min(one & other)))
        return Document(id=record.id, text=record.text, url=record.url, source=record.source, licence=record.licence)

    def overlap(self, text: str) -> float:
        """The largest Jaccard index of any two sentences."""
        return max((len(one & other) / len(one | other) for one, other in self._pairs(text)), default=0.0)

    def _pairs(self, text: str) -> Iterator[tuple[set[tuple[str, ...]], set[tuple[str, ...]]]]:
        said = (words_in(sentence) for line in text.lower().splitlines() for sentence in sentences(line))
        return combinations([self._grams(words) for words in said if len(words) >= self.min_words], 2)

    def _grams(self, words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[start : start + self.ngram]) for start in range(max(1, len(words) - self.ngram + 1))}


@dataclass(frozen=True)
class KeepWithinContext(Filter[Document]):
    """Drop documents near or over the models' context: a document is asked about whole or not at all.

    `context_tokens` are counted at `chars_per_token` (about 4 in English, 1.5 in Chinese); `reserved_tokens` are left
    for the prompt around the document and for the reply. Documents under `min_chars` are too short to answer anything.
    """

    context_tokens: int = 4096
    reserved_tokens: int = 1024
    chars_per_token: float = 4.0
    min_chars: int = 1

    def __post_init__(self) -> None:
        accepted = f"fewer tokens than context_tokens, which is {self.context_tokens}"
        expect(
            self.reserved_tokens < self.context_tokens,
            "KeepWithinContext.reserved_tokens",
            self.reserved_tokens,
            accepted,
        )
        expect(self.chars_per_token > 0, "KeepWithinContext.chars_per_token", self.chars_per_token, "a number above 0")
        expect_order("KeepWithinContext.min_chars", self.min_chars, "the most characters that fit", self.max_chars)

    @property
    def max_chars(self) -> int:
        return int((self.context_tokens - self.reserved_tokens) * self.chars_per_token)

    def reason(self) -> pl.Expr:
        chars = pl.col("text").str.len_chars()
        return first_reason([("too_short", chars < self.min_chars), ("near_context", chars > self.max_chars)])


def _segment(record: Document, number: int, header: str, text: str) -> Segment:
    where = {"url": record.url, "source": record.source, "licence": record.licence}
    return Segment(id=f"{record.id}.{number}", text=text, header=header, **where)
