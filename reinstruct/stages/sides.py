"""Tell segments that ask from segments that tell, and watch over the halves that models make up for them.

The one rule: what is neither, or no sane half, is rejected with the reason why.
Cycle-Instruct (https://arxiv.org/abs/2508.16100) starts from this split of raw text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
from msgspec.structs import replace

from reinstruct.records import Document, Drop, Pair
from reinstruct.stage import Filter, Transform
from reinstruct.stages.bounds import expect_order, expect_share
from reinstruct.stages.checks import CJK, DropCopies, DropRepetition, KeepWords
from reinstruct.stages.select import count
from reinstruct.stages.sentences import sentences, words_in

OPENERS = (
    *("how to ", "how do i ", "please explain", "please describe", "can you ", "could you "),
    *("如何", "怎样", "怎么", "请问", "请解释", "请说明", "请介绍", "请描述", "能否", "能不能"),
)
_MARKS = ("?", "？", "؟")
_CLOSERS = "\"'”’»)]*_ "
_QUOTED = re.compile(r"^[\"“”«‘'「]|[?？؟][\"”»」]")
_LIST_MARK = re.compile(r"^(?:[-*•#>]+|\(?\d{1,3}[.)])\s+")
_CODE = re.compile(r"[{}<>=|\\]")
_SCRIPTS = (
    CJK,
    *(rf"\p{{{name}}}" for name in ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali")),
    *(rf"\p{{{name}}}" for name in ("Tamil", "Telugu", "Thai", "Hangul", "Armenian", "Georgian", "Ethiopic")),
)


@dataclass(frozen=True)
class Sides:
    """Which segments ask and which tell; the others are neither.

    The paper's rule (`compat`) takes every paragraph of `min_chars` characters with a "?" for a question. Here a
    question ends in one, and asks in half its sentences or is short; speech in quotes, code and paragraphs that ask and
    answer in one are nobody's; an answer may hold a rhetorical question. `openers` ask without a question mark.
    """

    min_chars: int = 10  # of the paper's rule, in its re-implementation
    min_question_words: int = 4  # each CJK character counts as one
    max_question_chars: int = 600
    asking_share: float = 0.5  # of sentences, at least, in longer questions
    short_question_chars: int = 300
    rhetorical_share: float = 0.2  # of sentences, at most, in an answer
    min_answer_chars: int = 300
    max_answer_chars: int = 1200
    max_code_share: float = 0.02  # of characters
    openers: tuple[str, ...] = OPENERS
    compat: bool = False

    @classmethod
    def chinese(cls) -> Sides:
        """Bounds in characters for Chinese, which says the same in less than half as many."""
        return cls(
            min_question_words=6,
            max_question_chars=250,
            short_question_chars=120,
            min_answer_chars=120,
            max_answer_chars=500,
        )

    def __post_init__(self) -> None:
        for name in ("asking_share", "rhetorical_share", "max_code_share"):
            expect_share(f"Sides.{name}", getattr(self, name))
        expect_order("Sides.min_answer_chars", self.min_answer_chars, "max_answer_chars", self.max_answer_chars)

    def of(self, text: str) -> str:
        """question, answer, or the reason why neither."""
        if self.compat:
            return "too_short" if len(text) < self.min_chars else "question" if "?" in text else "answer"
        text = _LIST_MARK.sub("", text.strip())
        if len(_CODE.findall(text)) > len(text) * self.max_code_share:
            return "code"
        asking = [sentence.rstrip().rstrip(_CLOSERS).endswith(_MARKS) for sentence in sentences(text)]
        share = sum(asking) / max(1, len(asking))
        if not share:
            return self._question(text) if self._requests(text, len(asking)) else self._answer(text)
        if _QUOTED.search(text):
            return "quoted"
        if asking[-1] and (share >= self.asking_share or len(text) <= self.short_question_chars):
            return self._question(text)
        return self._answer(text) if share <= self.rhetorical_share and not asking[-1] else "mixed"

    def _requests(self, text: str, sentences: int) -> bool:
        return sentences == 1 and text.lower().startswith(self.openers)

    def _question(self, text: str) -> str:
        if len(words_in(text)) < self.min_question_words:
            return "short_question"
        return "too_long" if len(text) > self.max_question_chars else "question"

    def _answer(self, text: str) -> str:
        if len(text) < self.min_answer_chars:
            return "too_short"
        return "too_long" if len(text) > self.max_answer_chars else "answer"


@dataclass(frozen=True)
class SplitSegments(Transform[Document, Document]):
    """Paragraphs as documents of their own, numbered. Unless `compat`, short ones that tell are joined with the next
    until they are long enough for an answer; those that ask stand alone.
    """

    version: ClassVar[int] = 2
    expands: ClassVar[bool] = True
    sides: Sides

    def apply(self, record: Document) -> list[Document] | Drop:
        paragraphs = [text.strip() for text in re.split(r"\n[^\S\n]*\n", record.text) if text.strip()]
        if not paragraphs:
            return Drop("no_text")
        segments = paragraphs if self.sides.compat else self._joined(paragraphs)
        return [replace(record, id=f"{record.id}:{number}", text=text) for number, text in enumerate(segments)]

    def _joined(self, paragraphs: list[str]) -> list[str]:
        segments: list[str] = []
        is_open = False
        for text in paragraphs:
            is_short = self.sides.of(text) == "too_short"
            fits = is_open and len(segments[-1]) + len(text) < self.sides.max_answer_chars
            if fits and (is_short or self.sides.of(text) == "answer"):
                segments[-1] += f"\n\n{text}"
            else:
                segments.append(text)
                is_open = is_short
            is_open = is_open and len(segments[-1]) < self.sides.min_answer_chars
        return segments


@dataclass(frozen=True)
class KeepSide(Transform[Document, Document]):
    """Keep the segments of one side, question or answer."""

    version: ClassVar[int] = 2
    side: str
    sides: Sides

    def apply(self, record: Document) -> Document | Drop:
        found = self.sides.of(record.text)
        if found == self.side:
            return record
        return Drop(f"is_{found}" if found in ("question", "answer") else found)


@dataclass(frozen=True)
class Guard(Filter[Pair]):
    """Keeps made-up halves from collapsing into a private code of the two models: the text in `field` has a sane
    length, does not go round in circles, is not lifted from the real half, and is written in its script.

    Bounds are included. Scripts: at least half of the letters are of scripts the real half uses as much.
    """

    field: str
    min_words: int
    max_words: int
    max_repeated: float = 0.3  # of runs of four words
    max_copied: float = 0.6  # of runs of five words
    min_script: float = 0.5

    def __post_init__(self) -> None:
        expect_share("Guard.min_script", self.min_script)
        self.reason()  # its parts check their own bounds

    def reason(self) -> pl.Expr:
        same_script = _script_overlap(pl.col(self.field), pl.col("document")) >= self.min_script
        return pl.coalesce(
            KeepWords(self.field, self.min_words, self.max_words).reason(),
            DropRepetition(self.field, run=4, max_share=self.max_repeated).reason(),
            DropCopies(self.field, "document", run=5, max_share=self.max_copied).reason(),
            pl.when(~same_script).then(pl.lit("other_script")),
        )


def _script_overlap(text: pl.Expr, gold: pl.Expr) -> pl.Expr:
    """How much of their letters two texts have in the same scripts, 0 to 1; 1 if one has no letters."""
    letters = [count(each, r"\p{L}") for each in (text, gold)]
    parts = list(zip((text, gold), letters, strict=True))
    common: list[pl.Expr] = []
    for script in _SCRIPTS:
        shares = [count(each, f"[{script}]") / pl.max_horizontal(all_, 1) for each, all_ in parts]
        common.append(pl.min_horizontal(shares))
    wordless = pl.min_horizontal(letters) == 0
    return pl.when(wordless).then(1.0).otherwise(pl.sum_horizontal(common))
