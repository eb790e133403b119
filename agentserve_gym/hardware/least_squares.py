"""A small robust least-squares solver for non-negative coefficients (Levenberg-Marquardt).

Kept here so that fitting needs nothing but numpy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .profile_tables import Array

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
    root = np.sqrt(start / scale)  # squares of free variables cannot become negative
    damping = 1e-2

    def weighted(point: Array) -> Array:
        errors = residuals(point**2 * scale)
        squared = (errors / outlier) ** 2
        return np.asarray(np.sign(errors) * outlier * np.sqrt(2 * (np.sqrt(1 + squared) - 1)))

    errors = weighted(root)
    cost = float(errors @ errors)
    for _ in range(iterations):
        jacobian = _jacobian(weighted, root, errors)
        gradient = jacobian.T @ errors
        curvature = jacobian.T @ jacobian
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature) + 1e-12), -gradient)
        trial = weighted(root + step)
        trial_cost = float(trial @ trial)
        if trial_cost < cost:
            converged = cost - trial_cost < 1e-9 * cost
            root, errors, cost, damping = root + step, trial, trial_cost, max(damping / 3, 1e-9)
            if converged:
                break
        else:
            damping *= 4
            if damping > 1e9:
                break
    return np.asarray(root**2 * scale)


def _jacobian(function: Residuals, point: Array, value: Array) -> Array:
    columns = []
    for index in range(len(point)):
        delta = 1e-6 * max(abs(point[index]), 1e-3)
        moved = point.copy()
        moved[index] += delta
        columns.append((function(moved) - value) / delta)
    return np.stack(columns, axis=1)
