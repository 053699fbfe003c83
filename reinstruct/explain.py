"""Why a text is kept or rejected: every rule's number, limit and verdict. Rich tables are made nowhere else for it.

reinstruct explain TEXT | FILE | - [--rules PRESET]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinstruct.errors import CorpusError

if TYPE_CHECKING:
    from rich.table import Table

    from reinstruct.stages.quality_rules import QualityFilter


@dataclass(frozen=True)
class Judged:
    """What one rule says of one text. `first` marks the reason the text is rejected for."""

    reason: str
    counts: str
    value: float | None
    limit: str
    broken: bool
    first: bool


def explain(text: str, preset: str = "general") -> list[Judged]:
    """Every rule of a preset, in order. RecipeError for an unknown preset."""
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
            sign = "at most" if rule.side == "most" else "at least"
            first = bad and not any(earlier.first for earlier in judged)
            judged.append(Judged(rule.reason, rule.counts, values[rule.reason], f"{sign} {rule.limit:g}", bad, first))
    return judged


def read_text(given: str) -> str:
    """The text itself, of the file of that name, or of standard input for "-". CorpusError where a file is no text."""
    if given == "-":
        return sys.stdin.read()
    path = Path(given) if len(given) < 1000 and "\n" not in given else None
    if path is None or not path.is_file():
        if path is not None and (path.is_dir() or (path.suffix and " " not in given)):
            raise CorpusError(f"there is no file {given}; to explain a text of one word, give it through -")
        return given
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{given} is not UTF-8 text") from error


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


def _filters(name: str) -> Iterator[QualityFilter[Any]]:
    from reinstruct.stages.quality import preset
    from reinstruct.stages.quality_rules import KeepAll, QualityFilter

    match preset(name):
        case KeepAll(filters=filters):
            yield from filters
        case QualityFilter() as quality:
            yield quality
        case other:
            raise TypeError(f"not made of rules: {other!r}")


def _shown(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")
