"""Distributions as quantile tables over a standard normal score.

A draw is ``table(z)`` with z standard normal. Correlations (a program's own level, output against
result size, turns against growth) are then correlations of the scores, a Gaussian copula, and leave
every marginal distribution as it was fitted.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_Z_MAX = 5.0
_Z_STEPS = 400
_Z = np.linspace(-_Z_MAX, _Z_MAX, _Z_STEPS + 1)
_SCORES: list[float] = _Z.tolist()
_U = np.array([0.5 * (1.0 + math.erf(z / math.sqrt(2.0))) for z in _Z])
_LOG_STEPS = 4000


class QuantileBank:
    """Several distributions on a common grid of scores, so that one call draws from all of them."""

    def __init__(self, tables: Sequence[FloatArray]) -> None:
        self._log_values = np.stack(tables)

    def __call__(self, rows: NDArray[np.int64], z: FloatArray) -> FloatArray:
        """Values of distribution ``rows[i]`` at score ``z[i]``; shape (n,)."""
        position = (np.clip(z, -_Z_MAX, _Z_MAX) + _Z_MAX) * (_Z_STEPS / (2 * _Z_MAX))
        index = np.minimum(position.astype(np.int64), _Z_STEPS - 1)
        rest = position - index
        low = self._log_values[rows, index]
        return np.asarray(np.exp(low + rest * (self._log_values[rows, index + 1] - low)))


class QuantileTable:
    """One positive distribution."""

    def __init__(self, log_values: FloatArray) -> None:
        self.log_values = log_values
        self._values: list[float] = log_values.tolist()

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> QuantileTable:
        """Build from a parameter table.

        ``lognormal_mixture``: lists ``w``, ``mu``, ``sigma`` (natural logarithms).
        ``gamma``: ``shape``, ``scale``. ``constant``: ``value``.
        An optional ``cap`` truncates the distribution: values above it do not occur.

        Raises:
            ValueError: if the family is unknown.
        """
        family = parameters["family"]
        if family == "constant":
            return cls(np.full(_Z_STEPS + 1, math.log(parameters["value"])))
        if family == "lognormal_mixture":
            grid, density = _lognormal_mixture_density(parameters)
        elif family == "gamma":
            grid, density = _gamma_density(parameters)
        else:
            raise ValueError(f"family is {family!r}; allowed: lognormal_mixture, gamma, constant")
        cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
        return cls(np.interp(_U, cumulative / cumulative[-1], grid))

    def __call__(self, z: FloatArray) -> FloatArray:
        """Values at the scores ``z``, same shape."""
        return np.asarray(np.exp(np.interp(z, _Z, self.log_values)))

    def at(self, z: float) -> float:
        """The value at one score; to the last bit what ``numpy.interp`` makes of it."""
        values, left = self._values, bisect_right(_SCORES, z) - 1
        if left < 0:
            return math.exp(values[0])
        if left == _Z_STEPS or _SCORES[left] == z:
            return math.exp(values[left])
        low = values[left]
        slope = (values[left + 1] - low) / (_SCORES[left + 1] - _SCORES[left])
        return math.exp(slope * (z - _SCORES[left]) + low)

    @property
    def mean(self) -> float:
        """Mean of the distribution (by integration over the scores)."""
        return _integrate(np.exp(self.log_values))

    @cached_property
    def weighted_score(self) -> float:
        """Mean score when each draw counts by its value.

        What a long program contributes to a pool of turns is counted once per turn, so a level that
        goes with the number of turns is shifted in the pool by this much per unit of correlation.
        """
        return _integrate(np.exp(self.log_values) * _Z) / self.mean


def _integrate(values: FloatArray) -> float:
    return float(np.sum(np.diff(_U) * (values[1:] + values[:-1]) / 2))


def _log_grid(low: float, high: float, parameters: Mapping[str, Any]) -> FloatArray:
    cap = parameters.get("cap")
    return np.linspace(low, high if cap is None else min(high, math.log(cap)), _LOG_STEPS + 1)


def _lognormal_mixture_density(parameters: Mapping[str, Any]) -> tuple[FloatArray, FloatArray]:
    w, mu, sigma = (np.asarray(parameters[name], dtype=float) for name in ("w", "mu", "sigma"))
    grid = _log_grid(float(np.min(mu - 6 * sigma)), float(np.max(mu + 6 * sigma)), parameters)
    scaled = (grid[:, None] - mu) / sigma
    return grid, np.asarray((w / sigma * np.exp(-0.5 * scaled**2)).sum(axis=1))


def _gamma_density(parameters: Mapping[str, Any]) -> tuple[FloatArray, FloatArray]:
    """Density of log x; its left tail falls as ``exp(shape u)``."""
    shape, scale = float(parameters["shape"]), float(parameters["scale"])
    low = math.log(scale) - 20.0 / shape
    grid = _log_grid(low, math.log(scale * (shape + 40.0)), parameters)
    log_density = shape * grid - np.exp(grid) / scale
    return grid, np.exp(log_density - log_density.max())
