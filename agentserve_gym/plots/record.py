"""What a picture of a run needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.sim.timeline import Timeline


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run.

    Attributes:
        policy: its name, as given.
        report: ``Simulation.report()``.
        jct_s: JCT of every finished program, seconds.
        timeline: samples over time, or ``None`` if none were kept.
    """

    policy: str
    report: Mapping[str, Any]
    jct_s: tuple[float, ...]
    timeline: Timeline | None = None


def binned_mean(
    time_s: Sequence[float], values: Sequence[float], edges_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over each bin of a quantity that holds each sampled value until the next sample.

    Args:
        time_s: sample times, non-decreasing, at least one.
        values: one per sample; 0 before the first, the last value lasts for ever.
        edges_s: bin edges, increasing, shape (bins + 1,), the first at least 0.

    Returns:
        Shape (bins,).
    """
    times = np.concatenate(([0.0], np.asarray(time_s, dtype=np.float64)))
    levels = np.concatenate(([0.0], np.asarray(values, dtype=np.float64)))
    integral = np.concatenate(([0.0], np.cumsum(np.diff(times) * levels[:-1])))
    last = np.clip(np.searchsorted(times, edges_s, side="right") - 1, 0, None)
    at_edges = integral[last] + (edges_s - times[last]) * levels[last]
    mean: NDArray[np.float64] = np.diff(at_edges) / np.diff(edges_s)
    return mean
