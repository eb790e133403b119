"""What a baseline policy is made of: routing, residency, admission and scheduling.

A *part* is one rule with its parameters. Parts are dataclasses: the fields are the parameters (so
two parts with equal parameters are equal), and what a part remembers during a run is set up in
``reset``. A part sees decisions, views and statistics only: what a live router could know. An
*oracle* part may also look into the simulation it was bound to, and says so (``is_oracle``).

Every part counts the events that define it (``events``), so that a benchmark can tell a rule that
never fired from one that made no difference.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from agentserve_gym.sim import Hold, Place, PlacementDecision, Restore, RouteDecision

if TYPE_CHECKING:
    from agentserve_gym.sim import Simulation


def number(default: float, low: float = 0.0, high: float = math.inf) -> Any:
    """A numeric parameter within ``[low, high]``; an integer default allows integers only."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: str, *allowed: str) -> Any:
    """A parameter that is one of a few words."""
    return field(default=default, metadata={"allowed": (default, *allowed)})


def text(default: str) -> Any:
    """A parameter that is any text."""
    return field(default=default, metadata={"text": True})


@dataclass
class Part:
    """Base of all parts.

    Attributes:
        name, family: how it is named in ``parse_policy``, and which decision it takes.
        rule, source: one line on each, for listings.
        events: its counters; the first one is its defining event.
        is_oracle: whether it knows what no live system could.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    rule: ClassVar[str] = ""
    source: ClassVar[str] = ""
    events: ClassVar[tuple[str, ...]] = ()
    is_oracle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for parameter in fields(self):
            check_parameter(self.name, parameter, getattr(self, parameter.name))
        self.reset()

    def reset(self) -> None:
        """Forget the run so far."""
        self.counts: dict[str, int] = dict.fromkeys(self.events, 0)

    def count(self, event: str) -> None:
        """Count one of the part's events."""
        self.counts[event] += 1

    def turn_ready(self, decision: RouteDecision) -> None:
        """A turn is offered for the first time; its program's pin, if any, is still there."""

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        """The turn goes to ``instance``."""

    def turn_held(self, decision: RouteDecision) -> None:
        """The turn is held back."""

    def gap_began(self, decision: PlacementDecision) -> None:
        """A turn ended and a tool gap begins."""

    def bind(self, simulation: Simulation) -> None:
        """Give an oracle its simulation; other parts ignore it."""

    def __str__(self) -> str:
        """The part as ``parse_policy`` reads it: parameters that differ from their defaults."""
        given = [
            f"{parameter.name}={getattr(self, parameter.name)}"
            for parameter in fields(self)
            if getattr(self, parameter.name) != parameter.default
        ]
        return f"{self.name}({','.join(given)})" if given else self.name


class Choice(NamedTuple):
    """An instance, and which branch of the rule chose it (one of the part's ``events``)."""

    instance: int
    event: str


@dataclass
class Routing(Part, ABC):
    """Chooses the instance on which a turn runs."""

    family: ClassVar[str] = "routing"

    @abstractmethod
    def choose(self, decision: RouteDecision) -> Choice:
        """The instance this turn would run on. Changes nothing: the turn may yet be held."""

    def prices(self, decision: RouteDecision) -> Sequence[float]:  # noqa: ARG002
        """What each of ``decision.instances`` costs by a rule that takes the cheapest; empty for
        other rules. Changes nothing."""
        return ()


@dataclass
class Residency(Part, ABC):
    """Chooses where a program's KV waits during a tool gap.

    ``order`` names the scheduling that this policy's authors use with it; ``restore`` says how KV
    outside HBM comes back.
    """

    family: ClassVar[str] = "residency"
    order: ClassVar[str] = "fcfs"
    restore: ClassVar[Restore] = Restore.CHEAPEST

    @abstractmethod
    def place(self, decision: PlacementDecision) -> Place:
        """Where the KV waits."""

    def values(self, decision: PlacementDecision) -> Mapping[str, float]:  # noqa: ARG002
        """What each place is worth by a rule that takes the best; empty for other rules. Changes
        nothing."""
        return {}


@dataclass
class Admission(Part, ABC):
    """Chooses whether a turn is sent on now or held at the router."""

    family: ClassVar[str] = "admission"

    def join(self, residency: Residency, scheduling: Scheduling) -> None:
        """Learn, once, with which parts this one is combined."""

    @abstractmethod
    def admits(self, decision: RouteDecision, instance: int) -> bool:
        """Whether the turn may go to ``instance`` now."""

    def hold(self, decision: RouteDecision, instance: int) -> Hold:  # noqa: ARG002
        """How a turn that may not go to ``instance`` waits: by default in one queue for all."""
        return Hold()


@dataclass
class Scheduling(Part, ABC):
    """Chooses the order of an instance's queue."""

    family: ClassVar[str] = "scheduling"

    @abstractmethod
    def priority(self, decision: RouteDecision, instance: int) -> float:
        """The turn's place in the queue: lowest first, then first come, first served."""

    def promote_after_s(self, decision: RouteDecision) -> float | None:  # noqa: ARG002
        """After which wait in the queue the turn goes to its front; ``None`` for never."""
        return None


def check_parameter(part: str, parameter: Field[Any], value: Any) -> None:
    """Refuse a value outside what the parameter allows.

    Raises:
        ValueError: naming the part, the parameter, the value and what is allowed.
    """
    metadata = parameter.metadata
    if "allowed" in metadata:
        if value not in metadata["allowed"]:
            names = ", ".join(metadata["allowed"])
            raise ValueError(f"{part}: {parameter.name} is {value!r}; allowed: {names}")
        return
    if "text" in metadata:
        if not isinstance(value, str):
            raise ValueError(f"{part}: {parameter.name} is {value!r}; allowed: a text")
        return
    if isinstance(parameter.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{part}: {parameter.name} is {value!r}; allowed: true, false")
        return
    low, high = metadata.get("low", -math.inf), metadata.get("high", math.inf)
    whole = isinstance(parameter.default, int)
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or not low <= value <= high:
        kind = "an integer" if whole else "a number"
        span = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise ValueError(f"{part}: {parameter.name} is {value!r}; allowed: {kind} {span}")
