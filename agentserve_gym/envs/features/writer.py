"""Packs the raw numbers of one cluster's observations."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from agentserve_gym.envs.features.feature import Feature
from agentserve_gym.envs.features.formulas import together
from agentserve_gym.envs.features.layout import ObservationLayout
from agentserve_gym.envs.features.moment import Moment
from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.views import ClusterView

_ALWAYS = "global"
"""The group that is computed when nothing is asked, too."""


class FeatureWriter:
    """Packs the raw numbers of one cluster's observations, as float64, in the order of the layout
    but for what is constant in an episode."""

    def __init__(self, layout: ObservationLayout) -> None:
        row = _formulas(layout.dynamic)
        groups = layout.groups
        once = tuple(text for group in groups for text in _formulas(groups[group]))
        blank = tuple(
            text if group == _ALWAYS else "0.0"
            for group in groups
            for text in _formulas(groups[group])
        )
        self._asked = together(once, row)
        self._unasked = together(blank, row)
        self._static = together((), _formulas(layout.static))
        self._once = len(once)
        self._per_instance = len(row)
        self._moment = Moment(layout.pin_ttls_s, layout.tiers)
        self._row = Struct("")

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster."""
        self._moment.attach(cluster)
        self._row = Struct(f"{self._once + self._per_instance * len(cluster.instances)}d")

    def static_values(self) -> list[float]:
        """Raw static features of each instance, one instance after the other."""
        return self._static(self._moment)

    def write(self, decision: Decision | None, memory: bytearray, offset: int) -> None:
        """Pack what a decision shows, ``offset`` bytes into ``memory``; without a decision, what
        the cluster shows when nothing is asked (any more)."""
        moment = self._moment
        moment.show(decision)
        values = self._unasked(moment) if decision is None else self._asked(moment)
        self._row.pack_into(memory, offset, *values)


def _formulas(features: Sequence[Feature]) -> tuple[str, ...]:
    return tuple(feature.formula for feature in features)
