"""Pictures of cost against size, in the style of the package's own."""

from __future__ import annotations

from typing import Any

from agentserve_gym.plots.style import legend, new_figure, tidy
from agentserve_gym.report.palette import INK, SERIES
from benchmarks.measure import Point

_LABELS = {
    "turns": "turns in one run",
    "instances": "instances, load in proportion",
    "live-programs": "live programs",
}


def draw_scaling(points: dict[str, list[Point]]) -> Any | None:
    """A panel per row: bare events per turn against size; ``None`` without matplotlib."""
    try:
        figure = new_figure(4.2 * len(points), 3.4)
    except ModuleNotFoundError:
        return None
    colours: dict[str, str] = {}
    for number, (row, found) in enumerate(points.items()):
        axes = figure.add_subplot(1, len(points), number + 1)
        tidy(axes, "cost of a turn, bare events" if number == 0 else "")
        for name in dict.fromkeys(point.series for point in found):
            colour = colours.setdefault(name, SERIES[len(colours) % len(SERIES)])
            line = [point for point in found if point.series == name]
            axes.plot(
                [point.size for point in line],
                [point.events for point in line],
                marker="o",
                markersize=4,
                color=colour,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(_LABELS.get(row, row), fontsize=9, color=INK)
        if number == 0:
            legend(axes, loc="lower left")
    figure.tight_layout()
    return figure
