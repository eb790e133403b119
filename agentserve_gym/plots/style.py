"""Colours, wording and the one place that imports matplotlib."""

from __future__ import annotations

from typing import Any

from agentserve_gym.extras import how_to_install
from agentserve_gym.sim import ProgramStatus

INK = "#22303c"
FAINT = "#8a97a3"
GRID = "#e3e8ec"

POLICY_COLOURS = ("#d1495b", "#00798c", "#edae49", "#6b5b95", "#588157", "#30638e")

PHASE_COLOURS = {
    "queue": "#d1495b",
    "load": "#6b5b95",
    "prefill": "#edae49",
    "decode": "#00798c",
}
PHASE_LABELS = {
    "queue": "waiting for an instance",
    "load": "loading KV",
    "prefill": "prefill",
    "decode": "decode",
}

HBM_COLOURS = {"in use": "#12476b", "pinned": "#e07a1f", "cached": "#a9cce3"}
DRAM_COLOUR = "#8a5a2b"
CXL_COLOUR = "#3d8b5f"

STATUS_COLOURS = {
    ProgramStatus.RUNNING: "#00798c",
    ProgramStatus.LOADING: "#6b5b95",
    ProgramStatus.QUEUED: "#d1495b",
    ProgramStatus.HELD: "#e8a0a8",
    ProgramStatus.TOOL_GAP: "#dde3e8",
}
STATUS_LABELS = {
    ProgramStatus.RUNNING: "running",
    ProgramStatus.LOADING: "loading KV",
    ProgramStatus.QUEUED: "queued",
    ProgramStatus.HELD: "held at the router",
    ProgramStatus.TOOL_GAP: "in a tool gap",
}


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty figure that draws to memory only, whatever the display.

    Raises:
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(how_to_install("matplotlib"), name="matplotlib") from error
    figure = Figure(figsize=(width_in, height_in), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any, title: str) -> None:
    """Left-aligned title, no box, faint grid."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def legend(axes: Any, **settings: Any) -> None:
    """A legend without a frame."""
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **settings)


def duration(seconds: float) -> str:
    """A time for people: ``45 s``, ``3.2 min``, ``1.5 h``."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
