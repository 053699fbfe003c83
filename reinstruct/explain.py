"""Why a text is kept or rejected: every rule's number, limit and verdict. Rich tables are made nowhere else for it.

reinstruct explain TEXT | FILE | - [--rules PRESET]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinstruct.errors import CorpusError

if TYPE_CHECKING:
    from rich.table import Table

    from reinstruct.stage import Filter
    from reinstruct.stages.limits import Limit, Step
    from reinstruct.stages.quality_rules import QualityFilter, Rule
    from reinstruct.stages.segment import DropRepetitive


@dataclass(frozen=True)
class Judged:
    """What one rule says of one text. `first` marks the reason the text is rejected for."""

    reason: str
    counts: str
    value: float | None
    limit: str
    broken: bool
    first: bool


METHODS = ("reinstruct", "reinstruct-compat", "reinstruct-loose", "reinstruct-chinese", "humpback")


def explain(text: str, preset: str = "general") -> list[Judged]:
    """Every rule of a preset or a method, in order. RecipeError for an unknown one.

    Of a document with headers, "humpback" judges the first segment that has a header and a text.
    """
    from reinstruct.stages.documents import TextRules
    from reinstruct.stages.limits import Step
    from reinstruct.stages.quality import preset as named
    from reinstruct.stages.text import SelectAdvice

    advice = {
        "reinstruct": SelectAdvice(),
        "reinstruct-compat": SelectAdvice(compat=True),
        "reinstruct-loose": SelectAdvice.loose(),
        "reinstruct-chinese": SelectAdvice.chinese(),
    }
    if preset in advice:
        rules = advice[preset]
        return _by_limits(text, "", rules.steps(rules.verbs.bases(), rules.verbs.ing_forms()))
    if preset == "humpback":
        from reinstruct.stages.segment import DropRepetitive, SegmentRules

        header, body = _segment(text)
        judged = _by_limits(body, header, [Step(SegmentRules().limits())])
        return [*judged, _repetition(body, DropRepetitive(), judged)]
    found = named(preset, also=METHODS)
    return _by_limits(text, "", found.steps()) if isinstance(found, TextRules) else _by_rules(text, found)


def _by_rules(text: str, preset: Filter[Any]) -> list[Judged]:
    import polars as pl

    from reinstruct.stages.quality_page import Page

    page = Page(pl.Series([text]), exact=True)
    judged: list[Judged] = []
    for quality in _filters(preset):
        rules, measured = quality.rules(), quality.values(page)
        values = measured.row(0, named=True)
        broken = measured.select(rule.broken().alias(rule.reason) for rule in rules).row(0, named=True)
        for rule in rules:
            bad = bool(broken[rule.reason])
            judged.append(_judged(rule, values[rule.reason], bad, rejected=any(earlier.first for earlier in judged)))
    return judged


def _by_limits(text: str, header: str, steps: Sequence[Step]) -> list[Judged]:
    import polars as pl

    rows = pl.DataFrame({"text": [text], "header": [header]})
    judged: list[Judged] = []
    for step in steps:
        rows = rows.with_columns(**step.columns)
        for limit in step.limits:
            value, broken = rows.select(value=limit.value, broken=limit.broken()).row(0)
            judged.append(_judged(limit, value, bool(broken), rejected=any(earlier.first for earlier in judged)))
    return judged


def _judged(rule: Rule | Limit, value: float | None, broken: bool, *, rejected: bool) -> Judged:
    sign = "at most" if rule.side == "most" else "at least"
    first = broken and not rejected
    return Judged(rule.reason, rule.counts, value, f"{sign} {rule.limit:g}", broken, first)


def _segment(text: str) -> tuple[str, str]:
    """(header, text) of the first segment with both, else of the whole."""
    from reinstruct.records import Document
    from reinstruct.stages.segment import SplitAtHeaders

    found = SplitAtHeaders().apply(Document(id="", text=text))
    segments = found if isinstance(found, list) else []
    return next(((one.header, one.text) for one in segments if one.header and one.text), ("", text))


def _repetition(text: str, rules: DropRepetitive, before: Sequence[Judged]) -> Judged:
    """Without a value where the text is too long for the rules before: its sentences are compared in pairs."""
    overlap = None if any(rule.broken and rule.reason == "too_long" for rule in before) else rules.overlap(text)
    broken = overlap is not None and overlap > rules.max_jaccard
    first = broken and not any(rule.broken for rule in before)
    told = f"overlap of the two sentences most alike, in runs of {rules.ngram} words"
    return Judged("repetitive", told, overlap, f"at most {rules.max_jaccard:g}", broken, first)


def read_text(given: str) -> str:
    """The text itself, of the file of that name, or of standard input for "-"; without a byte order mark and with
    newlines at line ends, as a corpus gives it. CorpusError for a missing or unreadable file and for bytes that are no
    UTF-8.
    """
    if given == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input")
    path = Path(given)
    try:
        if path.is_file():
            return _decoded(path.read_bytes(), given)
        is_name = path.is_dir() or bool(path.suffix and not re.search(r"[ \n]", given))
    except PermissionError as error:
        raise CorpusError(f"{given} cannot be read: {error.strerror}") from error
    except (OSError, ValueError):  # too long for a name, or with characters that no name has: a text
        is_name = False
    if is_name:
        raise CorpusError(f"there is no file {given}; to explain a text of one word, give it through -")
    return _decoded(given.encode(errors="surrogateescape"), "the text")


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not UTF-8: byte {error.start:,} is {raw[error.start]:#04x}") from error


def table(judged: list[Judged]) -> Table:
    """The rules as a table; the first broken one is marked."""
    from rich.table import Table

    found = Table("", box=None, pad_edge=False)
    for name in ("Reason", "Value", "Accepted", "Verdict"):
        found.add_column(name, no_wrap=True)
    found.add_column("Counts")
    for rule in judged:
        verdict = "reject" if rule.broken else "keep"
        style = "bold red" if rule.first else "red" if rule.broken else ""
        mark = "→" if rule.first else ""
        found.add_row(mark, rule.reason, _shown(rule.value), rule.limit, verdict, rule.counts, style=style)
    return found


def verdict(judged: list[Judged], preset: str) -> str:
    """One sentence: kept, or the first reason and how many rules are broken."""
    broken = [rule for rule in judged if rule.broken]
    if not broken:
        return f"kept by {preset}: none of its {len(judged)} rules is broken"
    return f"rejected by {preset}: {broken[0].reason} ({len(broken)} of {len(judged)} rules broken)"


def _filters(preset: Filter[Any]) -> Iterator[QualityFilter[Any]]:
    from reinstruct.stages.quality_rules import KeepAll, QualityFilter

    match preset:
        case KeepAll(filters=filters):
            yield from filters
        case QualityFilter() as quality:
            yield quality
        case other:
            raise TypeError(f"not made of rules: {other!r}")


def _shown(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")
