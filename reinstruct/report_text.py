"""Numbers, texts and links as people read them in the report and the dataset card.

The one rule: a sentence about numbers claims only what the numbers given to it say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

THIN = "\u202f"  # narrow space that never breaks a line


@dataclass(frozen=True)
class Clip:
    """A text cut for display: what is shown at once, what unfolds, and how many characters are left out."""

    head: str
    rest: str = ""
    left_out: int = 0


def number(value: float | None, digits: int = 0) -> str:
    """1234567 -> "1 234 567" with thin spaces; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", THIN)


def share(part: float, whole: float) -> str:
    """ "12.3 %"; never 0 or 100 for what is not."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"< 0.1{THIN}%"
    if 99.9 < percent < 100:
        return f"> 99.9{THIN}%"
    return f"{percent:.1f}{THIN}%"


def duration(seconds: float) -> str:
    """The two largest units: "1 h 5 min", "3 min 20 s", "7.5 s"."""
    if seconds < 59.95:  # which is written as 60.0
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{number(minutes // 60)}{THIN}h {minutes % 60}{THIN}min"


def clip(text: str, head: int = 480, most: int = 6000) -> Clip:
    """Cut after `head` characters or a dozen lines, at a white space if one is near; leave out all beyond `most`."""
    twelfth = _end_of_line(text, 12)
    if len(text) <= min(head * 1.2, twelfth):
        return Clip(text)
    limit = min(head, twelfth)
    space = max(text.rfind(" ", limit // 2, limit), text.rfind("\n", limit // 2, limit))
    cut = space if space > 0 and limit < twelfth else limit
    return Clip(text[:cut], text[cut:most], max(0, len(text) - most))


def _end_of_line(text: str, line: int) -> int:
    end = -1
    for _ in range(line):
        end = text.find("\n", end + 1)
        if end < 0:
            return len(text)
    return end


def safe_link(url: str) -> str:
    """The URL if it leads to a web page, else nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""


def measured(metrics: Mapping[Any, Any], name: object) -> float | None:
    """A metric, where it is there and a finite number."""
    value = metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def loss_sentence(losses: Mapping[str, float], tokens: Mapping[str, float | None], missing: int = 0) -> str:
    """Which model has the lowest loss (nats per token), and by how much; `missing` models have none yet."""
    if not losses:
        return ""
    ranked = sorted(losses, key=lambda label: losses[label])
    best, low = ranked[0], f"{losses[ranked[0]]:.3f} nats per token"
    if len(ranked) == 1:
        return f"Only {best} was measured: {low}."
    level = [label for label in ranked if losses[label] == losses[best]]
    if len(level) > 1:
        sentence = f"The lowest loss is the same for {', '.join(level[:-1])} and {level[-1]}: {low}."
    else:
        gap = losses[ranked[1]] - losses[best]
        below = f"{gap:.3f}" if gap >= 0.0005 else "less than 0.001"
        sentence = f"The lowest loss is that of {best}: {low}, {below} below {ranked[1]}."
    if len({tokens.get(label) for label in losses}) > 1:
        sentence += " The models were measured on different numbers of tokens, so the values compare only roughly."
    if missing:
        sentence += f" Not measured yet: {missing} more."
    return sentence
