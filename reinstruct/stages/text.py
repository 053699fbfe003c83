"""Rules on plain text: how long it is, whether it is prose, whether it is advice worth an instruction.

The one rule: every threshold is a field, and a text is rejected for the first rule it breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from reinstruct.records import Document, R
from reinstruct.stage import Filter
from reinstruct.stages import select
from reinstruct.stages.select import count, first_reason
from reinstruct.stages.verbs import VerbList

STOP_WORDS = (
    *("the", "of", "and", "to", "a", "an", "in", "is", "that", "it", "for", "on", "with", "as", "are", "was", "be"),
    *("this", "by", "at", "from", "or", "not", "have", "has", "you", "your", "if", "can", "will", "when", "which"),
)


@dataclass(frozen=True)
class KeepLengths(Filter[R]):
    """Keep rows whose text in `field` has `min_chars` to `max_chars` characters (code points), bounds included."""

    field: str = "text"
    min_chars: int = 1
    max_chars: int = 100_000

    def reason(self) -> pl.Expr:
        return first_reason(_length_rules(pl.col(self.field), self.min_chars, self.max_chars))


@dataclass(frozen=True)
class KeepProse(Filter[Document]):
    """Keep running text of one language; reject code, menus, tables and other languages.

    Shares are 0 to 1. The defaults were set by reading what they keep of English manuals, guides, books and blogs.
    `stop_words` are of the wanted language; none, and language is not looked at.
    """

    min_words: int = 40
    min_sentences: int = 3
    min_letter_share: float = 0.8  # of characters that are not white space
    max_code_lines: float = 0.25
    max_stubs: float = 0.3  # characters in lines of fewer than four words
    min_stop_words: float = 0.18
    stop_words: tuple[str, ...] = STOP_WORDS

    def reason(self) -> pl.Expr:
        return first_reason(self.rules(select.tidy(pl.col("text"))))

    def rules(self, tidied: pl.Expr) -> list[tuple[str, pl.Expr]]:
        """(reason, whether it applies), in order."""
        rules = [
            ("few_words", select.words(tidied) < self.min_words),
            ("few_sentences", select.sentences(tidied) < self.min_sentences),
            ("few_letters", select.letter_share(tidied) < self.min_letter_share),
            ("code_lines", select.code_line_share(tidied) > self.max_code_lines),
            ("stub_lines", select.stub_share(tidied) > self.max_stubs),
        ]
        if self.stop_words:
            share = select.stop_word_share(tidied, self.stop_words)
            rules.append(("few_stop_words", share < self.min_stop_words))
        return rules


@dataclass(frozen=True)
class SelectAdvice(Filter[Document]):
    """REInstruct's selection: texts of middle length in short paragraphs that open with a verb, as advice does.

    Rules and numbers: Chen et al. 2024, released prepare_unlabeled_texts.py. A text passes with `min_verbs` to
    `max_verbs` paragraphs led by a base form (or as many by an -ing form) and fewer newlines than those paragraphs
    plus `extra_lines`. Among openers at most `repeated_openers` may repeat another.

    By default what the rules mean is counted: the first paragraph too, openers after list marks and before any
    punctuation, pronouns as whole words, capital words only if they have two capitals, any line ends, blank lines
    not at all. `compat` counts as the release does.
    """

    min_chars: int = 1200  # code points, both bounds included
    max_chars: int = 3000
    banned: tuple[str, ...] = ("...", "…", "™", "#", "&", "*", "®", "@")
    pronouns: tuple[str, ...] = ("we", "our", "i", "i've", "we've", "we're", "my", "he", "she", "us")
    max_pronouns: int = 2
    pronoun_window: int = 0  # 0: `max_pronouns` in the whole text; else in this many characters on average
    max_question_marks: int = 1
    max_capital_words: int = 2
    require_openers: bool = True  # False: any paragraphs will do, and the five rules below are off
    repeated_openers: int = 1
    min_verbs: int = 4
    max_verbs: int = 10
    extra_lines: int = 2
    verbs: VerbList = field(default_factory=VerbList)
    prose: KeepProse | None = None
    compat: bool = False

    @classmethod
    def loose(cls) -> SelectAdvice:
        """For documents that are not web pages (docstrings, manuals, guides, books): prose, verb-led or not."""
        return cls(
            min_chars=200,
            max_chars=4000,
            banned=("™", "®"),
            max_pronouns=8,
            pronoun_window=1000,
            max_question_marks=4,
            max_capital_words=30,
            require_openers=False,
            prose=KeepProse(),
        )

    def reason(self) -> pl.Expr:
        if not self.require_openers:
            return self.reason_with((), ())
        return self.reason_with(self.verbs.bases(), self.verbs.ing_forms())

    def reason_with(self, bases: Iterable[str], ing_forms: Iterable[str]) -> pl.Expr:
        """As `reason`, with the verbs given."""
        text = pl.col("text")
        punctuation = [("odd_punctuation", select.contains_any(text, self.banned))]
        groups = [_length_rules(text, self.min_chars, self.max_chars)]
        if self.compat or not any(re.search(r"\s", mark) for mark in self.banned):
            groups.append(punctuation)  # the same before and after blank lines are taken out, and cheap
            punctuation = []
        later = [*punctuation, *self._style_rules(text)]
        if self.require_openers:
            later += self._opener_rules(text, bases, ing_forms)
        if self.prose:
            later += self.prose.rules(text)
        tidied = None if self.compat else select.tidy(text)
        return select.staged_reason(groups, tidied, [[rule] for rule in later])

    def _style_rules(self, body: pl.Expr) -> list[tuple[str, pl.Expr]]:
        if self.compat:
            pronouns = select.release_pronouns(body.str.to_lowercase(), self.pronouns)
            capitals = select.release_capital_words(body)
        else:
            pronouns = select.pronouns(body, self.pronouns)
            capitals = select.capital_words(body)
        if self.pronoun_window:
            windows = (body.str.len_chars() / self.pronoun_window).clip(lower_bound=1)
            too_many = pronouns > windows * self.max_pronouns
        else:
            too_many = pronouns > self.max_pronouns
        questions = count(body, r"\?" if self.compat else "[?？]")
        return [
            ("personal_pronouns", too_many),
            ("questions", questions > self.max_question_marks),
            ("capital_words", capitals > self.max_capital_words),
        ]

    def _opener_rules(self, body: pl.Expr, bases: Iterable[str], ing_forms: Iterable[str]) -> list[tuple[str, pl.Expr]]:
        if self.compat:
            bases, ing_forms = ([f"\n{verb} " for verb in verbs] for verbs in (bases, ing_forms))
            openers = select.release_openers(body.str.to_lowercase())
        else:
            openers = select.openers(body)
        repeats = openers.list.len().cast(pl.Int64) - openers.list.n_unique()
        verbs = [select.count_in(openers, bases), select.count_in(openers, ing_forms)]
        newlines = count(body, "\n", literal=True)
        in_range = [number.is_between(self.min_verbs, self.max_verbs) for number in verbs]
        short = [newlines < number + self.extra_lines for number in verbs]
        return [
            ("repeated_openers", repeats > self.repeated_openers),
            ("few_verb_openers", pl.max_horizontal(verbs) < self.min_verbs),
            ("many_verb_openers", ~pl.any_horizontal(in_range)),
            ("other_paragraphs", ~((in_range[0] & short[0]) | (in_range[1] & short[1]))),
        ]


def keep_like_release(texts: list[str], verbs: Sequence[Sequence[str]] | VerbList | str | Path) -> list[bool]:
    """Whether REInstruct's released selection keeps each text; the code is that of `SelectAdvice(compat=True)`.

    `verbs` are the release's rows [base, third person, past, participle, -ing], a JSON file of them, or a VerbList.
    """
    if isinstance(verbs, (str, Path)):
        verbs = VerbList.read(str(verbs))
    rows = verbs.rows() if isinstance(verbs, VerbList) else verbs
    # No column of UTF-8 can hold a lone surrogate. U+FFFD takes its place: to all rules one caseless character too.
    column = pl.Series("text", [re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts], dtype=pl.String)
    stage = SelectAdvice(compat=True)
    reason = stage.reason_with({row[0] for row in rows}, {row[-1] for row in rows})
    return pl.DataFrame([column]).select(reason.is_null()).to_series().to_list()


def _length_rules(text: pl.Expr, min_chars: int, max_chars: int) -> list[tuple[str, pl.Expr]]:
    chars = text.str.len_chars()
    return [("too_short", chars < min_chars), ("too_long", chars > max_chars)]
