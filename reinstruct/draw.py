"""Random choices that depend on a key alone, never on order or on a generator's state: a retry draws the same."""

from __future__ import annotations

import hashlib


def draw(*key: object) -> float:
    """A number in [0, 1), uniform over keys."""
    return draw_int(*key) / 2**64


def draw_int(*key: object) -> int:
    """A number of 64 bits, uniform over keys."""
    text = "/".join(map(str, key)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
