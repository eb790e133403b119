"""The parts of a picture; each fills one matplotlib axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.plots import style
from agentserve_gym.plots.record import (
    RunRecord,
    binned_mean,
    programs_over_time,
    share_of_tier,
)
from agentserve_gym.report import palette
from agentserve_gym.sim.recording import RunHistory

Edges = NDArray[np.float64]

# Of a policy's name: beside a bar, and above a column.
_LONGEST_LABEL = 24
_LONGEST_TITLE = 50


def jct_distribution(axes: Any, runs: Sequence[RunRecord]) -> None:
    """Share of programs done within a time, one line a policy, medians marked."""
    style.tidy(axes, "How long programs take (JCT)")
    for run, colour in zip(runs, _colours(runs), strict=True):
        jct_s = np.sort(np.asarray(run.jct_s, dtype=np.float64))
        if not len(jct_s):
            continue
        share = np.arange(1, len(jct_s) + 1) / len(jct_s)
        summary = run.report["jct_s"]
        label = (
            f"{_short(run.policy, _LONGEST_LABEL)}: mean {style.duration(summary['mean'])}, "
            f"p50 {style.duration(summary['p50'])}, p99 {style.duration(summary['p99'])}"
        )
        axes.step(jct_s, share, where="post", color=colour, linewidth=2.2, label=label)
        axes.plot(summary["p50"], 0.5, "o", color=colour, markersize=6)
    axes.plot([], [], "o", color=palette.FAINT, markersize=6, label="median program (p50)")
    axes.set_xscale("log")
    axes.set_xlim(*_jct_limits(runs))
    style.log_time_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("programs done", fontsize=9, color=palette.INK)
    style.legend(axes, loc="best")


def time_by_phase(axes: Any, runs: Sequence[RunRecord]) -> None:
    """Mean seconds of a program by phase, tool gaps aside; one bar a policy."""
    style.tidy(axes, "Where a program's time goes, tool gaps aside")
    axes.grid(axis="y", visible=False)
    rows = range(len(runs))
    left = np.zeros(len(runs))
    for phase, colour in style.PHASE_COLOURS.items():
        seconds = np.array([_mean_phase_s(run, phase) for run in runs])
        label = style.PHASE_LABELS[phase]
        axes.barh(rows, seconds, left=left, color=colour, label=label, height=0.5)
        left += seconds
    axes.set_yticks(rows, [_short(run.policy, _LONGEST_LABEL) for run in runs])
    axes.set_xlim(0, max(float(left.max()) * 1.14, 1e-9))
    for row, total in enumerate(left):
        axes.text(
            total, row, f"  {style.duration(total)}", va="center", fontsize=9, color=palette.INK
        )
    axes.set_ylim(len(runs) - 0.4, -0.6)
    style.time_axis(axes.xaxis, axes.get_xlim()[1])
    style.legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=4, columnspacing=1.2)


def hbm_occupancy(axes: Any, run: RunRecord, history: RunHistory, edges_s: Edges) -> None:
    """HBM of all instances over time: in use, pinned, cached."""
    report = run.report
    name = _short(run.policy, _LONGEST_TITLE)
    style.tidy(axes, f"{name}\nHBM (hit rate {_hit_rate(report, 'hbm')})")
    held = share_of_tier(history, "hbm", lambda pool: pool.held_blocks, edges_s)
    pinned = share_of_tier(history, "hbm", lambda pool: pool.pinned_blocks, edges_s)
    used = share_of_tier(history, "hbm", lambda pool: pool.used_blocks, edges_s)
    bands = {"in use": held - pinned, "pinned": pinned, "cached": used - held}
    _stack(axes, edges_s, list(bands.values()), list(style.HBM_COLOURS.values()), list(bands))
    _share_of_tier(axes, edges_s)


def lower_tiers(axes: Any, run: RunRecord, history: RunHistory, edges_s: Edges) -> None:
    """Occupancy of the lower tiers over time."""
    tiers = list(run.report["hit_rate"])[1:]
    rates = [f"{tier.upper()} (hit rate {_hit_rate(run.report, tier)})" for tier in tiers]
    style.tidy(axes, ", ".join(rates) or "No lower tier")
    middle = (edges_s[:-1] + edges_s[1:]) / 2
    unused = True
    for number, tier in enumerate(tiers):
        colour = style.TIER_COLOURS[number % len(style.TIER_COLOURS)]
        share = share_of_tier(history, tier, lambda pool: pool.used_blocks, edges_s)
        unused = unused and not share.any()
        axes.fill_between(middle, share, color=colour, alpha=0.18, linewidth=0)
        axes.plot(middle, share, color=colour, linewidth=1.8, label=tier.upper())
    if unused:
        axes.text(
            0.5,
            0.5,
            "unused",
            transform=axes.transAxes,
            ha="center",
            color=palette.FAINT,
            fontsize=11,
        )
    _share_of_tier(axes, edges_s)


def programs_by_state(axes: Any, history: RunHistory, edges_s: Edges) -> None:
    """Live programs over time, by what they do."""
    style.tidy(axes, "Programs")
    bands = {
        state: binned_mean(*programs_over_time(history, (state,)), edges_s)
        for state in style.STATUS_COLOURS
    }
    labels = list(style.STATUS_LABELS.values())
    _stack(axes, edges_s, list(bands.values()), list(style.STATUS_COLOURS.values()), labels)


def peak_programs(history: RunHistory) -> float:
    """Most live programs at once, for a common scale."""
    _, counts = programs_over_time(history)
    return float(counts.max(initial=0.0))


def _stack(
    axes: Any, edges_s: Edges, bands: list[Any], colours: list[str], names: list[str]
) -> None:
    middle = (edges_s[:-1] + edges_s[1:]) / 2
    if bands:
        axes.stackplot(middle, *bands, colors=colours, labels=names, linewidth=0)
    _over_time(axes, edges_s)


def _share_of_tier(axes: Any, edges_s: Edges) -> None:
    axes.set_ylim(0, 1.04)
    axes.yaxis.set_major_formatter(_percent)
    _over_time(axes, edges_s)


def _over_time(axes: Any, edges_s: Edges) -> None:
    axes.set_xlim(edges_s[0], edges_s[-1])
    style.time_axis(axes.xaxis, edges_s[-1])


def _jct_limits(runs: Sequence[RunRecord]) -> tuple[float, float]:
    """From a little below the 2nd percentile of all runs to a little above the longest."""
    jct_s = np.concatenate([np.asarray(run.jct_s, dtype=np.float64) for run in runs])
    if not len(jct_s):
        return 1.0, 10.0
    return max(float(np.percentile(jct_s, 2)) * 0.8, 1e-6), float(jct_s.max()) * 1.15


def _percent(value: float, _position: int) -> str:
    return f"{value:.0%}"


def _mean_phase_s(run: RunRecord, phase: str) -> float:
    return float(run.report["phase_s"][phase]) / max(int(run.report["programs"]), 1)


def _short(policy: str, longest: int) -> str:
    """A policy's name, cut where it would run into its neighbour."""
    return policy if len(policy) <= longest else f"{policy[: longest - 1]}…"


def _hit_rate(report: Any, tier: str) -> str:
    return f"{report['hit_rate'][tier]:.1%}"


def _colours(runs: Sequence[RunRecord]) -> list[str]:
    return [palette.SERIES[i % len(palette.SERIES)] for i in range(len(runs))]
