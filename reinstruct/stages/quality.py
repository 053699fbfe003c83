"""Published rules on the quality of web text, and our own for prose. The rule: every threshold is a field.

GopherRepetition, GopherQuality, C4Quality and FineWebQuality decide as datatrove 0.10.1 does with its defaults, on
English; the words they count are those of spaCy's English rules. Filters of words and lines in any script: Prose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from reinstruct.errors import RecipeError
from reinstruct.records import R
from reinstruct.stage import Filter
from reinstruct.stages.documents import TextRules
from reinstruct.stages.quality_c4 import C4Quality
from reinstruct.stages.quality_page import SENTENCE_END, Page
from reinstruct.stages.quality_prose import Prose
from reinstruct.stages.quality_repeats import commonest_runs, repeated_lines, repeated_paragraphs, repeated_runs
from reinstruct.stages.quality_rules import KeepAll, QualityFilter, Rule
from reinstruct.stages.select import count
from reinstruct.suggest import suggestion


@dataclass(frozen=True)
class GopherRepetition(QualityFilter[R]):
    """Reject texts that repeat lines, paragraphs or runs of words (Rae et al. 2021, table A1). Shares, 0 to 1.

    `max_commonest_*`: characters of all sightings of the commonest run of so many words. `max_repeated_*`: characters
    in runs of so many words that stood before.
    """

    max_paragraphs: float = 0.3
    max_paragraph_chars: float = 0.2
    max_lines: float = 0.3
    max_line_chars: float = 0.2
    max_commonest_2: float = 0.2
    max_commonest_3: float = 0.18
    max_commonest_4: float = 0.16
    max_repeated_5: float = 0.15
    max_repeated_6: float = 0.14
    max_repeated_7: float = 0.13
    max_repeated_8: float = 0.12
    max_repeated_9: float = 0.11
    max_repeated_10: float = 0.10

    def rules(self) -> list[Rule]:
        commonest = [
            _most(f"commonest_{n}_words", limit, f"characters in the commonest run of {n} words")
            for n, limit in self._commonest().items()
        ]
        repeated = [
            _most(f"repeated_{n}_words", limit, f"characters in repeated runs of {n} words")
            for n, limit in self._repeated().items()
        ]
        return [
            Rule("empty", "least", 1, "characters"),
            _most("repeated_paragraphs", self.max_paragraphs, "share of paragraphs that stood before"),
            _most("repeated_paragraph_chars", self.max_paragraph_chars, "characters in such paragraphs"),
            _most("repeated_lines", self.max_lines, "share of lines that stood before"),
            _most("repeated_line_chars", self.max_line_chars, "characters in such lines"),
            *commonest,
            *repeated,
        ]

    def values(self, page: Page) -> pl.DataFrame:
        paragraphs, lines = repeated_paragraphs(page), repeated_lines(page)
        settled = (paragraphs["share"] > self.max_paragraphs) | (paragraphs["chars"] > self.max_paragraph_chars)
        settled |= (lines["share"] > self.max_lines) | (lines["chars"] > self.max_line_chars)
        settled = settled.fill_null(False)
        commonest = commonest_runs(page, self._commonest(), settled)
        for n, limit in self._commonest().items():
            settled |= commonest[n] > limit
        repeated = repeated_runs(page, self._repeated(), settled)
        return pl.DataFrame(
            {
                "empty": page.rows["chars"],
                "repeated_paragraphs": paragraphs["share"],
                "repeated_paragraph_chars": paragraphs["chars"],
                "repeated_lines": lines["share"],
                "repeated_line_chars": lines["chars"],
                **{f"commonest_{n}_words": share for n, share in commonest.items()},
                **{f"repeated_{n}_words": share for n, share in repeated.items()},
            }
        )

    def _commonest(self) -> dict[int, float]:
        return {2: self.max_commonest_2, 3: self.max_commonest_3, 4: self.max_commonest_4}

    def _repeated(self) -> dict[int, float]:
        return {n: getattr(self, f"max_repeated_{n}") for n in range(5, 11)}


@dataclass(frozen=True)
class GopherQuality(QualityFilter[R]):
    """Reject what is not prose by its words and lines (Rae et al. 2021, section A.1). English, by its stop words."""

    min_words: int = 50  # words that are more than marks
    max_words: int = 100_000
    min_word_chars: float = 3
    max_word_chars: float = 10
    max_hashes: float = 0.1  # a word
    max_ellipses: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_lettered: float = 0.8  # share of words with a letter
    min_stop_words: int = 2
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")

    def rules(self) -> list[Rule]:
        return [
            Rule("few_words", "least", self.min_words, "words that are more than marks"),
            Rule("many_words", "most", self.max_words, "words that are more than marks"),
            Rule("short_words", "least", self.min_word_chars, "characters of a word, on average"),
            Rule("long_words", "most", self.max_word_chars, "characters of a word, on average"),
            _most("hashes", self.max_hashes, "# a word"),
            _most("ellipses", self.max_ellipses, "ellipses a word"),
            _most("bullet_lines", self.max_bullet_lines, "share of lines that begin with a bullet"),
            _most("ellipsis_lines", self.max_ellipsis_lines, "share of lines that end in an ellipsis"),
            Rule("few_lettered_words", "least", self.min_lettered, "share of words with a letter"),
            Rule("few_stop_words", "least", self.min_stop_words, f"different words of {', '.join(self.stop_words)}"),
        ]

    def values(self, page: Page) -> pl.DataFrame:
        text, words = pl.col("text"), pl.col("words")
        rows = pl.concat([page.rows, page.counts], how="horizontal")
        lined = text.str.replace_all(r"\r\n|[\r\x0b\x0c\x1c-\x1e\x{85}\x{2028}\x{2029}]", "\n")
        lines = count(lined, r"\n") + 1 - lined.str.ends_with("\n")
        dots = count(text, "...", literal=True) + count(text, "…", literal=True)
        found = rows.select(
            few_words="plain",
            many_words="plain",
            short_words=pl.col("plain_chars") / pl.col("plain"),
            long_words=pl.col("plain_chars") / pl.col("plain"),
            hashes=count(text, "#", literal=True) / words,
            ellipses=dots / words,
            bullet_lines=count(lined, r"(?m)^[\s\x1c-\x1f]*?[•-]") / lines,
            ellipsis_lines=count(lined, r"(?m)(?:\.\.\.|…)[^\S\n]*$") / lines,
            few_lettered_words=pl.col("lettered") / words,
        )
        return found.with_columns(page.different_words(self.stop_words).alias("few_stop_words"))


@dataclass(frozen=True)
class FineWebQuality(QualityFilter[R]):
    """Reject lists, menus and repeated lines (Penedo et al. 2024, section 3.4: FineWeb's own filters)."""

    min_ended_lines: float = 0.12  # share of lines that end a sentence
    max_short_lines: float = 0.67
    short_line_chars: int = 30
    max_repeated_chars: float = 0.01
    max_newlines: float = 0.3  # a word

    def rules(self) -> list[Rule]:
        return [
            Rule("no_lines", "least", 1, "lines that are not blank"),
            Rule("few_ended_lines", "least", self.min_ended_lines, "share of lines that end a sentence"),
            _most("short_lines", self.max_short_lines, f"share of lines of at most {self.short_line_chars} characters"),
            _most("line_repeats", self.max_repeated_chars, "characters in lines that stood before"),
            _most("newlines", self.max_newlines, "newlines a word"),
        ]

    def values(self, page: Page) -> pl.DataFrame:
        chars = pl.col("chars")
        found = page.lines.filter(~pl.col("blank")).group_by("row").agg(
            no_lines=pl.len(),
            ended=pl.col("line").str.contains(f"{SENTENCE_END}$").mean(),
            short=(chars <= self.short_line_chars).mean(),
            again=chars.filter("again").sum(),
        )  # fmt: skip
        per = {name: page.per_row(found, name) for name in found.columns[1:]}
        newlines = page.rows.select(count(pl.col("text"), "\n", literal=True)).to_series()
        return pl.DataFrame(
            {
                "no_lines": per["no_lines"],
                "few_ended_lines": per["ended"],
                "short_lines": per["short"],
                "line_repeats": per["again"] / (page.rows["chars"] - newlines),
                "newlines": newlines / page.counts["words"],
            }
        )


def _most(reason: str, limit: float, counts: str) -> Rule:
    return Rule(reason, "most", limit, counts)


def preset(name: str, also: tuple[str, ...] = ()) -> Filter[Any]:
    """The filter of that name. RecipeError names what there is, and what the caller knows besides."""
    if name not in PRESETS:
        known = (*PRESETS, *also)
        raise RecipeError(f"rules {name!r}{suggestion(name, known)} are unknown; accepted: {', '.join(known)}")
    return PRESETS[name]


PRESETS: dict[str, Filter[Any]] = {
    "gopher-repetition": GopherRepetition(),
    "gopher-quality": GopherQuality(),
    "gopher": KeepAll((GopherRepetition(), GopherQuality())),
    "c4": C4Quality(),
    "fineweb": FineWebQuality(),
    "web": KeepAll((GopherRepetition(), GopherQuality(), C4Quality(), FineWebQuality())),
    "general": Prose(),
    "general-han": Prose.han(),
    "general-other": Prose.other(),
    "air": TextRules.general(),
    "kun": TextRules(),
}
