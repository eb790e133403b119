"""What the features of learned parts look like in each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.baselines.learned.weights import LAYOUT

Vector = NDArray[np.float64]
Look = Mapping[str, tuple[list[float], list[float]]]
"""Of an episode or a cell: the mean and the variance of every group's features, for the groups that
decided anything there."""

CONSTANT = "one"
"""The feature that is always 1."""
_CLOCKS = {"ready": 3.0}
"""Features that are times, in their units: turns of a queue differ by so much."""
_LEAST_DEVIATION = 0.05
_WITHOUT_FEATURES = ("route", "pin", "rank")
"""Groups whose weights multiply nothing that is watched."""


class Watcher:
    """Sums up the features of every score that is computed."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, Vector, Vector]] = {}

    def __call__(self, group: str, features: Sequence[float]) -> None:
        seen = np.array(features)
        count, total, squares = self._sums.get(group, (0, 0.0 * seen, 0.0 * seen))
        self._sums[group] = (count + 1, total + seen, squares + seen**2)

    def look(self) -> dict[str, tuple[list[float], list[float]]]:
        """What was seen so far."""
        looks = {}
        for group, (count, total, squares) in self._sums.items():
            mean = total / count
            looks[group] = (mean.tolist(), np.maximum(squares / count - mean**2, 0.0).tolist())
        return looks


def pooled(looks: Sequence[Look]) -> Look:
    """Of several, each counting the same: the mean, and the variance within and between them."""
    found = {}
    for group in LAYOUT:
        kept = [look[group] for look in looks if group in look]
        if kept:
            means, variances = (np.array(part) for part in zip(*kept, strict=True))
            variance = variances.mean(axis=0) + means.var(axis=0)
            found[group] = (means.mean(axis=0).tolist(), variance.tolist())
    return found


@dataclass(frozen=True, slots=True)
class Scaled:
    """Directions along which steps change what is decided about as much.

    Attributes:
        units: a row for each direction: what a step of 1 along it adds to the weights,
            ``(SIZE, SIZE)``. The weight of a feature moves by so much per deviation of the feature,
            and the group's constant against it, so that the score's mean over all cells stays: the
            constant alone moves that.
        moments: for each cell, by group, how much steps along two directions change its scores
            together: the second moment of the scaled features, ``(n, n)``; 0 for a group that
            decides nothing there. Of groups without a constant only differences count.
    """

    units: Vector
    moments: list[dict[str, Vector]]


def scaled(looks: Sequence[Look], scales: Sequence[float]) -> Scaled:
    """From the look of each cell, and the scale of every weight."""
    rows = np.diag(np.array(scales))
    everywhere = pooled(looks)
    moments: list[dict[str, Vector]] = [{} for _ in looks]
    start = 0
    for group, names in LAYOUT.items():
        place = slice(start, start + len(names))
        start += len(names)
        mean, deviation = _frame(names, everywhere.get(group))
        constant = names.index(CONSTANT) if CONSTANT in names else None
        block = rows[place, place] / deviation[:, None]
        if constant is not None:
            block[:, constant] -= np.diag(block) * mean
        rows[place, place] = block
        for cell, look in zip(moments, looks, strict=True):
            if group in _WITHOUT_FEATURES:
                cell[group] = np.eye(len(names))
            elif group in look:
                cell[group] = _moment(look[group], mean, deviation, constant)
            else:
                cell[group] = np.zeros((len(names), len(names)))
    return Scaled(rows, moments)


def _frame(
    names: Sequence[str], look: tuple[list[float], list[float]] | None
) -> tuple[Vector, Vector]:
    """Of each feature the mean, 0 for the constant, and the deviation, 1 for what is no feature."""
    if look is None:
        return np.zeros(len(names)), np.ones(len(names))
    mean, variance = (np.array(part) for part in look)
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    for place, name in enumerate(names):
        if name == CONSTANT:
            mean[place], deviation[place] = 0.0, 1.0
        elif name in _CLOCKS:
            deviation[place] = _CLOCKS[name]
    return mean, deviation


def _moment(
    look: tuple[list[float], list[float]], mean: Vector, deviation: Vector, constant: int | None
) -> Vector:
    of_cell, variance = (np.array(part) for part in look)
    spread = np.minimum(variance / deviation**2, 1.0)  # clocks vary without bound
    if constant is None:
        return np.diag(spread)
    offset = (of_cell - mean) / deviation
    offset[constant], spread[constant] = 1.0, 0.0
    return np.asarray(np.outer(offset, offset) + np.diag(spread))
