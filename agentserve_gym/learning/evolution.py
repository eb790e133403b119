"""Evolution strategies: follow what perturbed weights cost, pair by pair.

Both episodes of a pair are the same programs on the same cluster, one with weights a random step
away from the present ones and one with weights the same step in the opposite direction (Salimans
et al., arXiv 1703.03864); the difference of their costs says how good that direction is. Costs are
whole episodes', so credit needs no discounting and chaos averages out over pairs. Steps are Adam's
(Kingma and Ba, arXiv 1412.6980).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.learning.recipe import Recipe

Vector = NDArray[np.float64]

MOST_DIFFERENCE = 0.3
"""A greater difference of a pair's costs counts as this: one run that starves is one run."""
_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.8, 0.98, 1e-8
_LAST_RATE = 0.1


class Evolution:
    """The present weights, and what earlier pairs say of where to go.

    Attributes:
        weights: float64, ``(SIZE,)``. ``updates``: made so far.
    """

    def __init__(self, recipe: Recipe, start: Sequence[float]) -> None:
        self._recipe = recipe
        self._scales = np.array(recipe.scale_vector())
        self._mean = np.zeros(len(start))
        self._square = np.zeros(len(start))
        self.weights: Vector = np.array(start, dtype=np.float64)
        self.updates = 0

    def pairs(self) -> list[tuple[Vector, Vector]]:
        """The weights of each pair of the next update: a step one way, and the other way."""
        steps = self._recipe.spread * self._scales * self._directions()
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
        slope = bounded @ self._directions() / (2.0 * self._recipe.spread * len(costs))
        self.updates += 1
        self._mean += (1.0 - _MEAN_DECAY) * (slope - self._mean)
        self._square += (1.0 - _SQUARE_DECAY) * (slope**2 - self._square)
        mean = self._mean / (1.0 - _MEAN_DECAY**self.updates)
        square = self._square / (1.0 - _SQUARE_DECAY**self.updates)
        step = mean / (np.sqrt(square) + _EPSILON)
        self.weights = self.weights - self._rate() * self._scales * step

    def _rate(self) -> float:
        """Falls with every update, in a straight line."""
        done = (self.updates - 1) / max(self._recipe.updates - 1, 1)
        return self._recipe.rate * (1.0 - (1.0 - _LAST_RATE) * min(done, 1.0))

    def _directions(self) -> Vector:
        """Of the next update, one a pair, ``(pairs, SIZE)``: the same ones however often asked."""
        draw = np.random.default_rng((self._recipe.seed, self.updates))
        return draw.standard_normal((self._recipe.pairs, len(self._scales)))
