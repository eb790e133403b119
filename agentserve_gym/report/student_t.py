"""Student's t distribution, exactly: with whole degrees of freedom it is a finite sum."""

from __future__ import annotations

import math
from functools import lru_cache


@lru_cache(maxsize=256)
def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution, to about 1e-13 of itself.

    Bisection on the chance of falling within ``sqrt(freedom) tan(angle)`` of 0, which is a finite
    sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        probability: in [0.5, 1). ``freedom``: degrees of freedom, at least 1.
    """
    low, high = 0.0, 0.5 * math.pi
    for _ in range(64):
        middle = 0.5 * (low + high)
        if _within(middle, freedom) < 2.0 * probability - 1.0:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(0.5 * (low + high))


def _within(angle: float, freedom: int) -> float:
    """Chance of ``|t| < sqrt(freedom) tan(angle)``."""
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = sine * cosine if odd else sine
    total = 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    return 2.0 / math.pi * (angle + total) if odd else total
