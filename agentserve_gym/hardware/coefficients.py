"""What all groups of coefficients share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict


class Coefficients(BaseModel):
    """Base of all coefficient groups: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def check_increasing(name: str, values: Sequence[float]) -> None:
    """Raises ValueError where a grid does not increase."""
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"{name} must increase: {tuple(values)}")
