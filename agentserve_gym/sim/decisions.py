"""Decisions: the one interface through which every policy drives the simulation.

A decision is asked at two moments: a turn is ready and needs an instance (``RouteDecision``), and a
turn ended and its gap begins (``PlacementDecision``). Heuristics, oracles, learned policies
and the Gymnasium environments answer the same way. Decisions show only what a live router could
know; the program's future stays in the simulation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agentserve_gym.sim.kernel.programs import ProgramState, TurnState
from agentserve_gym.sim.views import ClusterView, InstanceView


class RouteDecision(NamedTuple):
    """A turn is ready: on which instance does it run, or does it wait?

    ``instances`` are those that it may run on: they serve the program's model. ``may_hold`` is
    false where nothing else would make progress (people who think are none); a hold is then
    answered for by the safe default.
    ``offers`` counts how often this turn was offered before.
    """

    time_s: float
    program: ProgramState
    turn: TurnState
    cluster: ClusterView
    may_hold: bool
    offers: int

    @property
    def instances(self) -> list[InstanceView]:
        cluster: Any = getattr(self, "cluster")  # noqa: B009  # compiled, any model of one will do
        views: list[InstanceView] = cluster.serving(self.program)
        return views


class PlacementDecision(NamedTuple):
    """A turn ended on ``instance`` and a gap began ``elapsed_s`` ago: where does the KV wait?

    Where programs of the class have people in them, it is asked after their last turns too: that a
    person will not come back is known to nobody.

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
