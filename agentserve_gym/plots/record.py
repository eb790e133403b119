"""What a picture of a run needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.sim import ProgramStatus
from agentserve_gym.sim.recording import RunHistory, Stage
from agentserve_gym.sim.recording.history import PoolHistory


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run.

    Attributes:
        policy: its name, as given.
        report: ``Simulation.report()``.
        jct_s: JCT of every finished program, seconds.
        history: what happened over time, or ``None`` if it was not recorded.
    """

    policy: str
    report: Mapping[str, Any]
    jct_s: tuple[float, ...]
    history: RunHistory | None = None


def binned_mean(
    time_s: Sequence[float] | NDArray[np.float64],
    values: Sequence[float] | NDArray[np.float64],
    edges_s: NDArray[np.float64],
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


Blocks = Callable[[PoolHistory], Sequence[int]]
"""Samples of one kind of blocks."""


def share_of_tier(
    history: RunHistory, tier: str, blocks: Blocks, edges_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over each bin of the share of a tier's blocks, all its pools together, shape (bins,)."""
    pools = [pool for pool in history.pools if pool.tier == tier]
    capacity = sum(pool.capacity_blocks for pool in pools)
    total = np.zeros(len(edges_s) - 1)
    for pool in pools:
        total += binned_mean(pool.time_s, blocks(pool), edges_s)
    return total / capacity


_STAGES = {
    ProgramStatus.HELD: (Stage.HELD,),
    ProgramStatus.QUEUED: (Stage.QUEUE,),
    ProgramStatus.LOADING: (Stage.LOAD,),
    ProgramStatus.RUNNING: (Stage.PREFILL, Stage.DECODE),
    ProgramStatus.TOOL_GAP: (Stage.GAP, Stage.LEFT),
}


def programs_over_time(
    history: RunHistory, statuses: Collection[ProgramStatus] = tuple(_STAGES)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When the number of programs in any of some states changes, and what it is from then on."""
    stages = {stage for status in statuses for stage in _STAGES[status]}
    slices = [found for found in history.stages if found.stage in stages]
    times = np.array([found.start_s for found in slices] + [found.end_s for found in slices])
    steps = np.repeat([1.0, -1.0], len(slices))
    order = np.lexsort((steps, times))  # who leaves at an instant does so before who comes
    return times[order], np.cumsum(steps[order])
