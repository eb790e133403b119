"""Observations: what a live router knows at a decision, as numbers in [0, 1].

A ``FeatureWriter`` packs raw numbers, ``Scaling`` scales those of one or many simulations by a
handful of array operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.features import FeatureWriter, ObservationLayout
from agentserve_gym.envs.scaling import Scaling
from agentserve_gym.sim import ClusterView, Decision


class ObservationBuilder:
    """Observations of one cluster.

    Attributes:
        layout: where each feature lies.
        writer: packs the raw numbers.
    """

    def __init__(
        self, max_instances: int, pin_ttls_s: Sequence[float], tiers: Sequence[str]
    ) -> None:
        """Lay out observations with ``max_instances`` rows, shares for these pin TTLs, and room for
        these lower tiers; those that a cluster lacks are zero."""
        self.layout = ObservationLayout(max_instances, pin_ttls_s, tiers)
        self.writer = FeatureWriter(self.layout)
        self._scaling = Scaling(self.layout, max_instances)

    def __getstate__(self) -> dict[str, Any]:
        layout = self.layout
        return {
            "max_instances": layout.max_instances,
            "pin_ttls_s": layout.pin_ttls_s,
            "tiers": layout.tiers,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay out anew: whoever copies or unpickles a builder attaches it before use."""
        self.__init__(**state)  # type: ignore[misc]

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster: write what never changes within it."""
        self.writer.attach(cluster)
        if self._scaling.instances != len(cluster.instances):
            self._scaling = Scaling(self.layout, len(cluster.instances))
        self._scaling.write_static(0, self.writer.static_values())

    def write(self, decision: Decision | None) -> NDArray[np.float32]:
        """Observe a decision, or the cluster when nothing is asked (any more).

        Returns:
            A new float32 array of shape ``(layout.size,)``.
        """
        self.writer.write(decision, self._scaling.memory, 0)
        return self._scaling.observe()
