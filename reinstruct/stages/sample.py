"""Choose some of the rows: by strata, by score, by what instructions ask for.

The one rule: a row's chance depends on its id and the seed, never on where it stands.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import polars as pl

from reinstruct.draw import draw_int
from reinstruct.errors import expect
from reinstruct.records import R
from reinstruct.rows import Rows
from reinstruct.stage import Gather
from reinstruct.stages.gather import all_kept, unless
from reinstruct.stages.keep import worth_of
from reinstruct.stages.verbs import VerbList


@dataclass(frozen=True)
class SampleStrata(Gather[R]):
    """Keep `size` rows (0: all), spread over strata; the others are "not_sampled".

    A stratum is one value of each field in `by` and, with `lengths`, one doubling of the length of `field` (512 to 1023
    characters are one, and so are 0 and 1). `shares` says how many each gets: "equal", as far as there are so many, or
    "proportional" to its own size. Within a stratum rows are drawn as `Sample` draws them.
    """

    version: ClassVar[int] = 2
    size: int = 0
    seed: int = 0
    by: tuple[str, ...] = ("source",)
    lengths: bool = True
    field: str = "text"
    shares: str = "equal"  # equal | proportional

    def __post_init__(self) -> None:
        expect(self.shares in ("equal", "proportional"), "SampleStrata: shares", self.shares, "equal or proportional")

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        if not self.size or self.size >= rows.height:
            yield all_kept(rows.height)
            return
        chars = pl.col(self.field).str.len_chars().fill_null(0).clip(lower_bound=1)
        doubling = chars.log(2).floor().cast(pl.Int16) if self.lengths else pl.lit(0)
        strata = pl.struct(*self.by, doubling.alias(" doubling")).hash(0).alias("stratum")
        fields = dict.fromkeys(("id", *self.by, *((self.field,) if self.lengths else ())))
        drawn = pl.concat([_drawn(frame.select("id", strata), "strata", self.seed) for frame in rows.read(*fields)])
        turn = pl.col("draw").rank("ordinal").over("stratum")
        turn = turn if self.shares == "equal" else (turn - 0.5) / pl.len().over("stratum")
        place = pl.struct(turn.alias("turn"), "draw").rank("ordinal")
        yield drawn.select(reason=unless(place <= self.size, "not_sampled"))


@dataclass(frozen=True)
class KeepBest(Gather[R]):
    """Keep the `size` rows (0: all) with the highest `score`; the others are "not_best". Ties fall to the first.

    Instead of a score's name, "longest" takes the longest of `field`. RecipeError where no row has the score.
    """

    score: str
    size: int = 0
    field: str = "text"

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        if not self.size or self.size >= rows.height:
            yield all_kept(rows.height)
            return
        every = pl.int_range(rows.height, dtype=pl.UInt32, eager=True)
        worth = worth_of(rows, self.score, self.field, every)
        place = pl.col("worth").rank("ordinal", descending=True)
        yield worth.select(reason=unless(place <= self.size, "not_best"))


@dataclass(frozen=True)
class CapRoots(Gather[R]):
    """Keep at most `most` rows (0: all) whose `field` has the same root, drawn by `seed`; more are "root_full".

    The root is what an English instruction asks for, as a verb and what it is done to: "write poem". There is no
    parser: see `root_of`. Instructions without a root all stay.
    """

    most: int = 0
    seed: int = 0
    field: str = "instruction"
    verbs: VerbList = dataclasses.field(default_factory=VerbList)

    def verdicts(self, rows: Rows) -> Iterator[pl.DataFrame]:
        if not self.most:
            yield all_kept(rows.height)
            return
        drawn = pl.concat([self._rooted(frame) for frame in rows.read("id", self.field)])
        fits = (pl.col("root") == "") | (pl.col("draw").rank("ordinal").over("root") <= self.most)
        reason = unless(fits, "root_full")
        yield drawn.select(reason=reason, detail=pl.when(~fits).then(pl.col("root")))

    def _rooted(self, frame: pl.DataFrame) -> pl.DataFrame:
        roots = [root_of(text, self.verbs) for text in frame[self.field]]
        return _drawn(frame.select("id", root=pl.Series(roots, dtype=pl.String)), "roots", self.seed)


_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*|[.!?:;,\n()]")
_NO_NOUNS = """
a an the this that these those my your our their his her its some any each every all both me us you him them one two
three four five six seven eight nine ten several few many more another other what which
"""
_AFTER_NOUNS = """
of for about in on at to from with without by as into onto over under between among through during before after that
which who whose where when while if because so and or but then than using based given is are was were be has have can
could should would will may might must not how why whether it i
"""
_BEFORE_VERBS = "please kindly just now then also and you to let's lets"
_NOT_ASKING = "be have do can could would should will may might must please let need want like help"
_SKIPPED, _ENDS = frozenset(_NO_NOUNS.split()), frozenset(_AFTER_NOUNS.split())
_OPENERS, _EMPTY = frozenset(_BEFORE_VERBS.split()), frozenset(_NOT_ASKING.split())


def root_of(text: str, verbs: VerbList) -> str:
    """The verb and the noun of an English instruction, in lower case: "Please write a short poem on rain" is
    "write poem", "Explain why it rains" is "explain", and "" where no verb of the list is found in its base form.

    The verb is the first word of the list that begins a sentence, a line or a clause after a comma, or follows
    "please", "you", "to" and the like. The noun is the last word after it before a mark, a preposition, a conjunction
    or an auxiliary. Articles, pronouns and number words are none; a plural s goes.
    """
    words = [word.lower() for word in _WORD.findall(text[:1000])]
    bases = _bases(verbs)
    before = ["", *words]
    asks = (at for at, word in enumerate(words) if word in bases and word not in _EMPTY and _opens(before[at]))
    start = next(asks, None)
    if start is None:
        return ""
    noun = ""
    for word in words[start + 1 :]:
        if not word[0].isalpha() or (word in _ENDS and (noun or word not in _SKIPPED)):
            break
        noun = word if word not in _SKIPPED else noun
    singular = noun[:-1] if len(noun) > 3 and noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun
    return f"{words[start]} {singular}".strip()


def _opens(before: str) -> bool:
    return not before[:1].isalpha() or before in _OPENERS


@cache
def _bases(verbs: VerbList) -> frozenset[str]:
    return verbs.bases()


def _drawn(frame: pl.DataFrame, name: str, seed: int) -> pl.DataFrame:
    draws = [draw_int(name, seed, key) for key in frame["id"]]
    return frame.drop("id").with_columns(draw=pl.Series(draws, dtype=pl.UInt64))
