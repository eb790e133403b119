"""Measured values, and what a row hands to the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.control import Control
from benchmarks.sizes import Sizes

Report = Callable[[str, int, int], None]
"""Told what is being measured, how much of it is done, and how much there is."""


class Value(BaseModel):
    """Base of what is written to the result file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(Value):
    """Median and spread of repetitions."""

    median: float
    low: float
    high: float
    q1: float
    q3: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median, quartiles and extremes.

    Raises:
        ValueError: without values.
    """
    if not values:
        raise ValueError("values is empty; at least 1 is needed")
    q1, q3 = values[0], values[0]
    if len(values) > 1:
        q1, _, q3 = quantiles(values, n=4, method="inclusive")
    return Spread(
        median=median(values), low=min(values), high=max(values), q1=q1, q3=q3, count=len(values)
    )


class Target(Value):
    """A limit and its direction, of what is measured or of the bare events that it takes."""

    limit: float
    at: Literal["least", "most"]
    text: str
    of: Literal["measured", "in_events"] = "measured"

    def met(self, value: float) -> bool:
        """Whether a value is on the right side of the limit."""
        return value >= self.limit if self.at == "least" else value <= self.limit


class Table(Value):
    """A table of formatted cells; the first column is text."""

    title: str
    heading: list[str]
    rows: list[list[str]]
    note: str = ""


class Point(Value):
    """Cost of a turn at one size, for tables and pictures."""

    series: str
    size: float
    microseconds: float
    events: float


class Result(Value):
    """One row of the page.

    Attributes:
        row: name of the command that measured it.
        title: what is measured.
        unit: of ``measured`` and of the target.
        measured: over repetitions; ``None`` where the row could not be measured.
        in_events: the time of one ``per`` in bare events.
        missing: why it was not measured.
        wall_s: how long measuring took.
    """

    row: str
    title: str
    unit: str
    measured: Spread | None = None
    target: Target | None = None
    in_events: Spread | None = None
    per: str = "turn"
    remarks: list[str] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    points: list[Point] = Field(default_factory=list)
    missing: str = ""
    wall_s: float = 0.0

    @property
    def judged(self) -> float | None:
        """What the target is of; ``None`` without target or measurement."""
        if self.target is None:
            return None
        found = self.measured if self.target.of == "measured" else self.in_events
        return found.median if found is not None else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; ``None`` without target or measurement."""
        if self.target is None or self.judged is None:
            return None
        return self.target.met(self.judged)


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: ``work`` units took ``seconds``, a bare event beside it ``event_s``."""

    seconds: float
    work: float
    event_s: float

    @property
    def per_second(self) -> float:
        return self.work / self.seconds

    @property
    def microseconds(self) -> float:
        """Per unit of work."""
        return 1e6 * self.seconds / self.work

    @property
    def events(self) -> float:
        """Bare events per unit of work."""
        return self.seconds / self.work / self.event_s


@dataclass(slots=True)
class Stopwatch:
    """Adds up what a row does besides what it measures: building, resetting.

    Attributes:
        seconds: since the last ``take``. ``total_s``, ``count``: of all times.
    """

    seconds: float = 0.0
    total_s: float = 0.0
    count: int = 0

    def stop(self, started: float) -> None:
        """Count the time since ``started``, of ``time.perf_counter``."""
        taken = time.perf_counter() - started
        self.seconds += taken
        self.total_s += taken
        self.count += 1

    def take(self) -> float:
        """Seconds since this was last asked."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row gets.

    Attributes:
        aside: its time is left out of the sample that is being taken.
    """

    sizes: Sizes
    control: Control
    report: Report
    aside: Stopwatch = field(default_factory=Stopwatch)

    def sample(self, work: Callable[[], float]) -> Sample:
        """Time ``work`` between two controls; it returns how many units it did."""
        done = 0.0

        def timed() -> float:
            nonlocal done
            self.aside.take()
            started = time.perf_counter()
            done = work()
            return time.perf_counter() - started - self.aside.take()

        seconds, event_s = self.control.around(timed)
        return Sample(seconds, done, event_s)

    def interleaved(
        self, cases: dict[str, Callable[[int], float]], repetitions: int
    ) -> dict[str, list[Sample]]:
        """Repeat cases in turn, so that a slow moment of the machine meets all of them.

        Each case gets the number of the repetition; the first round is a warm-up and is left out.
        """
        samples: dict[str, list[Sample]] = {name: [] for name in cases}
        total = (repetitions + 1) * len(cases)
        for repetition in range(repetitions + 1):
            for number, (name, work) in enumerate(cases.items()):
                self.report(name, repetition * len(cases) + number, total)
                sample = self.sample(partial(work, repetition))
                if repetition:
                    samples[name].append(sample)
        self.report("", total, total)
        return samples


def rates(samples: Sequence[Sample]) -> Spread:
    """Units of work per second."""
    return spread([sample.per_second for sample in samples])


def costs(samples: Sequence[Sample]) -> Spread:
    """Microseconds per unit of work."""
    return spread([sample.microseconds for sample in samples])


def events(samples: Sequence[Sample]) -> Spread:
    """Bare events per unit of work."""
    return spread([sample.events for sample in samples])
