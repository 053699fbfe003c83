"""What the quality rules count in a batch of texts, each thing at most once however many rules ask for it.

The one rule: columns only. A text is a row; its words and lines are looked at together with all others of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import polars as pl

from reinstruct.stages import quality_compiled, quality_words
from reinstruct.stages.quality_compiled import IS_THERE
from reinstruct.stages.quality_english import CUT
from reinstruct.stages.scripts import ENDERS

_ROWS, _BYTES = 4096, 16_000_000
SENTENCE_END = rf"[{ENDERS}]"
MARKS_ONLY = (  # words that count as symbols: every character is a mark
    r"^[!-/:-@\[-`{-~—”：％１〈、━【」「，】；“《„∶´（–～«〉》）…►»"
    rf"{ENDERS}\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+$"
)


class Page:
    """A batch of texts. `exact` counts all there is to count; else only what can lie beyond a usual threshold. Pieces
    that are in the page `like` too are not cut into words once more. `compiled`: by the loops of _words.c.
    """

    def __init__(
        self, texts: pl.Series, *, exact: bool = False, like: Page | None = None, compiled: bool = IS_THERE
    ) -> None:
        self.texts = texts.alias("text").rechunk()
        self.exact = exact
        self._like = like
        self._compiled = compiled if like is None else like._compiled

    @cached_property
    def rows(self) -> pl.DataFrame:
        """row, text and chars (code points) of each text."""
        return pl.DataFrame({"text": self.texts}).with_row_index("row").with_columns(chars=_chars(pl.col("text")))

    @cached_property
    def _numbered(self) -> tuple[pl.Series, pl.Series, pl.Series]:
        """How many pieces each text has, the number (`at`) of each in order, and the different ones."""
        return quality_compiled.numbered(self.texts) if self._compiled else quality_words.numbered(self.texts)

    @cached_property
    def _pieces(self) -> pl.DataFrame:
        """Of each different piece, in order: at, key, its words."""
        found = pl.DataFrame({"piece": self._numbered[2]}).with_row_index("at").with_columns(key=pl.col("piece").hash())
        cut = quality_compiled.cut if self._compiled else quality_words.cut
        if self._like is None:
            return found.select("at", "key", words=cut(found["piece"]).str.split(CUT))
        known = found.join(self._like._pieces.select("key", "words"), on="key", how="left")
        rest = known.filter(pl.col("words").is_null())
        done = rest.select("at", "key", words=cut(rest["piece"]).str.split(CUT))
        return pl.concat([known.filter(pl.col("words").is_not_null()).select("at", "key", "words"), done]).sort("at")

    @cached_property
    def words(self) -> pl.DataFrame:
        """The different words of the batch and the pieces (`at`) they stand in, one row each."""
        word = pl.col("word")
        found = self._pieces.select("at", word="words").explode("word").filter(word != "")
        return found.with_columns(
            chars=_chars(word), letters=word.str.contains(r"\p{L}"), mark=word.str.contains(MARKS_ONLY), key=word.hash()
        )

    @cached_property
    def counts(self) -> pl.DataFrame:
        """Of each text: words, lettered words, words that are no mere marks and their characters."""
        plain = ~pl.col("mark")
        per_piece = self.words.group_by("at").agg(
            words=pl.len(),
            lettered=pl.col("letters").sum(),
            plain=plain.sum(),
            plain_chars=pl.col("chars").filter(plain).sum(),
        )
        every = self._pieces.select("at").join(per_piece, on="at", how="left", maintain_order="left").fill_null(0)
        return pl.DataFrame({name: self._summed(every[name]) for name in every.columns[1:]})

    def _summed(self, values: pl.Series) -> pl.Series:
        """The sum over each text's pieces of one number a different piece."""
        lengths, numbers, _ = self._numbered
        running = values.cast(pl.UInt32).gather(numbers).cum_sum()  # no batch has so many characters
        ends = running.gather(lengths.cast(pl.Int64).cum_sum() - 1).cast(pl.Int64)
        return ends - ends.shift(1, fill_value=0)

    @cached_property
    def runs(self) -> dict[int, pl.Series] | None:
        """As `quality_compiled.runs` of each text; None where no loop counts them."""
        return quality_compiled.runs(*self._numbered[:2], self.words) if self._compiled else None

    def different_words(self, wanted: tuple[str, ...]) -> pl.Series:
        """How many of the wanted words each text holds at least once, exactly as spelled."""
        at, different = self._numbered[1], self._pieces
        hits = self.words.filter(pl.col("word").is_in(list(wanted))).select("at", "key")
        has = different.select(pl.col("at").is_in(hits["at"].implode())).to_series().gather(at)
        where = pl.DataFrame({"row": self._row_of_pieces, "at": at}).filter(has)
        found = where.unique().join(hits, on="at").group_by("row").agg(n=pl.col("key").n_unique())
        return self.per_row(found, "n")

    @cached_property
    def _row_of_pieces(self) -> pl.Series:
        lengths = self._numbered[0]
        return pl.select(pl.int_range(len(lengths), dtype=pl.UInt32).repeat_by(pl.lit(lengths)).explode()).to_series()

    @cached_property
    def sequence(self) -> pl.DataFrame:
        """All words in order: row, key (a hash of the word), chars."""
        at, different = self._numbered[1], self._pieces
        grouped = self.words.group_by("at", maintain_order=True).agg("key", "chars")
        lists = different.select("at").join(grouped, on="at", how="left", maintain_order="left").select("key", "chars")
        spread = lists.select(pl.all().gather(pl.lit(at)))
        return spread.with_columns(row=self._row_of_pieces).explode("key", "chars").drop_nulls("key")

    @cached_property
    def lines(self) -> pl.DataFrame:
        """Lines between LF: row, line, chars, blank, and whether the same line stood before in the text (again)."""
        found = self.rows.select("row", line=pl.col("text").str.split("\n")).explode("line")
        keyed = found.with_columns(key=pl.col("line").hash() ^ (pl.col("row").hash()))
        return keyed.select(
            "row", "line", chars=_chars(pl.col("line")), blank=~pl.col("line").str.contains(r"[^\s\x1c-\x1f]"),
            again=~pl.col("key").is_first_distinct(),
        )  # fmt: skip

    def per_row(self, found: pl.DataFrame, name: str) -> pl.Series:
        """A column of (row, name), in row order; 0 where the text has no row there."""
        rows = pl.DataFrame({"row": pl.int_range(len(self.texts), dtype=pl.UInt32, eager=True)})
        return rows.join(found.select("row", name), on="row", how="left", maintain_order="left")[name].fill_null(0)


def batches(texts: pl.Series) -> Iterator[pl.Series]:
    """Slices of at most four thousand texts and about 16 MB, at least one text each."""
    start = 0
    sizes = texts.str.len_bytes().fill_null(0).to_list()
    while start < len(sizes):
        end, total = start + 1, sizes[start]
        while end < len(sizes) and end - start < _ROWS and total + sizes[end] <= _BYTES:
            total += sizes[end]
            end += 1
        yield texts.slice(start, end - start)
        start = end


def _chars(text: pl.Expr) -> pl.Expr:
    return text.str.len_chars().cast(pl.Int64)
