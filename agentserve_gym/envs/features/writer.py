"""Packs the raw numbers of one cluster's observations."""

from __future__ import annotations

from struct import Struct

from agentserve_gym.envs.features import values
from agentserve_gym.envs.features.layout import ObservationLayout
from agentserve_gym.envs.features.moment import Moment
from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.views import ClusterView


class FeatureWriter:
    """Packs the raw numbers of one cluster's observations, as float64, in the order of the layout
    but for what is constant in an episode."""

    def __init__(self, layout: ObservationLayout) -> None:
        groups = layout.groups
        self._once = layout.instances_start
        self._per_instance = len(layout.dynamic)
        self._unasked = [0.0] * (self._once - len(groups["global"]))
        self._moment = Moment(layout.pin_ttls_s, layout.tiers)
        self._row = Struct("")

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster."""
        self._moment.attach(cluster)
        self._row = Struct(f"{self._once + self._per_instance * len(cluster.instances)}d")

    def static_values(self) -> list[float]:
        """Raw static features of each instance, one instance after the other."""
        found: list[float] = []
        values.add_static_rows(self._moment, found)
        return found

    def write(self, decision: Decision | None, memory: bytearray, offset: int) -> None:
        """Pack what a decision shows, ``offset`` bytes into ``memory``; without a decision, what
        the cluster shows when nothing is asked (any more)."""
        moment = self._moment
        moment.show(decision)
        found: list[float] = []
        if decision is None:
            found += self._unasked
        else:
            values.add_asked(moment, found)
        values.add_always(moment, found)
        values.add_rows(moment, found)
        self._row.pack_into(memory, offset, *found)
