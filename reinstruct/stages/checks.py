"""Rules on a piece of text, in any language: words it holds, what it repeats, how it ends, its script, its length,
whether it is a copy, and how likely its characters follow each other.

The one rule: a word is a CJK character or a run of other letters and digits. So one bound serves every language, and
Chinese needs no word segmentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import polars as pl
from polars.exceptions import ComputeError

from reinstruct.errors import RecipeError
from reinstruct.records import R
from reinstruct.rows import Rows
from reinstruct.stage import Filter, Gather
from reinstruct.stages.bounds import expect_at_least, expect_order, expect_share
from reinstruct.stages.gather import all_kept
from reinstruct.stages.scripts import CLOSERS
from reinstruct.stages.select import count, first_reason

CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}"  # U+30FC lengthens vowels in Japanese; Unicode gives it no script
HAN, LETTERS = r"\p{Han}", r"\p{L}"
_OTHER = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{CJK}]]+"
WORD = rf"[{CJK}]|{_OTHER}(?:['’-]{_OTHER})*"

ENDINGS = {
    **dict.fromkeys(("cs", "de", "en", "es", "fr", "id", "it", "ko", "nl", "pl", "pt", "ru", "tr", "uk", "vi"), ".!?…"),
    "ar": ".!؟…",
    "hi": "।.!?…",
    "ja": "。．.！!？?…",
    "zh": "。．.！!？?…",
}


def words(text: pl.Expr) -> pl.Expr:
    """How many words, each CJK character one."""
    return count(text, WORD)


def grams(text: pl.Expr, size: int) -> pl.Expr:
    """List column: every run of `size` words, in lower case; empty for a text of fewer."""
    found = text.str.to_lowercase().str.extract_all(WORD)
    runs = pl.concat_str([pl.element().shift(-ahead) for ahead in range(size)], separator=" ")
    return found.list.eval(runs.drop_nulls())


@dataclass(frozen=True)
class Keywords:
    """Texts that hold one of `words`, or a match of `pattern` (Rust regex), are rejected for `reason`. Case is ignored.

    Words are found inside others ("art" in "party"); where that matters, write a pattern with word borders.
    """

    reason: str
    words: tuple[str, ...] = ()
    pattern: str = ""

    def __post_init__(self) -> None:
        try:
            pl.Series([""]).str.contains(self.pattern)
        except ComputeError as error:
            raise RecipeError(f"keywords {self.reason}: pattern {self.pattern!r} is no regex: {error}") from error

    def found(self, text: pl.Expr) -> pl.Expr:
        """Whether the text holds any of them."""
        rules = [text.str.contains(f"(?i){self.pattern}")] if self.pattern else []
        if self.words:
            rules.append(text.str.contains_any(list(self.words), ascii_case_insensitive=True))
        return pl.any_horizontal(rules) if rules else pl.lit(False)


@dataclass(frozen=True)
class DropKeywords(Filter[R]):
    """Reject rows whose `field` holds a keyword: for the reason of the first list that has one, or, for the words in
    `also`, as "keyword".
    """

    field: str
    lists: tuple[Keywords, ...] = ()
    also: tuple[str, ...] = ()

    def reason(self) -> pl.Expr:
        lists = [*self.lists, Keywords("keyword", self.also)]
        return first_reason([(keywords.reason, keywords.found(pl.col(self.field))) for keywords in lists])


@dataclass(frozen=True)
class DropRepetition(Filter[R]):
    """Reject rows whose `field` says the same again and again.

    "repeats_start": it begins with a piece of at most `max_unit` characters more than `max_repeats` times on end
    (Kun's released rule, there with pieces of any length). "repeats_itself": more than `max_share` of its runs of
    `run` words stood there before; `run` 0 leaves that out.
    """

    field: str = "output"
    max_repeats: int = 5
    max_unit: int = 50
    run: int = 10
    max_share: float = 0.2

    def __post_init__(self) -> None:
        expect_at_least("DropRepetition.max_repeats", self.max_repeats, 1)
        expect_at_least("DropRepetition.run", self.run, 0)
        expect_share("DropRepetition.max_share", self.max_share)

    def reason(self) -> pl.Expr:
        text = pl.col(self.field).str.strip_chars()
        units = [_begins_with_repeats(text, unit, self.max_repeats + 1) for unit in range(1, self.max_unit + 1)]
        rules = [("repeats_start", pl.any_horizontal(units))] if units else []
        if self.run:
            runs = grams(text, self.run)
            again = runs.list.len().cast(pl.Int64) - runs.list.n_unique().cast(pl.Int64)
            rules.append(("repeats_itself", again > runs.list.len() * self.max_share))
        return first_reason(rules) if rules else pl.lit(None, dtype=pl.String)


@dataclass(frozen=True)
class KeepEndings(Filter[R]):
    """Keep rows whose `field` ends as a sentence of the `language` may end; quotes and brackets may close it.

    `endings` are allowed too: characters such as ":" or "；". Others are "no_ending": mostly texts that were cut off.
    """

    field: str = "output"
    language: str = "en"
    endings: str = ""

    def __post_init__(self) -> None:
        if self.language not in ENDINGS:
            raise RecipeError(
                f"KeepEndings.language is {self.language!r}; accepted: {', '.join(sorted(ENDINGS))}; "
                "for any other, take one of these and name its sentence ends in `endings`"
            )

    def reason(self) -> pl.Expr:
        ends = re.escape(ENDINGS[self.language] + self.endings)
        ended = pl.col(self.field).str.contains(rf"[{ends}][{CLOSERS}]*\s*\z")
        return first_reason([("no_ending", ~ended)])


@dataclass(frozen=True)
class KeepCjk(Filter[R]):
    """Keep rows by the share (0 to 1) of CJK characters among the words of `field`, bounds included.

    "few_cjk" is foreign to Chinese or Japanese data, "much_cjk" to any other; a text without words has a share of 0.
    """

    field: str = "text"
    min_share: float = 0.0
    max_share: float = 1.0

    def __post_init__(self) -> None:
        expect_share("KeepCjk.min_share", self.min_share)
        expect_share("KeepCjk.max_share", self.max_share)
        expect_order("KeepCjk.min_share", self.min_share, "max_share", self.max_share)

    def reason(self) -> pl.Expr:
        text = pl.col(self.field)
        share = count(text, f"[{CJK}]") / pl.max_horizontal(words(text), 1)
        return first_reason([("few_cjk", share < self.min_share), ("much_cjk", share > self.max_share)])


@dataclass(frozen=True)
class KeepWords(Filter[R]):
    """Keep rows whose `field` has `min_words` to `max_words` words, bounds included; each CJK character is one."""

    field: str = "text"
    min_words: int = 1
    max_words: int = 100_000

    def __post_init__(self) -> None:
        expect_order("KeepWords.min_words", self.min_words, "max_words", self.max_words)

    def reason(self) -> pl.Expr:
        found = words(pl.col(self.field))
        return first_reason([("few_words", found < self.min_words), ("many_words", found > self.max_words)])


@dataclass(frozen=True)
class DropCopies(Filter[R]):
    """Reject rows whose `field` is lifted from the field `source`: "copy" if more than `max_share` of its different
    runs of `run` words are there, too. A text of fewer words is a copy only if `source` holds it as it is.
    """

    field: str = "output"
    source: str = "document"
    run: int = 5
    max_share: float = 0.8

    def __post_init__(self) -> None:
        expect_at_least("DropCopies.run", self.run, 1)
        expect_share("DropCopies.max_share", self.max_share)

    def reason(self) -> pl.Expr:
        text, source = pl.col(self.field).str.strip_chars(), pl.col(self.source)
        runs = grams(text, self.run).list.unique()
        shared = runs.list.set_intersection(grams(source, self.run)).list.len()
        lifted = (shared > runs.list.len() * self.max_share) & (runs.list.len() > 0)
        held = (text != "") & (runs.list.len() == 0) & source.str.contains(text, literal=True)
        return first_reason([("copy", lifted | held)])


@dataclass(frozen=True)
class KeepLikely(Gather[R]):
    """Reject scrambled texts: "unlikely" ones, whose perplexity is more than `max_ratio` times the median (0: any).

    The model is the other texts: their pairs of characters, backed by single characters with the weight of `prior`
    sightings. Perplexity is per character that matches `counted`; a text without one is "nothing_counted".

    Of Chinese articles one in a hundred is above 6 times the median, mostly traditional characters among simplified
    ones. Wrongly decoded text starts at 12, text of shuffled characters at 29.
    """

    field: str = "text"
    max_ratio: float = 8.0
    counted: str = HAN
    prior: float = 10.0

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        if not self.max_ratio:
            yield all_kept(rows.height)
            return
        found = self.perplexities(lambda: (frame[self.field] for frame in rows.read(self.field))).alias("found")
        unlikely = pl.col("found") > pl.col("found").median() * self.max_ratio
        rules = [("nothing_counted", pl.col("found").is_null()), ("unlikely", unlikely)]
        yield found.to_frame().select(reason=first_reason(rules))

    def perplexities(self, texts: Callable[[], Iterable[pl.Series]]) -> pl.Series:
        """One number per text, null where nothing is counted. `texts` is read twice, a piece in memory at a time."""
        nothing = pl.Series([], dtype=pl.String)
        totals = _pairs(nothing, self.counted).drop("row")
        for piece in texts():
            totals = pl.concat([totals, _pairs(piece, self.counted).drop("row")])
            totals = totals.group_by("before", "char").agg(pl.sum("n"))
        return pl.concat([self._scored(piece, totals) for piece in (nothing, *texts())])

    def _scored(self, texts: pl.Series, totals: pl.DataFrame) -> pl.Series:
        befores = totals.group_by("before").agg(n_before=pl.sum("n"))
        chars = totals.group_by("char").agg(n_char=pl.sum("n"))
        own = _pairs(texts, self.counted).with_columns(
            own_before=pl.sum("n").over("row", "before"),
            own_char=pl.sum("n").over("row", "char"),
            own_all=pl.sum("n").over("row"),
        )
        seen = own.join(totals, on=["before", "char"], suffix="_all").join(befores, on="before").join(chars, on="char")
        single = (pl.col("n_char") - pl.col("own_char") + 1) / (totals["n"].sum() - pl.col("own_all") + chars.height)
        pair = pl.col("n_all") - pl.col("n") + self.prior * single
        log = (pair / (pl.col("n_before") - pl.col("own_before") + self.prior)).log()
        # Sums are taken in any order and may differ in their last digits: rounded, they are the same in every run.
        per_char = (-(log * pl.col("n")).sum() / pl.sum("n")).exp().round(3)
        scored = seen.group_by("row").agg(perplexity=per_char)
        rows = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.UInt32, eager=True)})
        return rows.join(scored, on="row", how="left", maintain_order="left")["perplexity"]


def _pairs(texts: pl.Series, counted: str) -> pl.DataFrame:
    """How often (n) each `counted` character follows the one `before` it in each text, `row` by `row`."""
    letters = pl.DataFrame({"text": texts}).with_row_index("row").select("row", char=pl.col("text").str.split(""))
    chars = letters.explode("char")
    begins = (pl.col("row") != pl.col("row").shift(1)).fill_null(True)
    before = pl.when(begins).then(pl.lit("")).otherwise(pl.col("char").shift(1))
    found = chars.with_columns(before=before).filter(pl.col("char").str.contains(counted))
    return found.group_by("row", "before", "char").agg(n=pl.len().cast(pl.Float64))


def _begins_with_repeats(text: pl.Expr, unit: int, times: int) -> pl.Expr:
    """Whether the first `unit` characters stand `times` times at the start: then it equals itself, moved by `unit`."""
    moved = unit * (times - 1)
    return (text.str.len_chars() >= unit * times) & (text.str.slice(0, moved) == text.str.slice(unit, moved))
