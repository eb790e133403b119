"""How far policies are from one of them, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentserve_gym.plots import style
from agentserve_gym.report import palette

MOST_ROWS = 300
"""More would need a picture that no viewer opens."""

_ROW_IN, _HEAD_IN, _WIDTH_IN = 0.24, 0.75, 9.0


class Difference(NamedTuple):
    """A policy's mean relative difference, and its interval; -0.1 is a tenth less."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Differences:
    """A panel: its title and its rows, from above."""

    title: str
    rows: Sequence[Difference]


def draw_differences(panels: Sequence[Differences]) -> bytes:
    """A panel below the other; green where the whole interval is below 0, red where it is above.

    Returns:
        A PNG file's bytes, the same for the same differences.

    Raises:
        ValueError: if there is no row, or there are more than ``MOST_ROWS``.
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    panels = [panel for panel in panels if panel.rows]
    rows = sum(len(panel.rows) for panel in panels)
    if not 0 < rows <= MOST_ROWS:
        raise ValueError(
            f"the picture would have {rows} rows; allowed: 1 to {MOST_ROWS} policies that share "
            "two seeds or more with the one they are compared with"
        )
    heights = [_HEAD_IN + _ROW_IN * len(panel.rows) for panel in panels]
    height = sum(heights)
    figure = style.new_figure(_WIDTH_IN, height)
    top = height
    for panel, panel_height in zip(panels, heights, strict=True):
        bottom = top - panel_height
        box = (0.36, (bottom + 0.32) / height, 0.61, (panel_height - _HEAD_IN + 0.1) / height)
        axes = figure.add_axes(box)
        style.tidy(axes, "")
        figure.text(
            0.012, (top - 0.14) / height, panel.title, va="top", fontsize=10.5, fontweight="bold",
            color=palette.INK,
        )  # fmt: skip
        axes.axvline(0.0, color=palette.FAINT, linewidth=1.0)
        for place, row in enumerate(panel.rows):
            colour = _colour(row)
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.4)
            axes.plot(row.mean, place, "o", color=colour, markersize=5)
        axes.set_yticks(range(len(panel.rows)), [row.name for row in panel.rows], fontsize=8.5)
        axes.set_ylim(len(panel.rows) - 0.4, -0.6)
        axes.xaxis.set_major_formatter(style.signed_share)
        top = bottom
    return style.png(figure)


def _colour(row: Difference) -> str:
    if row.high < 0.0:
        return palette.GREEN
    return palette.RED if row.low > 0.0 else palette.FAINT
