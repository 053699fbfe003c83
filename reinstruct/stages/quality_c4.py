"""C4's rules (Raffel et al. 2020, section 2.2): pages are judged by their good lines, and only those are kept.

The one rule: `C4Quality` decides on pages, `KeepC4Lines` takes the other lines out; both look at lines alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from msgspec.structs import replace

from reinstruct.records import Document, Drop, R
from reinstruct.stage import Transform
from reinstruct.stages.quality_page import Page
from reinstruct.stages.quality_rules import QualityFilter, Rule
from reinstruct.stages.select import contains_any, first_reason

_LINE_END = r"\r\n|[\r\x0b\x0c\x1c-\x1e\x{85}\x{2028}\x{2029}]"
_CITATION = r"\[\d*\]|\[edit\]|\[citation needed\]"
_SURE_END = r"\p{Ll}{5}[.!?][\"')]* +[A-Za-z0-9]"  # no abbreviation is that long
_SENTENCE_WORD = r"^[!.?։؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡。]$"
_MARK_WORD = r"^\p{P}+$"


@dataclass(frozen=True)
class C4Quality(QualityFilter[R]):
    """Reject pages with few sentences in good lines, and those with code or filler text in one.

    A good line ends in one of `ends` (after citations like [1] are taken out), not in an ellipsis, has `min_line_words`
    and no word of more than `max_word_chars` characters, and names neither a `banned` word nor a `policy` phrase.
    """

    min_sentences: int = 5
    min_line_words: int = 3
    max_word_chars: int = 1000
    ends: tuple[str, ...] = (".", "?", "!", '"', "'")
    banned: tuple[str, ...] = ("javascript",)
    policies: tuple[str, ...] = (
        *("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"),
    )

    def rules(self) -> list[Rule]:
        return [
            Rule("filler_text", "most", 0, 'good lines with "lorem ipsum" before any with a brace'),
            Rule("curly_bracket", "most", 0, "good lines with a brace before any with filler text"),
            Rule("few_sentences", "least", self.min_sentences, "sentences in good lines"),
        ]

    def values(self, page: Page) -> pl.DataFrame:
        lines = self.lines(page.rows.select("row", line=_split(pl.col("text"))).explode("line"))
        stops = (
            lines.filter(pl.col("stops").is_not_null())
            .group_by("row", maintain_order=True)
            .agg(pl.col("stops").first())
        )
        kinds = {
            kind: stops.filter(pl.col("stops") == kind).with_columns(n=1) for kind in ("filler_text", "curly_bracket")
        }
        sentences = self._sentences(lines.filter("good"), page)
        found = {**kinds, "few_sentences": sentences}
        return pl.DataFrame({name: page.per_row(rows, "n") for name, rows in found.items()})

    def lines(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Adds to the lines that may be good whether they are (good), and why they reject the page (stops)."""
        line, uncited, lowered = pl.col("line"), pl.col("uncited"), pl.col("lowered")
        has_citation = line.str.contains("[", literal=True)
        without = pl.when(has_citation).then(line.str.replace_all(_CITATION, "")).otherwise(line)
        ended = pl.any_horizontal([uncited.str.ends_with(end) for end in self.ends]) & ~uncited.str.ends_with("...")
        enough = line.str.contains(rf"(?:\S+\s+){{{self.min_line_words - 1}}}\S") if self.min_line_words > 0 else True
        long = pl.when(line.str.len_chars() > self.max_word_chars).then(line).str.extract_all(r"\S+")
        longest = long.list.eval(pl.element().str.len_chars()).list.max().fill_null(0)
        stripped = lines.with_columns(line=line.str.strip_chars()).with_columns(uncited=without)
        left = stripped.filter(ended).filter(enough & (longest <= self.max_word_chars))
        left = left.with_columns(line=uncited).with_columns(lowered=line.str.to_lowercase())
        banned = contains_any(lowered, self.banned)
        brace = line.str.contains("{", literal=True) & ~banned
        stops = first_reason(
            [("filler_text", lowered.str.contains("lorem ipsum", literal=True)), ("curly_bracket", brace)]
        )
        judged = left.with_columns(good=~banned & ~contains_any(lowered, self.policies), stops=stops)
        return judged.drop("uncited", "lowered")

    def _sentences(self, good: pl.DataFrame, page: Page) -> pl.DataFrame:
        """(row, n): sentences of each text. They are counted only where lines and sure ends are too few to tell."""
        sure = pl.col("line").str.count_matches(_SURE_END) + 1
        counted = good.group_by("row").agg(n=sure.sum(), lines=pl.col("line"))
        near = counted.filter(pl.lit(page.exact) | (pl.col("n") < self.min_sentences))
        lines = near.select("row", "lines").explode("lines")
        closely = lines.select("row", n=sentences(lines["lines"], page)).group_by("row").agg(pl.col("n").sum())
        sure_rows = counted.join(near, on="row", how="anti").select("row", pl.col("n").cast(pl.Int64))
        return pl.concat([sure_rows, closely])


@dataclass(frozen=True)
class KeepC4Lines(Transform[Document, Document]):
    """Take out all but the good lines of a text, and citations; "no_good_lines" where none is left.

    A page that `C4Quality` keeps comes out as the reference implementation leaves it.
    """

    quality: C4Quality[Document] = C4Quality()

    def apply(self, record: Document) -> Document | Drop:
        lines = pl.DataFrame({"line": pl.Series([record.text])}).select(_split(pl.col("line"))).explode("line")
        good = self.quality.lines(lines).filter("good")["line"].to_list()
        return replace(record, text="\n".join(good).strip()) if good else Drop("no_good_lines")


def sentences(lines: pl.Series, whole: Page | None = None) -> pl.Series:
    """Of each line, how often a word follows a full stop or the like, and one; marks after it still belong to it.

    `whole` has the texts the lines are from, where these are cut into words already.
    """
    page = Page(lines, like=whole)
    words, word = page.words, pl.col("word")
    ends = words.filter(word.str.contains(_SENTENCE_WORD))["key"].implode()
    marks = words.filter(word.str.contains(_MARK_WORD) & ~word.str.contains(_SENTENCE_WORD))["key"].implode()
    told = page.sequence.filter(~pl.col("key").is_in(marks)).select("row", end=pl.col("key").is_in(ends))
    begins = ~pl.col("end") & pl.col("end").shift(1) & (pl.col("row") == pl.col("row").shift(1))
    return page.per_row(told.filter(begins).group_by("row").agg(n=pl.len()), "n").cast(pl.Int64) + 1


def _split(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(_LINE_END, "\n").str.split("\n")
