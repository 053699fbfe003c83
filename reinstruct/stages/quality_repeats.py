"""How much of a text repeats itself: lines, paragraphs, and runs of words, as Rae et al. 2021 (table A1) count it.

The one rule: runs are looked into only where a cheap bound says that they may matter. Any run of five words or more
said twice has a run of five in it, any run of three or four has pairs, so two sorts of numbers clear most texts. Where
there is a compiled loop, it counts the runs of every text instead, which takes less.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_

import polars as pl

from reinstruct.stages.quality_page import Page

_AT = pl.lit(2**24 - 1, pl.UInt64)  # bits of a key for a word's place in the batch; the others are for its run
_RUN = pl.lit(2**64 - 2**24, pl.UInt64)
_ODD = pl.lit(0x9E3779B97F4A7C15, pl.UInt64)


def repeated_lines(page: Page) -> pl.DataFrame:
    """Of each text, the share of its lines that stood before, and of its characters in them; blank lines are none.

    An empty line at the very begin or end of a text counts, as in the reference implementation.
    """
    lines = page.lines.filter(pl.col("chars") > 0)
    found = lines.group_by("row").agg(
        lines=pl.len(), again=pl.col("again").sum(), chars=pl.col("chars").filter("again").sum()
    )
    edges = page.rows.select(edges=_holds("^\n").cast(pl.Int64) + (_holds("\n$") & _holds("[^\n]")))["edges"]
    per = {name: page.per_row(found, name).cast(pl.Int64) for name in ("lines", "again", "chars")}
    again = per["again"] + (edges == 2)
    return pl.DataFrame({"share": again / (per["lines"] + edges), "chars": per["chars"] / page.rows["chars"]})


def repeated_paragraphs(page: Page) -> pl.DataFrame:
    """As `repeated_lines`, of what stands between blank lines."""
    stripped = pl.col("text").str.strip_chars().str.replace_all("\n{2,}", "\x00")
    found = page.rows.select("row", part=stripped.str.split("\x00")).explode("part")
    again = ~(pl.col("part").hash() ^ pl.col("row").hash()).is_first_distinct()
    found = found.with_columns(again=again, chars=pl.col("part").str.len_chars().cast(pl.Int64))
    per = found.group_by("row").agg(
        share=pl.col("again").mean(), chars=pl.col("chars").filter("again").sum().cast(pl.Float64)
    )
    return pl.DataFrame({"share": page.per_row(per, "share"), "chars": page.per_row(per, "chars") / page.rows["chars"]})


def commonest_runs(page: Page, limits: dict[int, float], settled: pl.Series) -> dict[int, pl.Series]:
    """Of each text, the share of its characters in the commonest run of n words, for n of 2 to 4; the first of equals.

    0 where it cannot pass its limit, and where there is a reason already: in the texts `settled`, and in those that
    passed the limit of a smaller n.
    """
    if page.runs is not None:
        return {n: page.runs[n] / page.rows["chars"] for n in limits}
    sequence = page.sequence
    keys = _keys(sequence, 2)
    repeated = keys.to_frame("key").group_by(pl.col("key") & _RUN).agg(pl.len(), at=pl.col("key").min() & _AT)
    repeated = repeated.filter(pl.col("len") > 1)
    at = repeated["at"]
    length = sequence["chars"].gather(at) + sequence["chars"].gather(at + 1) + 1
    pairs = pl.DataFrame({"row": sequence["row"].gather(at), "most": repeated["len"] * length})
    most = page.per_row(pairs.group_by("row").agg(pl.col("most").max()), "most")
    first = page.per_row(sequence.group_by("row").agg(n=pl.col("chars").head(4).sum() + 3), "n")
    bounds = {2: most, 3: most * 2, 4: most * 2.5}  # a run of three is two pairs, one of four two pairs and a space
    passing = [
        (bounds[n] / page.rows["chars"] > limit) | (first / page.rows["chars"] > limit) for n, limit in limits.items()
    ]
    return _shares(page, _chosen(page, passing, settled), limits, _commonest)


def repeated_runs(page: Page, limits: dict[int, float], settled: pl.Series) -> dict[int, pl.Series]:
    """Of each text, the share of its characters in runs of n words that stood before, read from the left, none twice.

    0 where it cannot pass its limit, or where there is a reason already, as in `commonest_runs`.
    """
    if page.runs is not None:
        return {n: page.runs[n] / page.rows["chars"] for n in limits}
    smallest = min(limits)
    keys = _keys(page.sequence, smallest).sort().to_frame("key")
    same = (pl.col("key") & _RUN) == (pl.col("key").shift(1) & _RUN)
    again = keys.filter(same).select(pl.col("key") & _AT).to_series()
    covered = pl.concat([again + ahead for ahead in range(smallest)]).unique()
    most = page.sequence.select(pl.col("row", "chars").gather(pl.lit(covered)))
    bound = page.per_row(most.group_by("row").agg(pl.col("chars").sum()), "chars") / page.rows["chars"]
    return _shares(page, _chosen(page, [bound > min(limits.values())], settled), limits, _said_before)


def _shares(
    page: Page, words: pl.DataFrame, limits: dict[int, float], count: Callable[[pl.DataFrame, int], pl.DataFrame]
) -> dict[int, pl.Series]:
    """The characters counted in runs of each length, among all; texts beyond a limit are looked at no further."""
    found: dict[int, pl.Series] = {}
    for n, limit in limits.items():
        found[n] = page.per_row(count(words, n), "chars") / page.rows["chars"]
        if not page.exact:
            words = words.filter(~pl.col("row").is_in(page.rows["row"].filter(found[n] > limit).implode()))
    return found


def _keys(sequence: pl.DataFrame, size: int) -> pl.Series:
    """A number for each run of words within a text: a hash of the run above, where it begins in the sequence below."""
    at = pl.int_range(pl.len(), dtype=pl.UInt64)
    keys = sequence.select(key=(_run(size) & _RUN) | at, whole=_whole(size))
    return keys.filter("whole")["key"]


def _chosen(page: Page, passing: list[pl.Series], settled: pl.Series) -> pl.DataFrame:
    """The words of the texts that may pass a limit and matter still, and `at`, where they are in the sequence."""
    rows = page.rows["row"]
    if not page.exact:
        rows = rows.filter(reduce(or_, passing) & ~settled)
    return page.sequence.with_row_index("at").filter(pl.col("row").is_in(rows.implode()))


def _commonest(words: pl.DataFrame, size: int) -> pl.DataFrame:
    """(row, chars): how often the commonest run is there, times its length with single spaces."""
    runs = words.select("row", "at", run=_run(size), whole=_whole(size), chars=_chars(size) + size - 1).filter("whole")
    counted = runs.group_by("run").agg(pl.col("row", "chars").first(), pl.len(), pl.col("at").min())
    first = counted.sort("len", "at", descending=[True, False]).unique("row", keep="first", maintain_order=True)
    return first.select("row", chars=pl.col("len") * pl.col("chars"))


def _said_before(words: pl.DataFrame, size: int) -> pl.DataFrame:
    """(row, chars): characters of runs that stood before; a run counted is left behind before the next is looked at."""
    runs = words.select("row", "at", run=_run(size), whole=_whole(size), chars=_chars(size)).filter("whole")
    again = runs.filter(pl.col("run").is_duplicated()).select("row", "at", "run", "chars")
    said: set[int] = set()
    found: dict[int, int] = {}
    free = 0
    for row, at, run, chars in zip(*(column.to_list() for column in again), strict=True):
        if at < free:
            continue
        if run in said:
            found[row] = found.get(row, 0) + chars
            free = at + size
        said.add(run)
    return pl.DataFrame({"row": list(found), "chars": list(found.values())}, {"row": pl.UInt32, "chars": pl.Int64})


def _run(size: int) -> pl.Expr:
    """A hash of this word, the ones after it and the text they are of."""
    mixed = pl.col("key")
    for ahead in range(1, size):
        mixed = mixed * _ODD + pl.col("key").shift(-ahead)
    return mixed ^ pl.col("row").hash()


def _whole(size: int) -> pl.Expr:
    return (pl.col("row") == pl.col("row").shift(1 - size)).fill_null(False)


def _chars(size: int) -> pl.Expr:
    return pl.sum_horizontal([pl.col("chars").shift(-ahead) for ahead in range(size)])


def _holds(pattern: str) -> pl.Expr:
    return pl.col("text").str.contains(pattern)
