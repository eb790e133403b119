"""Curves of trainings: what the present policy was worth as training went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentserve_gym.plots import style
from agentserve_gym.report import palette

MOST_CURVES = 60
"""On one picture; more could not be told apart."""

_WIDTH_IN, _PANEL_IN = 9.0, 3.2


@dataclass(frozen=True, slots=True)
class Curve:
    """One line.

    Attributes:
        name: in the legend. ``points``: (how far training was, what was measured), in order.
        kept: the ``points`` entry whose weights were kept; ``None`` to mark none.
        faint: whether it is a part of another one, drawn thin, behind all.
    """

    name: str
    points: Sequence[tuple[float, float]]
    kept: int | None = None
    faint: bool = False


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """Curves over one pair of axes; ``is_share`` writes the values in percent."""

    title: str
    progress: str
    measure: str
    curves: Sequence[Curve]
    is_share: bool = False


def draw_curves(panels: Sequence[CurvePanel]) -> bytes:
    """A panel below the other.

    Returns:
        A PNG file's bytes, the same for the same curves.

    Raises:
        ValueError: if there is no curve, or there are more than ``MOST_CURVES``.
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    count = sum(len(panel.curves) for panel in panels)
    if not 0 < count <= MOST_CURVES:
        raise ValueError(f"the picture would have {count} curves; allowed: 1 to {MOST_CURVES}")
    figure = style.new_figure(_WIDTH_IN, _PANEL_IN * len(panels))
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw_panel(axes, panel)
    figure.tight_layout()
    return style.png(figure)


def _draw_panel(axes: Any, panel: CurvePanel) -> None:
    style.tidy(axes, panel.title)
    shown = [curve for curve in panel.curves if not curve.faint]
    colours = dict(zip((curve.name for curve in shown), _colours(len(shown)), strict=True))
    parts = [curve for curve in panel.curves if curve.faint]
    for number, curve in enumerate([*parts, *shown]):
        along, values = zip(*curve.points, strict=True)
        if curve.faint:
            label = "_" if number else "a cell"  # one of them in the legend
            axes.plot(along, values, color=palette.SILVER, linewidth=0.8, label=label)
            continue
        colour = colours[curve.name]
        axes.plot(along, values, color=colour, linewidth=2.0, label=curve.name)
        if curve.kept is not None:
            axes.plot(*curve.points[curve.kept], "o", color=colour, markersize=6)
    axes.set_xlabel(panel.progress, fontsize=9, color=palette.INK)
    axes.set_ylabel(panel.measure, fontsize=9, color=palette.INK)
    if panel.is_share:
        axes.yaxis.set_major_formatter(style.signed_share)
    if shown:
        style.legend(axes)


def _colours(count: int) -> list[str]:
    return [palette.SERIES[number % len(palette.SERIES)] for number in range(count)]
