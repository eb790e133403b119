"""One published trend, measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Trend:
    """A published statement, its band, and what a small setup gives here.

    Attributes:
        number: of the statement in the published list (``C3``).
        statement: what was published. ``source``: by whom.
        setup: what was simulated.
        band: what counts as reproduced.
        measured: in words. ``values``: the numbers behind it.
        within: whether the measurement lies within the band.
    """

    number: str
    statement: str
    source: str
    setup: str
    band: str
    measured: str
    within: bool
    values: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "number": self.number,
            "statement": self.statement,
            "source": self.source,
            "setup": self.setup,
            "band": self.band,
            "measured": self.measured,
            "within": self.within,
            "values": self.values,
        }


def listed(numbers: list[float], digits: int = 2) -> str:
    """Numbers with so many digits after the point, in words."""
    return ", ".join(f"{number:,.{digits}f}" for number in numbers)
