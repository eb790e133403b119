"""One number of an observation: its name, its scale, and what computes it.

Every feature is a non-negative raw number (seconds, tokens, turns, a share) and is scaled to [0, 1]
by one of three rules, so that a network sees numbers of one size and saturation is explicit:

- ``flag``: 0 or 1;
- ``share``: ``min(x / full, 1)``;
- ``log``: ``min(ln(1 + x / unit) / ln(1 + full / unit), 1)``: nearly linear below ``unit``,
  logarithmic above it, 1 from ``full`` on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log1p
from typing import Final, Generic, Literal, TypeVar

from agentserve_gym.envs.features.moment import Moment
from agentserve_gym.envs.features.recent_calls import CallSummary

Scale = Literal["flag", "share", "log"]
Source = TypeVar("Source", contravariant=True)
Raw = TypeVar("Raw", covariant=True)


class Feature(Generic[Source, Raw]):
    """One number of an observation, or, for ``Column``, one number of every instance's row.

    Attributes:
        name: unique within its group.
        scale: rule from raw number to [0, 1], see the module.
        text: what it is.
        value: the raw number, from a ``Moment`` or from completed calls.
        symbol: the raw number's unit, for documentation.
        unit, full: parameters of the rule.
    """

    def __init__(
        self,
        name: str,
        scale: Scale,
        text: str,
        value: Callable[[Source], Raw],
        symbol: str = "",
        unit: float = 1.0,
        full: float = 1.0,
    ) -> None:
        self.name: Final = name
        self.scale: Final = scale
        self.text: Final = text
        self.value: Final = value
        self.symbol: Final = symbol
        self.unit: Final = unit
        self.full: Final = full

    def scaled(self, raw: float) -> float:
        """The feature's value for a raw number."""
        if self.scale == "log":
            return min(log1p(raw / self.unit) / log1p(self.full / self.unit), 1.0)
        return min(raw / self.full, 1.0)

    @property
    def rule(self) -> str:
        """The rule in words."""
        if self.scale == "log":
            return f"log, unit {self.unit:g}, full {_plain(self.full)} {self.symbol}"
        if self.scale == "share" and self.full != 1.0:
            return f"share of {_plain(self.full)} {self.symbol}".rstrip()
        return self.scale


Single = Feature[Moment, float]
"""Occurs once."""

OfCalls = Feature[CallSummary, float]
"""Occurs once and follows from completed tool calls alone, so it is computed after each of them."""

Column = Feature[Moment, Iterable[float]]
"""Occurs in every instance's row; computed for all instances at once."""

AnyFeature = Single | OfCalls | Column


def _plain(number: float) -> str:
    """A number without an exponent."""
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"
