"""What a policy answers: where a turn runs, that it waits, or where its KV waits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mypy_extensions import mypyc_attr


class Restore(Enum):
    """How a turn gets back KV that lies outside its instance's HBM."""

    CHEAPEST = "cheapest"
    """Load or recompute, whichever is estimated to give the first token sooner."""
    LOAD = "load"
    """Load the longest copy within reach: in a lower tier, or in another instance's HBM."""
    RECOMPUTE = "recompute"
    """Never load."""


class PlacementKind(Enum):
    """Where the KV of a program waits during a tool gap."""

    KEEP = "keep"
    PIN = "pin"
    OFFLOAD = "offload"
    """Copy to a lower tier."""
    DROP = "drop"
    PREFETCH = "prefetch"
    """Bring the longest copy in a lower tier back to the home's HBM before the program returns."""


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


@mypyc_attr(native_class=False)  # a policy may hand anything, which is judged later
@dataclass(frozen=True)
class Hold:
    """Keep the turn at the router; it is offered again when a turn completes or KV blocks free.

    Held turns are offered by ``priority`` (lowest first, then the scenario's order). Of each
    ``lane`` the first is offered, and the next as long as offers are taken: turns that wait for
    different instances do not block each other in different lanes.
    """

    priority: float = 0.0
    lane: int = 0


@mypyc_attr(native_class=False)
@dataclass(frozen=True)
class Place:
    """Where the KV waits during the gap that begins.

    Attributes:
        kind: leave in HBM under LRU, pin in HBM, offload to a lower tier, or drop every copy.
        ttl_s: how long a pin lasts, seconds; only for ``PIN``.
        until_admitted: a pin still alive when the program returns lasts until its turn is admitted
            to a batch, instead of ending on return.
        ask_again_s: ask once more after this many seconds if the gap is still on.
        rank: what is left in HBM is reclaimed by rank, lowest first, then least recently used;
            it lasts until the program's next turn ends.
        stay_warm: an offloaded context keeps its place in HBM's order (write-through) instead of
            becoming the first to be reclaimed.
        tier: name of the lower tier; only for ``OFFLOAD``.
    """

    kind: PlacementKind
    ttl_s: float = 0.0
    until_admitted: bool = False
    ask_again_s: float | None = None
    rank: float = 0.0
    stay_warm: bool = False
    tier: str = ""


Answer = Route | Hold | Place

KEEP = Place(PlacementKind.KEEP)


def offload(
    tier: str, *, stay_warm: bool = False, rank: float = 0.0, ask_again_s: float | None = None
) -> Place:
    """Offload to a lower tier; see ``Place``."""
    return Place(
        PlacementKind.OFFLOAD, ask_again_s=ask_again_s, rank=rank, stay_warm=stay_warm, tier=tier
    )
