"""Pictures of measured against simulated runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agentserve_gym.plots import style
from agentserve_gym.report import palette
from agentserve_gym.validation.replay import Column
from agentserve_gym.validation.study import CaseResult

TIMING_COLOURS = {
    "profile": palette.TEAL,
    "compact": palette.ORANGE,
    "roofline": palette.SILVER,
}
# Profile and compact often coincide: both stay visible.
_LINES = {"profile": "-", "compact": (0, (3, 3)), "roofline": "-"}
_MEASURED = {"color": palette.INK, "linewidth": 3.2, "alpha": 0.85, "label": "measured"}


def draw_case(results: Sequence[CaseResult]) -> bytes:
    """One measured case under one or more timing sources: three CDFs and a scatter per request.

    Args:
        results: of one case, at least one; the scatter is of the first.

    Returns:
        A PNG file's bytes, the same for the same results.

    Raises:
        ValueError: if there is no result, or they are of different cases.
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    names = {result.case.name for result in results}
    if len(names) != 1:
        raise ValueError(f"results are of the cases {sorted(names)}; exactly 1 case is needed")
    case = results[0].case
    figure = style.new_figure(11.0, 8.0)
    figure.suptitle(
        case.name, x=0.015, y=0.985, ha="left", fontsize=15, fontweight="bold", color=palette.INK
    )
    figure.text(0.015, 0.933, _subtitle(results[0]), fontsize=9.5, color=palette.FAINT, va="center")
    grid = figure.add_gridspec(
        2, 2, left=0.06, right=0.98, top=0.88, bottom=0.065, hspace=0.3, wspace=0.16
    )
    ttft, tpot, e2e, scatter = (figure.add_subplot(grid[i, j]) for i in (0, 1) for j in (0, 1))
    decoding = np.array([turn.output_tokens > 1 for turn in results[0].replayed.turns])
    _cdf(ttft, "Time to first token, s", case.ttft_s, _each(results, "ttft_s"), "lower right")
    tpot_ms = {name: values * 1e3 for name, values in _each(results, "tpot_s").items()}
    _cdf(tpot, "Time per output token, ms", case.tpot_s[decoding] * 1e3, tpot_ms, "upper left")
    _cdf(e2e, "Arrival to last token, s", case.e2e_s, _each(results, "e2e_s"), "upper left")
    _scatter(scatter, results[0])
    return style.png(figure, dpi=105)


def _each(results: Sequence[CaseResult], figure: str) -> dict[str, Column]:
    return {r.case.settings.timing: getattr(r.replayed, figure)() for r in results}


def _subtitle(result: CaseResult) -> str:
    turns, settings = result.replayed.turns, result.case.settings
    engines = f"{settings.data_parallel} engines" if settings.data_parallel > 1 else "1 engine"
    return (
        f"{len(turns)} requests, {sum(turn.output_tokens for turn in turns):,} output tokens; "
        f"{settings.model} on {settings.accelerator}, {engines} of "
        f"{settings.tensor_parallel} GPU. Nothing is fitted to the measured run."
    )


def _cdf(
    axes: Any, title: str, measured: Column, simulated: dict[str, Column], corner: str
) -> None:
    """Distributions of one figure, with the legend in the corner that they leave free."""
    style.tidy(axes, title)
    _step(axes, measured, **_MEASURED)
    for name, values in simulated.items():
        error = values.mean() / measured.mean() - 1.0
        label = f"{name} (mean {error:+.1%})"
        colour, line = TIMING_COLOURS[name], _LINES[name]
        _step(axes, values, color=colour, linestyle=line, linewidth=1.7, label=label)
    axes.set_ylim(0, 1.015)
    axes.margins(x=0.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    style.legend(axes, loc=corner)


def _step(axes: Any, values: Column, **settings: Any) -> None:
    ordered = np.sort(values)
    axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", **settings)


def _scatter(axes: Any, result: CaseResult) -> None:
    timing = result.case.settings.timing
    error = result.errors.per_request["e2e"]
    style.tidy(axes, f"Every request: arrival to last token, s ({timing})")
    measured, simulated = result.case.e2e_s, result.replayed.e2e_s()
    top = float(max(measured.max(), simulated.max())) * 1.04
    bottom = float(min(measured.min(), simulated.min())) * 0.9
    line = np.array([bottom, top])
    axes.fill_between(
        line, line * 0.95, line * 1.05, color=palette.GRID, linewidth=0, label="within 5 %"
    )
    axes.plot(line, line, color=palette.FAINT, linewidth=1.0)
    axes.scatter(
        measured, simulated, s=13, color=TIMING_COLOURS[timing], alpha=0.7, linewidths=0,
        label=f"a request (mean error {error:.1%})",
    )  # fmt: skip
    axes.set_xlim(bottom, top)
    axes.set_ylim(bottom, top)
    axes.set_xlabel("measured", fontsize=9, color=palette.INK)
    axes.set_ylabel("simulated", fontsize=9, color=palette.INK)
    style.legend(axes, loc="upper left")
