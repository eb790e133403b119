"""One number of an observation: its name, its scale, and the formula that computes it.

Every feature is a non-negative raw number (seconds, tokens, turns, a share) and is scaled to [0, 1]
by one of three rules, so that a network sees numbers of one size and saturation is explicit:

- ``flag``: 0 or 1;
- ``share``: ``min(x / full, 1)``;
- ``log``: ``min(ln(1 + x / unit) / ln(1 + full / unit), 1)``: nearly linear below ``unit``,
  logarithmic above it, 1 from ``full`` on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log1p
from typing import Literal

Scale = Literal["flag", "share", "log"]
Each = Literal["", "tier", "ttl"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an observation.

    Attributes:
        name: unique within its group.
        scale: rule from raw number to [0, 1], see the module.
        text: what it is.
        formula: the raw number, in names that ``table`` explains.
        symbol: the raw number's unit, for documentation.
        unit, full: parameters of the rule.
        each: whether there is one for each lower tier or pin TTL; name and text then say which in
            braces.
    """

    name: str
    scale: Scale
    text: str
    formula: str
    symbol: str = ""
    unit: float = 1.0
    full: float = 1.0
    each: Each = ""

    def named(self, **words: object) -> Feature:
        """The feature of one tier or TTL: name and text with the words in braces filled in."""
        return replace(
            self, name=self.name.format(**words), text=self.text.format(**words), each=""
        )

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


def _plain(number: float) -> str:
    """A number without an exponent."""
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"
