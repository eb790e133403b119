"""Packs the raw numbers of one cluster's observations."""

from __future__ import annotations

from struct import Struct

from agentserve_gym.envs.features.layout import ObservationLayout
from agentserve_gym.envs.features.moment import Moment
from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.views import ClusterView


class FeatureWriter:
    """Packs the raw numbers of one cluster's observations, as float64: the features that occur
    once, then the dynamic ones of instances, each a column, in the order of the layout."""

    def __init__(self, layout: ObservationLayout) -> None:
        self._asked = [feature.value for feature in layout.asked]
        self._kind = [feature.value for feature in layout.kind]
        self._overall = [feature.value for feature in layout.overall]
        self._always = [feature.value for feature in layout.always]
        self._columns = [feature.value for feature in layout.dynamic]
        self._static = [feature.value for feature in layout.static]
        self._once = layout.instances_start
        self._blank = [0.0] * (self._once - len(self._always))
        self._moment = Moment(layout.pin_ttls_s, layout.tiers)
        self._row = Struct("")

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster."""
        self._moment.attach(cluster)
        self._row = Struct(f"{self._once + len(self._columns) * len(cluster.instances)}d")

    def static_values(self) -> list[float]:
        """Raw static features, each a column."""
        values: list[float] = []
        for column in self._static:
            values += column(self._moment)
        return values

    def write(self, decision: Decision | None, memory: bytearray, offset: int) -> None:
        """Pack what a decision shows, ``offset`` bytes into ``memory``; without a decision, what
        the cluster shows when nothing is asked (any more)."""
        moment = self._moment
        moment.show(decision)
        if decision is None:
            values = self._blank.copy()
        else:
            values = [value(moment) for value in self._asked]
            values += moment.tool.numbers(self._kind)
            values += moment.overall.numbers(self._overall)
        values += [value(moment) for value in self._always]
        for column in self._columns:
            values += column(moment)
        self._row.pack_into(memory, offset, *values)
