"""Did you mean? For every name a user can mistype."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(given: str, known: Iterable[str]) -> str:
    """A bracketed question naming the nearest known name, or nothing where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(given, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
