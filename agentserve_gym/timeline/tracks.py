"""Tracks and what is marked on them, as every trace viewer has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from numbers import Integral, Real
from types import MappingProxyType
from typing import NamedTuple

Value = bool | int | float | str
Values = Mapping[str, Value]
Progress = Callable[[int, int], None]
"""Told how many marks are written, and of how many."""

_NS_PER_S = 1_000_000_000
_MARKS_PER_REPORT = 20_000


class Track(NamedTuple):
    """A line of the timeline.

    Attributes:
        number: from 1. ``parent``: that of the track it lies under, 0 for none.
        group: that of the uppermost track above it.
        unit: of a counter, ``bytes``; empty for slices and instants.
    """

    number: int
    parent: int
    group: int
    name: str
    description: str
    unit: str


class Kind(Enum):
    """What happens at a mark."""

    BEGIN = "begin"
    END = "end"
    INSTANT = "instant"
    LEVEL = "level"


_NONE: Values = MappingProxyType({})


class Mark(NamedTuple):
    """Something at a time on a track, by its number.

    ``category`` and ``values``: of a slice that begins, or an instant. ``level``: of a counter.
    """

    time_ns: int
    kind: Kind
    track: int
    name: str = ""
    category: str = ""
    values: Values = _NONE
    level: int = 0


@dataclass(slots=True)
class Timeline:
    """A timeline under construction; what is marked on one track comes in the order of time.

    Attributes:
        title: what it shows.
        tracks: by number less 1, parents before children.
    """

    title: str
    tracks: list[Track] = field(default_factory=list)
    _marks: list[Mark] = field(default_factory=list)

    def track(self, name: str, under: int = 0, *, description: str = "", unit: str = "") -> int:
        """Add a track, last among those under the same one; returns its number."""
        number = len(self.tracks) + 1
        group = self.tracks[under - 1].group if under else number
        self.tracks.append(Track(number, under, group, name, description, unit))
        return number

    def slice(
        self, track: int, name: str, category: str, start_s: float, end_s: float, values: Values
    ) -> None:
        """Mark a stretch of time; slices of one track do not overlap."""
        self._marks.append(Mark(_ns(start_s), Kind.BEGIN, track, name, category, values))
        self._marks.append(Mark(_ns(end_s), Kind.END, track))

    def instant(self, track: int, name: str, category: str, time_s: float, values: Values) -> None:
        """Mark a moment."""
        self._marks.append(Mark(_ns(time_s), Kind.INSTANT, track, name, category, values))

    def counter(self, track: int, time_s: Sequence[float], levels: Sequence[float]) -> None:
        """Mark a quantity wherever it changes; it is rounded to whole units."""
        before = None
        for at_s, level in zip(time_s, levels, strict=True):
            whole = round(level)
            if whole != before:
                self._marks.append(Mark(_ns(at_s), Kind.LEVEL, track, level=whole))
                before = whole

    def marks(self) -> list[Mark]:
        """All of them in the order of time."""
        return sorted(self._marks, key=lambda mark: mark.time_ns)


def reported(marks: Sequence[Mark], progress: Progress) -> Iterator[Mark]:
    """The same marks, with a word now and then on how many have been taken."""
    for done, mark in enumerate(marks):
        if done % _MARKS_PER_REPORT == 0:
            progress(done, len(marks))
        yield mark


def plain(values: Mapping[str, object]) -> Values:
    """Values as trace formats have them: without what is absent, and numbers as Python's own."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: object) -> Value:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and isfinite(value):
        return float(value)
    return str(value)


def _ns(time_s: float) -> int:
    return round(time_s * _NS_PER_S)
