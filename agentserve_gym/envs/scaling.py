"""From raw numbers to observations, for one simulation or many at once.

A row of raw numbers is what one simulation's ``FeatureWriter`` packs: the features that occur once,
then the dynamic ones of each instance. All rows lie in one block of memory and are scaled by the
same few array operations, whose cost hardly depends on how many rows there are: the numbers are
brought into an order in which all with a logarithmic scale are neighbours, scaled, and taken from
there to where the layout wants them. What never changes within an episode, and padding, is scaled
once and only copied.
"""

from __future__ import annotations

from math import log1p, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.features import Feature, ObservationLayout


class Scaling:
    """Raw numbers of simulations, a row each, and the observations that they make.

    Attributes:
        memory: float64, a row of ``width`` raw numbers after the other; whoever observes packs
            into it.
        instances: of each simulation's cluster.
        width: raw numbers per row.
        row_bytes: bytes per row.
    """

    def __init__(
        self, layout: ObservationLayout, instances: int, shape: tuple[int, ...] = ()
    ) -> None:
        """Prepare for clusters of ``instances`` instances, of at most ``layout.max_instances``;
        ``shape`` is ``(N,)`` for ``N`` simulations and empty for one that stands alone."""
        self.instances = instances
        self._layout, self._shape = layout, shape
        rows = prod(shape)
        dynamic, static = _columns(layout, instances)
        self.width = len(dynamic)
        self.row_bytes = 8 * self.width
        self.memory = bytearray(rows * self.row_bytes)
        self._raw = np.frombuffer(self.memory)

        slope, factor, is_log = _rules([layout.features[column] for column in dynamic])
        first = np.arange(rows)[:, None] * self.width
        logs, others = np.flatnonzero(is_log), np.flatnonzero(~is_log)
        self._order = np.concatenate([(first + logs).ravel(), (first + others).ravel()])
        self._slope = slope[self._order % self.width]
        self._factor = np.tile(factor[logs], rows)

        # The scaled dynamic numbers, then the static ones of every row, then the zero of paddings.
        count = rows * self.width
        self._final = np.zeros(count + rows * len(static) + 1)
        self._work = self._final[:count]
        self._logs = self._work[: rows * len(logs)]
        self._static = self._final[count:-1].reshape(rows, len(static))
        self._ones = np.ones(count)  # an array of the same length is quicker than a number
        self._source = np.full((rows, layout.size), len(self._final) - 1)
        place = np.empty(count, np.intp)
        place[self._order] = np.arange(count)
        self._source[:, dynamic] = place.reshape(rows, self.width)
        self._source[:, static] = count + np.arange(rows * len(static)).reshape(rows, len(static))
        self._source.shape = (*shape, layout.size)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "arguments": (self._layout, self.instances, self._shape),
            "memory": bytes(self.memory),
            "static": self._static.copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["arguments"])  # type: ignore[misc]
        self.memory[:] = state["memory"]
        self._static[:] = state["static"]

    def write_static(self, row: int, values: list[float]) -> None:
        """Set what is constant in an episode: the static features of each instance, raw."""
        slope, factor, is_log = _rules(list(self._layout.static) * self.instances)
        scaled = np.array(values) * slope
        np.copyto(scaled, np.log1p(scaled), where=is_log)
        self._static[row] = np.minimum(scaled * factor, 1.0)

    def observe(self) -> NDArray[np.float32]:
        """A new array of shape ``(*shape, layout.size)`` from what the memory holds."""
        work, logs = self._work, self._logs
        self._raw.take(self._order, out=work, mode="clip")
        np.multiply(work, self._slope, work)
        np.log1p(logs, logs)
        np.multiply(logs, self._factor, logs)
        np.minimum(work, self._ones, out=work)
        observations: NDArray[np.float32] = self._final[self._source].astype(np.float32)
        return observations


def _columns(layout: ObservationLayout, instances: int) -> tuple[list[int], list[int]]:
    """Where a row's raw numbers, in order, lie in the observation; and where static ones do."""
    dynamic = list(range(layout.instances_start))
    static: list[int] = []
    width, changing = len(layout.row), len(layout.dynamic)
    for number in range(instances):
        start = layout.instances_start + number * width
        dynamic += range(start, start + changing)
        static += range(start + changing, start + width)
    return dynamic, static


def _rules(
    features: list[Feature],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Per feature: what to multiply by, what to multiply the logarithm by, whether there is one."""
    is_log = np.array([feature.scale == "log" for feature in features])
    slope = np.array([1.0 / (f.unit if f.scale == "log" else f.full) for f in features])
    factor = np.array([1.0 / log1p(f.full / f.unit) if f.scale == "log" else 1.0 for f in features])
    return slope, factor, is_log
