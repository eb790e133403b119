"""Runs of steps that are one event, and where in time each of their steps ends.

Decode-only steps run in closed form, and so do the full chunks of one long prefill; such a run
(``Segment``) ends at the first step boundary at which anything can change: a completion, blocks
running out, or a turn becoming admissible. What happens in between may move that end, never the
past.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from math import sqrt

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable

_CLEAR = 1e-6
"""Share of a step by which rounding cannot displace a boundary."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Segment(Copyable):
    """Steps that an engine has planned from ``start_s`` on.

    ``steps`` may be lowered later, never below the steps that have started.
    """

    __slots__ = ("start_s", "steps")

    start_s: float
    steps: int

    @abstractmethod
    def boundary_s(self, steps: int) -> float:
        """When the first ``steps`` steps have ended."""

    @abstractmethod
    def completed(self, now_s: float) -> int:
        """How many of the planned steps have ended by ``now_s``."""


@mypyc_attr(allow_interpreted_subclasses=True)
class DecodeSegment(Segment):
    """Decode-only steps in closed form: the i-th takes ``first_step_s + i * growth_s``."""

    __slots__ = ("first_step_s", "growth_s")

    def __init__(self, start_s: float, first_step_s: float, growth_s: float, steps: int) -> None:
        self.start_s = start_s
        self.steps = steps
        self.first_step_s = first_step_s
        self.growth_s = growth_s

    def boundary_s(self, steps: int) -> float:
        return self.start_s + (
            steps * self.first_step_s + self.growth_s * (0.5 * steps * (steps - 1))
        )

    def completed(self, now_s: float) -> int:
        start, first, growth, steps = self.start_s, self.first_step_s, self.growth_s, self.steps
        if now_s < start + first:
            return 0
        if steps == 1:
            return 1
        elapsed = now_s - start
        linear = first - 0.5 * growth
        # The root of the boundaries' parabola, in the form that also holds without growth.
        passed = 2.0 * elapsed / (linear + sqrt(linear * linear + 2.0 * growth * elapsed))
        count = int(passed)
        if count >= steps:
            count = steps
        elif _CLEAR < passed - count < 1.0 - _CLEAR:
            return count
        # Near a boundary, boundaries decide, as they do when they are scheduled.
        while count < steps and self.boundary_s(count + 1) <= now_s:
            count += 1
        while count > 0 and self.boundary_s(count) > now_s:
            count -= 1
        return count


@mypyc_attr(allow_interpreted_subclasses=True)
class PrefillSegment(Segment):
    """Steps with prefill chunks, priced one by one; ``boundaries_s``: the start and every end.

    Several steps are planned at once only where one turn takes the whole token budget in each of
    them: nobody can be admitted in between.
    """

    __slots__ = ("boundaries_s",)

    def __init__(self, start_s: float, boundaries_s: list[float], steps: int) -> None:
        self.start_s = start_s
        self.steps = steps
        self.boundaries_s = boundaries_s

    def boundary_s(self, steps: int) -> float:
        return self.boundaries_s[steps]

    def end_at(self, end_s: float) -> None:
        """Let the last step end then."""
        self.boundaries_s[self.steps] = end_s

    def completed(self, now_s: float) -> int:
        return bisect_right(self.boundaries_s, now_s, 1, self.steps + 1) - 1
