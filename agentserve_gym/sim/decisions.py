"""Decisions and answers: the one interface through which every policy drives the simulation.

A decision is asked at two moments: a turn is ready and needs an instance (``RouteDecision``), and a
turn ended and its tool gap begins (``PlacementDecision``). Heuristics, oracles, learned policies
and the Gymnasium environments answer the same way. Decisions show only what a live router could
know; the program's future stays in the simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from agentserve_gym.sim.programs import ProgramState, TurnState
    from agentserve_gym.sim.views import ClusterView


class Tier(IntEnum):
    """A memory tier that can hold KV."""

    HBM = 0
    DRAM = 1
    CXL = 2


HBM, DRAM, CXL = Tier
"""The tiers by themselves: looking a member up in its enumeration takes a function call."""


class Restore(Enum):
    """How a turn gets back KV that lies outside its instance's HBM."""

    CHEAPEST = "cheapest"
    """Load or recompute, whichever is estimated to give the first token sooner."""
    LOAD = "load"
    """Load the longest copy within reach: DRAM of the node, CXL, or another instance's HBM."""
    RECOMPUTE = "recompute"
    """Never load."""


class PlacementKind(Enum):
    """Where the KV of a program waits during a tool gap."""

    KEEP = "keep"
    PIN = "pin"
    DRAM = "dram"
    CXL = "cxl"
    DROP = "drop"
    PREFETCH = "prefetch"
    """Bring the longest copy in DRAM or CXL back into the home's HBM before the program returns."""


class Route(NamedTuple):
    """Run the turn on an instance.

    ``priority`` orders the instance's queue (lowest first, then arrival); ``restore`` says how KV
    that lies elsewhere comes back; a turn that still waits in the queue after ``promote_after_s``
    seconds moves to its front.
    """

    instance: int
    priority: float = 0.0
    restore: Restore = Restore.CHEAPEST
    promote_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the turn at the router; it is offered again when a turn completes or KV blocks free.

    Held turns are offered by ``priority`` (lowest first, then the scenario's order). Of each
    ``lane`` the first is offered, and the next as long as offers are taken: turns that wait for
    different instances do not block each other in different lanes.
    """

    priority: float = 0.0
    lane: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the KV waits during the gap that begins.

    Attributes:
        kind: leave in HBM under LRU, pin in HBM, offload to DRAM or CXL, or drop every copy.
        ttl_s: how long a pin lasts, seconds; only for ``PIN``.
        until_admitted: a pin still alive when the program returns lasts until its turn is admitted
            to a batch, instead of ending on return.
        ask_again_s: ask once more after this many seconds if the gap is still on.
        rank: what is left in HBM is reclaimed by rank, lowest first, then least recently used;
            it lasts until the program's next turn ends.
        stay_warm: an offloaded context keeps its place in HBM's order (write-through) instead of
            becoming the first to be reclaimed.
    """

    kind: PlacementKind
    ttl_s: float = 0.0
    until_admitted: bool = False
    ask_again_s: float | None = None
    rank: float = 0.0
    stay_warm: bool = False


Answer = Route | Hold | Place

KEEP = Place(PlacementKind.KEEP)


class RouteDecision(NamedTuple):
    """A turn is ready: on which instance does it run, or does it wait?

    ``may_hold`` is false where holding could stall the simulation; a hold is then answered for by
    the safe default. ``offers`` counts how often this turn was offered before.
    """

    time_s: float
    program: ProgramState
    turn: TurnState
    cluster: ClusterView
    may_hold: bool
    offers: int


class PlacementDecision(NamedTuple):
    """A turn ended on ``instance`` and a tool gap began ``elapsed_s`` ago: where does the KV wait?

    ``tool_kinds`` are the tools called (empty where the trace does not say); ``gap_kind`` is
    ``tool`` or ``user``. ``elapsed_s`` is 0 except where the policy asked to be asked again.
    """

    time_s: float
    program: ProgramState
    cluster: ClusterView
    instance: int
    gap_kind: str
    tool_kinds: tuple[str, ...]
    elapsed_s: float


Decision = RouteDecision | PlacementDecision


class Policy(Protocol):
    """Answers decisions. May keep state of its own; one policy object serves one simulation."""

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision."""
        ...
