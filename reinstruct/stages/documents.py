"""Bounds on documents before any model sees them: length in words, script, symbols, repeats. For any language.

The one rule: words are counted as `checks.words` does, each Chinese or Japanese character one; no tokenizer is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from reinstruct.records import Document
from reinstruct.stage import Filter
from reinstruct.stages.bounds import expect_order, expect_share
from reinstruct.stages.checks import CJK, words
from reinstruct.stages.limits import Limit, Step, staged_reason
from reinstruct.stages.select import count


@dataclass(frozen=True)
class TextRules(Filter[Document]):
    """Texts of `min_words` to `max_words`. Shares are 0 to 1.

    The defaults are Kun's: short enough for one answer (Zheng et al. 2024: 512 tokens) and in Chinese. `general` has
    the bounds of AIR's release (Liu et al. 2025).
    """

    min_words: int = 20
    max_words: int = 512
    min_cjk: float = 0.5  # characters among the words
    max_symbols: float = 1.0  # of characters that are not white space, those that are neither letters nor digits
    max_repeated_lines: float = 1.0  # lines that stood before
    max_char_run: int = 0  # one character so often on end; 0: any

    def __post_init__(self) -> None:
        expect_order("TextRules.min_words", self.min_words, "max_words", self.max_words)
        for name in ("min_cjk", "max_symbols", "max_repeated_lines"):
            expect_share(f"TextRules.{name}", getattr(self, name))

    @classmethod
    def general(cls) -> TextRules:
        """Any language, 50 to 2,048 words, and the release's three tests for rubbish."""
        return cls(50, 2048, min_cjk=0.0, max_symbols=0.5, max_repeated_lines=0.1, max_char_run=10)

    @classmethod
    def english(cls) -> TextRules:
        """Kun's bounds for texts in English, or another language that writes words apart."""
        return cls(min_cjk=0.0)

    @staticmethod
    def of(language: str) -> TextRules:
        """Kun's bounds for a language, as "en"."""
        return TextRules() if language in ("zh", "ja") else TextRules.english()

    def reason(self) -> pl.Expr:
        return staged_reason(self.steps())

    def steps(self) -> list[Step]:
        text = pl.col("text")
        found = words(text)
        cjk = count(text, f"[{CJK}]") / pl.max_horizontal(found, 1)
        symbols = count(text, r"[^\p{L}\p{M}\p{N}\s]") / pl.max_horizontal(count(text, r"\S"), 1)
        lines = text.str.extract_all(r"[^\n]*\S[^\n]*")
        repeated = 1 - lines.list.n_unique() / pl.max_horizontal(lines.list.len(), 1)
        limits = [
            Limit("few_words", found, "least", self.min_words, "words"),
            Limit("many_words", found, "most", self.max_words, "words"),
            Limit("few_cjk", cjk, "least", self.min_cjk, "share of Chinese or Japanese characters among the words"),
            Limit("symbols", symbols, "most", self.max_symbols, "share of characters that are no letters or digits"),
            Limit("repeated_lines", repeated, "most", self.max_repeated_lines, "share of lines that stood before"),
        ]
        if self.max_char_run:
            test = _any_run(text, self.max_char_run)
            limits.append(
                Limit("char_run", _longest_run(text), "most", self.max_char_run, "one character on end", test=test)
            )
        return [Step(limits[:2]), *(Step([limit]) for limit in limits[2:])]


def _any_run(text: pl.Expr, most: int) -> pl.Expr:
    """Polars' patterns cannot refer back, so this one is Python's."""
    run = re.compile(rf"(\S)\1{{{most}}}")
    return text.map_batches(lambda texts: pl.Series([bool(run.search(one)) for one in texts], dtype=pl.Boolean))


def _longest_run(text: pl.Expr) -> pl.Expr:
    def longest(one: str) -> int:
        return max((len(found[0]) for found in re.finditer(r"(\S)\1*", one)), default=0)

    return text.map_batches(lambda texts: pl.Series([longest(one) for one in texts], dtype=pl.Int64))
