"""Evolution strategies: follow what perturbed weights cost, pair by pair.

Both episodes of a pair are the same programs on the same cluster, one with weights a random step
away from the present ones and one with weights the same step in the opposite direction (Salimans
et al., arXiv 1703.03864); the difference of their costs says how good that direction is. Costs are
whole episodes', so credit needs no discounting and chaos averages out over pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.baselines.learned.weights import LAYOUT
from agentserve_gym.learning.features import CONSTANT, looks
from agentserve_gym.learning.recipe import Recipe

Vector = NDArray[np.float64]

MOST_DIFFERENCE = 0.3
"""A greater difference of a pair's costs counts as this: one run that starves is one run."""
_MEMORY = 0.9
"""Of the mean slope, from update to update."""
_THRESHOLD, _MOST_STEP = 2.0, 3.0
_LAST_RATE = 0.1


class Evolution:
    """The present weights, and what earlier pairs say of where to go.

    Directions are drawn, and slopes measured, in units in which a step along any of them changes
    what is decided about as much (``units``), so that noise is the same along all. What a slope
    exceeds that by says how far to go; one within it moves nothing (soft thresholding, Donoho
    1995). A step of each weight's own size, as Adam's, would be a random walk along all that do not
    matter, which costs more than the others gain.

    Attributes:
        weights: float64, ``(SIZE,)``. ``updates``: made so far.
    """

    def __init__(self, recipe: Recipe, start: Sequence[float]) -> None:
        self._recipe = recipe
        self._units = units(recipe)
        self._slope = np.zeros(len(start))
        self._noise = 0.0
        self.weights: Vector = np.array(start, dtype=np.float64)
        self.updates = 0

    def pairs(self) -> list[tuple[Vector, Vector]]:
        """The weights of each pair of the next update: a step one way, and the other way."""
        steps = self._recipe.spread * self._directions() @ self._units
        return [(self.weights + step, self.weights - step) for step in steps]

    def update(self, costs: Sequence[tuple[float, float]]) -> None:
        """Learn from what the pairs cost.

        Raises:
            ValueError: for another number of pairs than the recipe's.
        """
        if len(costs) != self._recipe.pairs:
            raise ValueError(f"costs of {len(costs)} pairs; allowed: {self._recipe.pairs}")
        differences = np.array([one - other for one, other in costs])
        bounded = np.clip(differences, -MOST_DIFFERENCE, MOST_DIFFERENCE)
        step = 2.0 * self._recipe.spread
        self._remember(
            bounded @ self._directions() / (step * len(costs)),
            float((bounded**2).mean()) / (step**2 * len(costs)),
        )
        self.updates += 1
        self.weights = self.weights - self._rate() * self._signal() @ self._units

    def _remember(self, slope: Vector, variance: float) -> None:
        """A mean over updates, and the variance that it would have if nothing mattered."""
        self._slope = _MEMORY * self._slope + (1.0 - _MEMORY) * slope
        self._noise = _MEMORY**2 * self._noise + (1.0 - _MEMORY) ** 2 * variance

    def _signal(self) -> Vector:
        """The slope beyond its noise, in standard deviations of that."""
        if not self._noise:  # all pairs cost the same
            return np.zeros_like(self._slope)
        found = self._slope / np.sqrt(self._noise)
        beyond = np.clip(np.abs(found) - _THRESHOLD, 0.0, _MOST_STEP)
        return np.asarray(np.sign(found) * beyond)

    def _rate(self) -> float:
        """Falls with every update, in a straight line."""
        done = (self.updates - 1) / max(self._recipe.updates - 1, 1)
        return self._recipe.rate * (1.0 - (1.0 - _LAST_RATE) * min(done, 1.0))

    def _directions(self) -> Vector:
        """Of the next update, one a pair, ``(pairs, SIZE)``: the same ones however often asked."""
        draw = np.random.default_rng((self._recipe.seed, self.updates))
        return draw.standard_normal((self._recipe.pairs, len(self._units)))


def units(recipe: Recipe) -> Vector:
    """A row for each direction: what a step of 1 along it adds to the weights, ``(SIZE, SIZE)``.

    The weight of a feature moves by so much per deviation of the feature, and the group's constant
    against it, so that the score's mean over the benchmark stays: the constant alone moves that.
    """
    rows = np.diag(recipe.scale_vector())
    start = 0
    for group, names in LAYOUT.items():
        constant = start + names.index(CONSTANT) if CONSTANT in names else None
        for place, name in enumerate(names, start):
            look = looks(group, name)
            if look is None or place == constant:
                continue
            rows[place] /= look.deviation
            if constant is not None:
                rows[place, constant] = -rows[place, place] * look.mean
        start += len(names)
    return rows
