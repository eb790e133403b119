"""The comparison picture: distributions on top, one column of time series a policy below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agentserve_gym.plots import panels, style
from agentserve_gym.plots.record import RunRecord
from agentserve_gym.report import palette

_BINS = 400


def draw_comparison(runs: Sequence[RunRecord], title: str, subtitle: str = "") -> bytes:
    """A picture of runs of one scenario under several policies.

    Args:
        runs: at least one, each with a history.
        title: above the picture.
        subtitle: below the title.

    Returns:
        A PNG file's bytes, the same for the same runs.

    Raises:
        ValueError: if there is no run, or one has no history, or one without a turn.
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    _require_histories(runs)
    columns = len(runs)
    figure = style.new_figure(max(13.0, 6.2 * columns), 11.0)
    below = style.heading(figure, 0.985, title, fontsize=16, fontweight="bold", color=palette.INK)
    below = style.heading(figure, below - 0.012, subtitle, fontsize=10, color=palette.FAINT)
    top, bottom = figure.add_gridspec(
        2, 1, height_ratios=(1.0, 1.75), left=0.055, right=0.985, top=below - 0.041, bottom=0.06,
        hspace=0.34,
    )  # fmt: skip
    left, right = top.subgridspec(1, 2, wspace=0.22)
    panels.jct_distribution(figure.add_subplot(left), runs)
    panels.time_by_phase(figure.add_subplot(right), runs)
    _draw_time_series(figure, bottom.subgridspec(3, columns, hspace=0.52, wspace=0.13), runs)
    return style.png(figure)


def _draw_time_series(figure: Any, grid: Any, runs: Sequence[RunRecord]) -> None:
    """Three rows over one common time axis: HBM, lower tiers, programs by state."""
    end_s = max(run.history.end_s for run in runs if run.history is not None)
    edges_s = np.linspace(0.0, end_s, _BINS + 1)
    peak = max(panels.peak_programs(run.history) for run in runs if run.history is not None)
    for column, run in enumerate(runs):
        history = run.history
        assert history is not None  # checked before drawing
        hbm, lower, states = (figure.add_subplot(grid[row, column]) for row in range(3))
        panels.hbm_occupancy(hbm, run, history, edges_s)
        panels.lower_tiers(lower, run, history, edges_s)
        panels.programs_by_state(states, history, edges_s)
        states.set_ylim(0, peak * 1.05)
        if column == len(runs) - 1:
            for axes in (hbm, lower, states):
                style.legend(
                    axes, loc="upper right", ncol=5, bbox_to_anchor=(1.012, 1.27), columnspacing=1.2
                )


def _require_histories(runs: Sequence[RunRecord]) -> None:
    if not runs:
        raise ValueError("runs is empty; at least 1 run is needed for a picture")
    for run in runs:
        if run.history is None or not run.history.stages:
            raise ValueError(
                f"run {run.policy!r} has no history: record it, and let at least one turn run"
            )
