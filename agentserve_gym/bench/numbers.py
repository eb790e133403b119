"""Estimates as plain numbers: JSON has no infinity, so an interval of everything has no ends."""

from __future__ import annotations

import math
from collections.abc import Mapping

from agentserve_gym.report.statistics import Estimate


def estimate_as_numbers(estimate: Estimate) -> dict[str, float | None]:
    """Value and ends of an estimate."""
    unbounded = math.isinf(estimate.high)
    return {
        "value": estimate.value,
        "low": None if unbounded else estimate.low,
        "high": None if unbounded else estimate.high,
    }


def estimate_from_numbers(numbers: Mapping[str, float | None]) -> Estimate:
    """The inverse for ratios, whose lower end is 0 where there is none.

    Raises:
        KeyError: for a missing number.
        TypeError: for something that is no number.
    """
    value, low, high = (numbers[name] for name in ("value", "low", "high"))
    if value is None:
        raise TypeError("value must be a number")
    if low is None or high is None:
        return Estimate(value, 0.0, math.inf)
    return Estimate(value, low, high)
