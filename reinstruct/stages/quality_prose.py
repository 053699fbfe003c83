"""Our own rules for running text, in any script. The rule: what a page is decides its reason, not what it is short of.

So a page of another language is that before it is anything else, and code is code before it has few sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from reinstruct.records import R
from reinstruct.stages import select
from reinstruct.stages.checks import words
from reinstruct.stages.quality_page import Page
from reinstruct.stages.quality_repeats import repeated_lines
from reinstruct.stages.quality_rules import QualityFilter, Rule
from reinstruct.stages.select import count
from reinstruct.stages.text import STOP_WORDS

_SENTENCE = (
    r"[\p{L}\p{M}\p{N})\]\"”'’`%][.!?।։።…]+[\"”'’)\]]*(?:\s|$)|[。！？؟۔។]|"  # with spaces after it, without
    r"[\p{Thai}\p{Lao}] +\p{Thai}"  # Thai and Lao end a sentence with a space
)
_ITEM = (  # a list's line of few words; a numbered one that is a sentence is a step of something told
    r"(?m)^[ \t]*(?:[-+*•·‣▪◦|][ \t]*(?:[^ \t\n]+[ \t]*){1,15}"
    r"|\(?\d{1,3}[.)][ \t]*(?:[^ \t\n]+[ \t]+){0,14}[^ \t\n]*[^ \t\n.!?][ \t]*)$"
)
_ENDED = r"^.*[.!?…][\"”'’)\]]*[ \t]*$"  # a sentence of three words is no stub; some languages have long words
_SPACELESS = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"


@dataclass(frozen=True)
class Prose(QualityFilter[R]):
    """Keep running text in letters of `script` (inside of a regex class; none: any). Shares are 0 to 1.

    A word is a run of letters and digits; each Chinese or Japanese character is one, and in `chars_per_word`
    characters of scripts without spaces (Thai, Lao, Khmer, Burmese) stands one. `stop_words` tell the language; none:
    it is not looked at. The defaults are for English; `han` is for Chinese, `other` for any language.
    """

    version: ClassVar[int] = 2

    min_words: int = 40
    script: str = r"\p{Latin}"
    min_script: float = 0.7  # of all letters
    max_code_lines: float = 0.2  # where they hold more than `min_code_chars` of the characters; else it is prose
    min_code_chars: float = 0.15
    min_letters: float = 0.75  # of characters that are not white space
    max_lists: float = 0.38  # characters in items of lists, of at most fifteen words
    max_stubs: float = 0.35  # characters in lines of fewer than four words that end no sentence
    min_sentences: int = 3
    max_repeated: float = 0.2  # characters in lines that stood before
    max_link_lines: float = 0.4
    min_language: float = 0.12  # stop words among words; other languages have less, lists of names and sources as well
    min_stop_words: float = 0.15
    stop_words: tuple[str, ...] = STOP_WORDS
    chars_per_word: float = 5.0

    @classmethod
    def han(cls) -> Prose[R]:
        """Chinese. A line of fewer than four words with spaces between them is no stub there."""
        return cls(min_words=80, script=r"\p{Han}", min_script=0.5, max_stubs=1.0, stop_words=(), min_letters=0.65)

    @classmethod
    def other(cls) -> Prose[R]:
        """Any language and script: what tells one is left out."""
        return cls(script="", max_stubs=1.0, stop_words=(), min_letters=0.7)

    def rules(self) -> list[Rule]:
        script = [Rule("foreign_script", "least", self.min_script, f"share of letters in {self.script}")]
        counts = "share of words that are stop words"
        told = f"{counts}, on pages with sentences"
        language = [Rule("wrong_language", "least", self.min_language, told)]
        style = [Rule("few_stop_words", "least", self.min_stop_words, counts)]
        return [
            Rule("few_words", "least", self.min_words, "words"),
            *(script if self.script else []),
            Rule("code_lines", "most", self.max_code_lines, "share of lines like code, markup or tables, unless short"),
            Rule("few_letters", "least", self.min_letters, "share of characters that are letters"),
            Rule("list_lines", "most", self.max_lists, "share of characters in short items of lists"),
            Rule("link_lines", "most", self.max_link_lines, "share of lines with a link"),
            *(language if self.stop_words else []),
            Rule("stub_lines", "most", self.max_stubs, "share of characters in lines of one to three words"),
            Rule("few_sentences", "least", self.min_sentences, "sentences"),
            *(style if self.stop_words else []),
            Rule("repeated_lines", "most", self.max_repeated, "share of characters in lines that stood before"),
        ]

    def values(self, page: Page) -> pl.DataFrame:
        text = pl.col("text")
        code_chars = select.code_char_share(text)
        rows = page.rows.select(text=select.tidy(text))
        found = rows.select(
            few_words=words(text) + (count(text, f"[{_SPACELESS}]") / self.chars_per_word).floor(),
            code_lines=pl.when(code_chars > self.min_code_chars).then(select.code_line_share(text)).otherwise(0.0),
            few_letters=select.letter_share(text),
            list_lines=1 - text.str.replace_all(_ITEM, "").str.len_chars() / text.str.len_chars(),
            stub_lines=select.stub_share(text, _ENDED),
            few_sentences=count(text, _SENTENCE),
            **({"foreign_script": self._script_share(text)} if self.script else {}),
            link_lines=count(text, r"(?m)^.*https?://.*$") / select.lines(text),
        )
        if self.stop_words:
            share = rows.select(select.stop_word_share(text, self.stop_words)).to_series()
            told = pl.when(pl.col("few_sentences") >= self.min_sentences).then(share)  # no menus, no lists of names
            found = found.with_columns(wrong_language=told, few_stop_words=share)
        return found.with_columns(repeated_lines(page)["chars"].alias("repeated_lines"))

    def _script_share(self, text: pl.Expr) -> pl.Expr:
        letters = count(text, r"\p{L}")
        return pl.when(letters > 0).then(count(text, f"[{self.script}]") / letters)
