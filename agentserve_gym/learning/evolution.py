"""Evolution strategies: follow what perturbed weights cost, pair by pair.

Both episodes of a pair are the same programs on the same cluster, one with weights a random step
away from the present ones and one with weights the same step in the opposite direction (Salimans
et al., arXiv 1703.03864); the difference of their costs says how good that direction is. Costs are
whole episodes', so credit needs no discounting.

Unlike there, slopes are not means over pairs. Most of a pair's difference comes from a few things
that its cell's scores have in common, such as the gate's level, and these pull cells in opposite
directions: in a mean over all pairs that is noise, in which what tells cells apart drowns. So each
cell has slopes of its own, found by Bayesian linear regression over its recent pairs: they are
expected where its features are (``Scaled.moments``), and as large as the groups' slopes are found
to be (variance components, by the multiplicative updates of Zhou et al. 2019, J. Comput. Graph.
Stat. 28). What is followed is their mean over cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.baselines.learned.weights import LAYOUT
from agentserve_gym.learning.features import Scaled, Vector
from agentserve_gym.learning.recipe import Recipe

MOST_DIFFERENCE = 0.3
"""A greater difference of a pair's costs counts as this: one run that starves is one run."""
_MEMORY = 0.95
"""What a pair counts after another update, against new ones."""
_REMEMBERED_UPDATES = 60
_COMPONENT_ROUNDS = 30
_LEAST_NOISE = 0.01
"""Of what a cell's pairs differ by: luck is never nothing."""
_MOST_STEP = 0.3
_LAST_RATE = 0.1
_WIDE_SHARE, _LAST_SPREAD = 1 / 3, 0.2
"""Of the updates, those with steps as wide as the recipe says; and how wide the last ones are."""


class Evolution:
    """The present weights, and what earlier pairs say of where to go.

    Attributes:
        weights: float64, ``(SIZE,)``. ``updates``: made so far.
    """

    def __init__(self, recipe: Recipe, start: Sequence[float], scaled: Scaled) -> None:
        self._recipe = recipe
        self._scaled = scaled
        self._pairs: list[_Pairs] = []
        self.weights: Vector = np.array(start, dtype=np.float64)
        self.updates = 0

    def pairs(self) -> list[tuple[Vector, Vector]]:
        """The weights of each pair of the next update: a step one way, and the other way."""
        steps = self._spread() * self._directions() @ self._scaled.units
        return [(self.weights + step, self.weights - step) for step in steps]

    def update(self, cells: Sequence[int], costs: Sequence[tuple[float, float]]) -> None:
        """Learn from what the pairs cost.

        Args:
            cells: of each pair, by number. ``costs``: of both of its episodes.

        Raises:
            ValueError: for another number of pairs than the recipe's.
        """
        if not len(costs) == len(cells) == self._recipe.pairs:
            raise ValueError(f"costs of {len(costs)} pairs; allowed: {self._recipe.pairs}")
        differences = np.array([one - other for one, other in costs])
        bounded = np.clip(differences, -MOST_DIFFERENCE, MOST_DIFFERENCE)
        spread = self._spread()
        steps = 2.0 * spread * self._directions()
        self._pairs.append(_Pairs(np.array(cells), steps, bounded, spread))
        del self._pairs[:-_REMEMBERED_UPDATES]
        self.updates += 1
        step = np.clip(self._rate() * self.slope(), -_MOST_STEP, _MOST_STEP)
        self.weights = self.weights - step @ self._scaled.units

    def slope(self) -> Vector:
        """Of the cost along every direction, mean over the cells, ``(SIZE,)``."""
        cells = []
        now = self._pairs[-1].spread
        for number, moments in enumerate(self._scaled.moments):
            found = [
                (
                    pairs.steps[chosen],
                    pairs.differences[chosen],
                    _MEMORY**-age * (pairs.spread / now) ** 2,
                )
                for age, pairs in enumerate(reversed(self._pairs))
                for chosen in [pairs.cells == number]
                if chosen.any()
            ]
            if found:
                cells.append(_CellRegression(moments, *_stacked(found)))
        amplitudes = dict.fromkeys(LAYOUT, 1.0)
        for _ in range(_COMPONENT_ROUNDS):
            changes = [cell.improve(amplitudes) for cell in cells]
            for group in LAYOUT:
                explained = sum(change[group][0] for change in changes)
                expected = sum(change[group][1] for change in changes)
                if expected > 0.0:
                    amplitudes[group] *= float(np.sqrt(explained / expected))
        slopes = [cell.slope(amplitudes) for cell in cells]
        return np.asarray(np.sum(slopes, axis=0) / len(self._scaled.moments))

    def _spread(self) -> float:
        """Of the next update's steps: wide ones tell directions soon, but what they are good for is
        a landscape in which narrow valleys are filled."""
        done = (self.updates / self._recipe.updates - _WIDE_SHARE) / (1.0 - _WIDE_SHARE)
        return self._recipe.spread * (1.0 - (1.0 - _LAST_SPREAD) * max(done, 0.0))

    def _rate(self) -> float:
        """Falls with every update, in a straight line."""
        done = (self.updates - 1) / max(self._recipe.updates - 1, 1)
        return self._recipe.rate * (1.0 - (1.0 - _LAST_RATE) * min(done, 1.0))

    def _directions(self) -> Vector:
        """Of the next update, one a pair, ``(pairs, SIZE)``: the same ones however often asked."""
        draw = np.random.default_rng((self._recipe.seed, self.updates))
        return draw.standard_normal((self._recipe.pairs, len(self.weights)))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Of one update: each pair's cell, its step from one side to the other, what that costs, and
    how wide the steps are."""

    cells: NDArray[np.int64]
    steps: Vector
    differences: Vector
    spread: float


def _stacked(found: Sequence[tuple[Vector, Vector, float]]) -> tuple[Vector, Vector, Vector]:
    """Steps, differences, and how much more noise older and wider pairs are taken to have."""
    steps = np.concatenate([each for each, _, _ in found])
    differences = np.concatenate([each for _, each, _ in found])
    noise = np.concatenate([np.full(len(each), more) for _, each, more in found])
    return steps, differences, noise


class _CellRegression:
    """Differences of a cell's pairs as a sum of what each group's step brings, and luck."""

    def __init__(
        self, moments: dict[str, Vector], steps: Vector, differences: Vector, noise: Vector
    ) -> None:
        self._differences, self._shape = differences, noise
        self._noise = self._spread = float((differences**2).mean()) or 1.0
        self._towards: dict[str, Vector] = {}
        self._kernels: dict[str, Vector] = {}
        start = 0
        for group, names in LAYOUT.items():
            part = steps[:, start : start + len(names)]
            start += len(names)
            self._towards[group] = part @ moments[group]
            self._kernels[group] = self._spread * self._towards[group] @ part.T

    def improve(self, amplitudes: dict[str, float]) -> dict[str, tuple[float, float]]:
        """One round for the cell's luck; for each group how much of the differences it explains,
        and how much it would if its amplitude were right."""
        inverse = self._inverse(amplitudes)
        weighted = inverse @ self._differences
        explained = float(weighted**2 @ self._shape)
        self._noise *= float(np.sqrt(explained / float(np.diag(inverse) @ self._shape)))
        self._noise = max(self._noise, _LEAST_NOISE * self._spread)
        return {
            group: (float(weighted @ kernel @ weighted), float((inverse * kernel).sum()))
            for group, kernel in self._kernels.items()
        }

    def slope(self, amplitudes: dict[str, float]) -> Vector:
        """The cell's, along every direction."""
        weighted = self._inverse(amplitudes) @ self._differences
        return np.concatenate(
            [
                self._spread * amplitudes[group] * (weighted @ towards)
                for group, towards in self._towards.items()
            ]
        )

    def _inverse(self, amplitudes: dict[str, float]) -> Vector:
        covariance = np.diag(self._noise * self._shape)
        for group, kernel in self._kernels.items():
            covariance = covariance + amplitudes[group] * kernel
        return np.asarray(np.linalg.inv(covariance))
