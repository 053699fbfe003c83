"""SelectAdvice's rules by the compiled loop of `_advice.c`, which goes once through a text.

The one rule: what it says is what the rules in Polars say, or it leaves the text to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from reinstruct.stages.compiled import packaged
from reinstruct.views import unsigned, views_of

try:
    from reinstruct._advice import advice_reasons as advice_reasons
except ImportError:  # installed where there was no C compiler
    advice_reasons = None

AdviceReasons = Callable[..., bytearray]

CLASSES = "classes.z"  # beside this file; build_letters.py makes it
REASONS = (  # in the order of _advice.c, behind 0 for a text that passes
    *("too_short", "too_long", "odd_punctuation", "personal_pronouns", "questions", "capital_words"),
    *("repeated_openers", "few_verb_openers", "many_verb_openers", "other_paragraphs"),
)
_UNKNOWN = 255
_MOST = 64  # strings of a kind
_PLAIN_WORD = re.compile("[a-zA-Z]+(?:'[a-zA-Z]+)*")


@dataclass(frozen=True)
class Screen:
    """What the loop is told: `limits` in the order of _advice.c, and what it looks for, the longest pronoun first."""

    limits: tuple[float, ...]
    marks: tuple[str, ...]
    pronouns: tuple[str, ...]
    bases: frozenset[str]
    ing_forms: frozenset[str]

    def is_known(self) -> bool:
        """Whether the loop means by these settings what the rules in Polars mean."""
        return (
            advice_reasons is not None
            and all(map(_PLAIN_WORD.fullmatch, self.pronouns))
            and not any(not mark or re.search(r"\s", mark) for mark in self.marks)
            and max(len(self.pronouns), len(self.marks)) <= _MOST
            and all(isinstance(limit, int) for limit in self.limits)
        )


def screened(
    screen: Screen, others: pl.Expr, rest: pl.Expr | None, loop: AdviceReasons | None = advice_reasons
) -> pl.Expr:
    """The reason for each text of the column "text": that of the loop, or of the expression `others` where the loop
    does not know the text, or, of texts that pass, that of `rest`, if there is more to ask.
    """
    assert loop is not None
    names = pl.Series([None, *REASONS, *[None] * (_UNKNOWN - len(REASONS))], dtype=pl.String)

    def reasons(texts: pl.Series) -> pl.Series:
        said = _said(texts, screen, loop)
        found = names[said]
        for which, judge in ((said == _UNKNOWN, others), (said == 0, rest)):
            if judge is not None and which.any():
                found = found.scatter(which.arg_true(), _judged(texts.filter(which), judge))
        return found

    return pl.col("text").map_batches(reasons, return_dtype=pl.String)


def _judged(texts: pl.Series, judge: pl.Expr) -> pl.Series:
    return texts.alias("text").to_frame().select(judge).to_series()


def _said(texts: pl.Series, screen: Screen, loop: AdviceReasons) -> pl.Series:
    """A number of a reason for each text."""
    marks, pronouns = (tuple(_encoded(strings)) for strings in (screen.marks, screen.pronouns))
    given = (packaged(CLASSES), screen.limits, marks, pronouns, screen.bases, screen.ing_forms)
    return unsigned(loop(*views_of(texts), *given), pa.uint8(), 1)


def _encoded(strings: Iterable[str]) -> Iterable[bytes]:
    """In the order of their first bytes, and otherwise as they were."""
    return sorted((string.encode() for string in strings), key=lambda string: string[0])
