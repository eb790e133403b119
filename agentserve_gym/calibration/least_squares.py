"""A small robust least-squares solver for non-negative coefficients (Levenberg-Marquardt).

Kept here so that fitting needs nothing but numpy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agentserve_gym.hardware.profile_tables import Array

Residuals = Callable[[Array], Array]


def fit_nonnegative(
    residuals: Residuals, start: Array, *, outlier: float = 0.02, iterations: int = 200
) -> Array:
    """Minimize a robust sum of squares over coefficients >= 0.

    Args:
        residuals: relative errors of all points for given coefficients.
        start: first guess, >= 0; scales the search, so give the right order of magnitude.
        outlier: residuals well above it count linearly, not squared.

    Returns:
        The best coefficients found.
    """
    scale = np.where(start > 0, start, 1.0)
    point = start / scale
    damping = 1e-2

    def weighted(at: Array) -> Array:
        errors = residuals(at * scale)
        squared = (errors / outlier) ** 2
        return np.asarray(np.sign(errors) * outlier * np.sqrt(2 * (np.sqrt(1 + squared) - 1)))

    errors = weighted(point)
    cost = float(errors @ errors)
    for _ in range(iterations):
        jacobian = _jacobian(weighted, point, errors)
        gradient = jacobian.T @ errors
        free = (point > 0) | (gradient < 0)  # at the bound, only inwards
        curvature = jacobian[:, free].T @ jacobian[:, free]
        while damping < 1e9:
            damped = curvature + damping * np.diag(np.diag(curvature) + 1e-12)
            moved = point.copy()
            moved[free] = np.maximum(point[free] - np.linalg.solve(damped, gradient[free]), 0.0)
            trial = weighted(moved)
            trial_cost = float(trial @ trial)
            if trial_cost < cost:
                break
            damping *= 4
        else:
            break
        converged = cost - trial_cost < 1e-7 * cost
        point, errors, cost, damping = moved, trial, trial_cost, max(damping / 5, 1e-9)
        if converged:
            break
    return np.asarray(point * scale)


def _jacobian(function: Residuals, point: Array, value: Array) -> Array:
    columns = []
    for index in range(len(point)):
        delta = 1e-6 * max(abs(point[index]), 1e-3)
        moved = point.copy()
        moved[index] += delta
        columns.append((function(moved) - value) / delta)
    return np.stack(columns, axis=1)
