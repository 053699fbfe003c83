"""How fast a method gains from more of its data."""

from __future__ import annotations

import math
from collections.abc import Sequence


def scaling_coefficient(sizes: Sequence[int], scores: Sequence[float]) -> float:
    """What each e-fold of data adds to a score: the alpha of score = alpha ln(size) + c, by least squares (Li et al.
    2023, data scaling, with win rates in percent: 6.95 for Humpback's data, 1.99 for Alpaca's).

    One score for each size, in any unit. ValueError for fewer than two different sizes.
    """
    logs = [math.log(size) for size in sizes]
    mean, mean_score = sum(logs) / len(logs), sum(scores) / len(scores)
    spread = sum((log - mean) ** 2 for log in logs)
    if len(sizes) != len(scores) or not spread:
        raise ValueError("a slope needs one score for each size, and two different sizes")
    return sum((log - mean) * (score - mean_score) for log, score in zip(logs, scores, strict=True)) / spread
