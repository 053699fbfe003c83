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
from reinstruct.stages.limits import Limit, Step, first_limit, staged_reason
from reinstruct.stages.screen import Screen, screened
from reinstruct.stages.select import count
from reinstruct.stages.verbs import VerbList

STOP_WORDS = (
    *("the", "of", "and", "to", "a", "an", "in", "is", "that", "it", "for", "on", "with", "as", "are", "was", "be"),
    *("this", "by", "at", "from", "or", "not", "have", "has", "you", "your", "if", "can", "will", "when", "which"),
)

LETTERS = "share of characters that are letters"
CODE_LINES = "share of lines like code, markup or tables"
STUBS = "share of characters in lines of one to three words"
STOP_WORD_SHARE = "share of words that are stop words"
_FEW = 4  # words that are looked for by one pattern


@dataclass(frozen=True)
class KeepLengths(Filter[R]):
    """Keep rows whose text in `field` has `min_chars` to `max_chars` characters (code points), bounds included."""

    field: str = "text"
    min_chars: int = 1
    max_chars: int = 100_000

    def reason(self) -> pl.Expr:
        return first_limit(self.limits())

    def limits(self) -> list[Limit]:
        return _length_limits(pl.col(self.field), self.min_chars, self.max_chars)


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
        text = pl.col("text")
        return staged_reason([Step((), {"text": select.tidy(text)}), *self.steps(text)])

    def steps(self, tidied: pl.Expr) -> list[Step]:
        """The limits one by one."""
        return [Step([limit]) for limit in self.limits(tidied)]

    def limits(self, tidied: pl.Expr) -> list[Limit]:
        limits = [
            Limit("few_words", select.words(tidied), "least", self.min_words, "words"),
            Limit("few_sentences", select.sentences(tidied), "least", self.min_sentences, "sentences"),
            Limit("few_letters", select.letter_share(tidied), "least", self.min_letter_share, LETTERS),
            Limit("code_lines", select.code_line_share(tidied), "most", self.max_code_lines, CODE_LINES),
            Limit("stub_lines", select.stub_share(tidied), "most", self.max_stubs, STUBS),
        ]
        if self.stop_words:
            share = select.stop_word_share(tidied, self.stop_words)
            limits.append(Limit("few_stop_words", share, "least", self.min_stop_words, STOP_WORD_SHARE))
        return limits


@dataclass(frozen=True)
class SelectAdvice(Filter[Document]):
    """REInstruct's selection: texts of middle length in short paragraphs that open with a verb, as advice does.

    Rules and numbers: Chen et al. 2024, released prepare_unlabeled_texts.py. A text passes with `min_verbs` to
    `max_verbs` paragraphs led by a base form (or as many by an -ing form) and fewer newlines than those paragraphs
    plus `extra_lines`. Among openers at most `repeated_openers` may repeat another.

    By default what the rules mean is counted: the first paragraph too, openers after list marks and before any
    punctuation, pronouns as whole words, capital words only if they have two capitals, any line ends, blank lines
    not at all. `compat` counts as the release does.

    `steps` is what the rules mean; where it can, a compiled loop says the same (stages/screen.py). Who changes a rule
    changes both: tests/test_screen.py compares them.
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

    @classmethod
    def chinese(cls) -> SelectAdvice:
        """For texts in Chinese, which has neither spaces nor such verbs and needs half as many characters: lengths and
        marks alone. For the language of a text and whether it is prose, ask quality rules first.
        """
        return cls(
            min_chars=200,
            max_chars=2000,
            banned=("™", "®"),
            pronouns=(),
            max_question_marks=4,
            max_capital_words=30,
            require_openers=False,
        )

    def reason(self) -> pl.Expr:
        verbs = (self.verbs.bases(), self.verbs.ing_forms()) if self.require_openers else ((), ())
        in_columns, screen = self.reason_with(*verbs), self.screen(*verbs)
        if self.compat or not screen.is_known():
            return in_columns
        return screened(screen, in_columns, self.prose.reason() if self.prose else None)

    def screen(self, bases: Iterable[str], ing_forms: Iterable[str]) -> Screen:
        """All rules but those of `prose`, for the compiled loop."""
        style = (self.max_pronouns, self.pronoun_window, self.max_question_marks, self.max_capital_words)
        openers = (self.require_openers, self.repeated_openers, self.min_verbs, self.max_verbs, self.extra_lines)
        limits = (self.min_chars, self.max_chars, *style, *openers)
        words = tuple(select.spellings(self.pronouns))
        return Screen(limits, self.banned, words, frozenset(bases), frozenset(ing_forms))

    def reason_with(self, bases: Iterable[str], ing_forms: Iterable[str]) -> pl.Expr:
        """As `reason`, with the verbs given."""
        return staged_reason(self.steps(bases, ing_forms))

    def steps(self, bases: Iterable[str], ing_forms: Iterable[str]) -> list[Step]:
        """The limits on the column "text" in order, the cheap ones first."""
        text = pl.col("text")
        tidied = Step((), {} if self.compat else {"text": select.tidy(text)})
        marks = self._mark_limit(text)
        early = self.compat or not any(re.search(r"\s", mark) for mark in self.banned)
        found = [Step(_length_limits(text, self.min_chars, self.max_chars))]
        found += [Step([marks]), tidied] if early else [tidied, Step([marks])]  # the same, where tidying makes no marks
        found.append(Step(self._style_limits(text)))
        if self.require_openers:
            found += self._opener_steps(text, bases, ing_forms)
        if self.prose:
            found += self.prose.steps(text)
        return found

    def _mark_limit(self, text: pl.Expr) -> Limit:
        marks = count(text, "|".join(map(re.escape, self.banned))) if self.banned else pl.lit(0)
        told = f"of {' '.join(self.banned)}"
        return Limit("odd_punctuation", marks, "most", 0, told, test=select.contains_any(text, self.banned))

    def _style_limits(self, body: pl.Expr) -> list[Limit]:
        questions = count(body, r"\?" if self.compat else "[?？]")
        return [
            self._pronoun_limit(body),
            Limit("questions", questions, "most", self.max_question_marks, "question marks"),
            self._capitals_limit(body),
        ]

    def _capitals_limit(self, body: pl.Expr) -> Limit:
        most, told = self.max_capital_words, "words in capitals"
        if self.compat:
            return Limit("capital_words", select.release_capital_words(body), "most", most, told)
        found = select.capital_words(body)
        if 0 <= most <= _FEW:
            return Limit("capital_words", found, "most", most, told, test=select.more_capital_words(body, most))
        return Limit("capital_words", found, "most", most, told, may=select.may_be_capital_words(body) > most)

    def _pronoun_limit(self, body: pl.Expr) -> Limit:
        most = self.max_pronouns
        if self.compat:
            found = select.release_pronouns(body.str.to_lowercase(), self.pronouns)
        else:
            found = select.pronouns(body, self.pronouns)
        if self.pronoun_window:
            windows = (body.str.len_chars() / self.pronoun_window).clip(lower_bound=1)
            told, test = f"of {_list(self.pronouns)} in {self.pronoun_window} characters", found > windows * most
            return Limit("personal_pronouns", found / windows, "most", most, told, test=test)
        told, may, surely = f"of {_list(self.pronouns)}", None, None
        if self.pronouns and not self.compat and 0 <= most <= _FEW:
            may, surely = select.more_pronouns(body, self.pronouns, most)
        return Limit("personal_pronouns", found, "most", most, told, may=may, surely=surely)

    def _opener_steps(self, body: pl.Expr, bases: Iterable[str], ing_forms: Iterable[str]) -> list[Step]:
        if self.compat:
            bases, ing_forms = ([f"\n{verb} " for verb in verbs] for verbs in (bases, ing_forms))
            found = select.release_openers(body.str.to_lowercase())
        else:
            found = select.openers(body)
        openers, verbs = pl.col("openers"), (pl.col("bases"), pl.col("ing_forms"))
        counted = {
            "repeats": openers.list.len().cast(pl.Int64) - openers.list.n_unique(),
            "bases": select.count_in(openers, bases),
            "ing_forms": select.count_in(openers, ing_forms),
            "newlines": count(body, "\n", literal=True),
        }
        enough = [pl.when(number >= self.min_verbs).then(number) for number in verbs]
        fitting = [pl.when(number.is_between(self.min_verbs, self.max_verbs)).then(number) for number in verbs]
        others = pl.col("newlines") - pl.max_horizontal(fitting)
        told = "paragraphs that open with a verb, all in one form"
        limits = [
            Limit("repeated_openers", pl.col("repeats"), "most", self.repeated_openers, "openers that stood before"),
            Limit("few_verb_openers", pl.max_horizontal(verbs), "least", self.min_verbs, told),
            Limit("many_verb_openers", pl.min_horizontal(enough), "most", self.max_verbs, told),
            Limit("other_paragraphs", others, "most", self.extra_lines - 1, "newlines more than such paragraphs"),
        ]
        return [Step((), {"openers": found}), Step(limits, counted)]


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


def _length_limits(text: pl.Expr, min_chars: int, max_chars: int) -> list[Limit]:
    chars = text.str.len_chars()
    return [
        Limit("too_short", chars, "least", min_chars, "characters"),
        Limit("too_long", chars, "most", max_chars, "characters"),
    ]


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)
