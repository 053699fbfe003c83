"""What a sample of a corpus looks like: languages, lengths, and what each rule would turn away."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from reinstruct.corpus.sample import Sample
from reinstruct.errors import RecipeError
from reinstruct.records import Document, to_table
from reinstruct.stage import Filter
from reinstruct.stages.language import identify
from reinstruct.stages.quality import PRESETS
from reinstruct.stages.text import KeepProse, SelectAdvice

SHOWN = 10  # samples
SHOWN_CHARS = 240
SURE = 0.5  # a language named with less confidence counts as unknown
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BIN_EDGES = (0, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)  # characters; the last bin is open
_SCRIPTS = ("Latin", "Han", "Cyrillic", "Arabic", "Devanagari", "Hangul", "Hiragana", "Katakana", "Greek", "Hebrew")


@dataclass(frozen=True)
class Verdict:
    """What a rule does to a sample: the share it rejects, 0 to 1, and the shares of its reasons, largest first."""

    rule: str
    rejected: float
    reasons: dict[str, float]


@dataclass(frozen=True)
class Profile:
    """Shares are 0 to 1, of the documents looked at; lengths in characters."""

    documents: int
    documents_exact: bool
    looked_at: int
    bytes_read: int
    unusable: dict[str, int]  # rows that are no document, by reason, among those read
    languages: dict[str, float]
    languages_are: str  # languages | scripts
    chars: dict[str, int]  # quantile -> characters
    histogram: dict[str, float]  # from so many characters on -> share
    duplicates: float
    repeated_ids: int  # ids that several texts have, among all rows read
    with_url: float
    licences: dict[str, float]
    rules: list[Verdict]
    samples: list[dict[str, str]] = field(default_factory=list[dict[str, str]])


def profile(sample: Sample, seed: int = 0) -> Profile:
    """The sample in numbers, and ten documents of it at random, the same ten for the same seed."""
    frame = pl.DataFrame(pl.from_arrow(to_table(sample.documents, Document)))
    named, kind = _languages(frame)
    chars = frame["text"].str.len_chars()
    shown = random.Random(seed).sample(sample.documents, min(SHOWN, len(sample.documents)))
    return Profile(
        documents=sample.total,
        documents_exact=sample.exact,
        looked_at=len(frame),
        bytes_read=sample.bytes_read,
        unusable=dict(sample.rejected.most_common()),
        languages=named,
        languages_are=kind,
        chars={f"{share:.0%}": int(chars.quantile(share, "nearest") or 0) for share in QUANTILES},
        histogram=_histogram(chars),
        duplicates=1 - frame["text"].n_unique() / len(frame),
        repeated_ids=sample.ids.count(),
        with_url=_share(frame["url"] != ""),
        licences=_shares(frame["licence"].replace("", "none given")),
        rules=[_verdict(name, rule, frame) for name, rule in _rules().items()],
        samples=[_shown(document) for document in shown],
    )


def _rules() -> dict[str, Filter[Any]]:
    return {"reinstruct": SelectAdvice(), "prose (English)": KeepProse(), **PRESETS}


def _verdict(name: str, rule: Filter[Any], frame: pl.DataFrame) -> Verdict:
    reasons = frame.select(rule.reason().alias("reason"))["reason"]
    return Verdict(name, _share(reasons.is_not_null()), _shares(reasons.drop_nulls(), of=len(frame)))


def _languages(frame: pl.DataFrame) -> tuple[dict[str, float], str]:
    """Shares of languages, or of scripts where language identification is not installed."""
    try:
        found = identify(frame["text"].to_list())
    except RecipeError:  # the extra is not installed
        return _shares(_scripts(frame["text"])), "scripts"
    named = [code if code and sure >= SURE else "unsure" for code, sure in found]
    return _shares(pl.Series(named, dtype=pl.String)), "languages"


def _scripts(texts: pl.Series) -> pl.Series:
    """The script that most characters of each text are in."""
    counts = pl.DataFrame({name: texts.str.count_matches(rf"\p{{{name}}}") for name in _SCRIPTS})
    most = counts.select(pl.concat_list(pl.all()).list.arg_max().alias("at"), pl.max_horizontal(pl.all()).alias("n"))
    names = [_SCRIPTS[at] if n else "none" for at, n in most.iter_rows()]
    return pl.Series(names, dtype=pl.String)


def _histogram(chars: pl.Series) -> dict[str, float]:
    """Share of each bin from the first that holds something to the last."""
    counts = Counter(max(edge for edge in BIN_EDGES if edge <= length) for length in chars)
    used = [edge for edge in BIN_EDGES if min(counts) <= edge <= max(counts)]
    return {str(edge): counts[edge] / len(chars) for edge in used}


def _shares(values: pl.Series, of: int = 0) -> dict[str, float]:
    counts = Counter(values.to_list()).most_common()
    return {str(value): count / (of or len(values)) for value, count in counts}


def _share(flags: pl.Series) -> float:
    return float(flags.sum()) / max(1, len(flags))


def _shown(document: Document) -> dict[str, str]:
    line = " ".join(document.text[: 4 * SHOWN_CHARS].split())
    text = line if len(line) <= SHOWN_CHARS else f"{line[:SHOWN_CHARS].rstrip()} …"
    return {"id": document.id, "source": document.url or document.source, "text": text}
