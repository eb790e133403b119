"""Colours, wording and the one place that imports matplotlib."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from agentserve_gym.extras import how_to_install
from agentserve_gym.report import palette
from agentserve_gym.report.palette import GRID, INK
from agentserve_gym.sim import ProgramStatus

PHASE_COLOURS = {
    "queue": palette.RED,
    "load": palette.PURPLE,
    "prefill": palette.YELLOW,
    "decode": palette.TEAL,
}
PHASE_LABELS = {
    "queue": "waiting for an instance",
    "load": "loading KV",
    "prefill": "prefill",
    "decode": "decode",
}

# Distances of ticks, and ticks of a logarithmic axis.
_STEPS_S = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)
_LOG_TICKS_S = (0.01, 0.1, 1, 10, 60, 300, 600, 1800, 3600, 7200, 18_000, 36_000, 86_400, 360_000)

# Of a logarithmic axis' length, so that labels do not touch.
_TICKS_APART = 0.09

# To the left and right of headings, as a share of the figure's width.
_MARGIN = 0.012

HBM_COLOURS = {"in use": palette.NAVY, "pinned": palette.ORANGE, "cached": palette.SKY}
TIER_COLOURS = (palette.BROWN, palette.GREEN, palette.PURPLE, palette.TEAL)

STATUS_COLOURS = {
    ProgramStatus.RUNNING: palette.TEAL,
    ProgramStatus.LOADING: palette.PURPLE,
    ProgramStatus.QUEUED: palette.RED,
    ProgramStatus.HELD: palette.PINK,
    ProgramStatus.TOOL_GAP: palette.MIST,
}
STATUS_LABELS = {
    ProgramStatus.RUNNING: "running",
    ProgramStatus.LOADING: "loading",
    ProgramStatus.QUEUED: "queued",
    ProgramStatus.HELD: "held",
    ProgramStatus.TOOL_GAP: "tool gap",
}


def require_matplotlib() -> None:
    """Import matplotlib.

    Raises:
        ModuleNotFoundError: naming the extra to install, where it is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(how_to_install("matplotlib"), name="matplotlib") from error


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty figure that draws to memory only, whatever the display.

    Raises:
        ModuleNotFoundError: as `require_matplotlib`.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any, dpi: float | str = "figure") -> bytes:
    """A figure as a PNG file's bytes, the same for the same figure.

    Args:
        figure: from `new_figure`.
        dpi: dots per inch, or ``figure`` for its own.
    """
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi, metadata={"Software": None})
    return target.getvalue()


def heading(figure: Any, top: float, words: str, **settings: Any) -> float:
    """Write words across a figure on as many lines as they need.

    Args:
        figure: where. ``top``: of the first line, as a share of the figure's height.
        words: what. ``settings``: of the text.

    Returns:
        Where the last line ends, as a share of the figure's height.
    """
    text = figure.text(_MARGIN, top, "", va="top", linespacing=1.3, **settings)
    room = figure.bbox.width * (1.0 - 2.0 * _MARGIN)
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".lstrip()
        text.set_text(longer)
        if lines[-1] and text.get_window_extent().width > room:
            lines.append(word)
        else:
            lines[-1] = longer
    text.set_text("\n".join(lines))
    return float(text.get_window_extent().y0 / figure.bbox.height) if words else top


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


def time_axis(axis: Any, end_s: float) -> None:
    """At most eight round ticks from 0 on, in seconds, minutes or hours."""
    step_s = next((step for step in _STEPS_S if end_s / step <= 8), end_s / 8)
    axis.set_ticks(np.arange(0.0, end_s * 1.001, step_s))
    axis.set_major_formatter(_round_time)


def log_time_axis(axis: Any) -> None:
    """Ticks at round times on a logarithmic axis whose limits are set."""
    axis.set_minor_locator(_no_ticks())
    low, high = axis.get_view_interval()
    apart = (high / low) ** _TICKS_APART
    shown: list[float] = []
    for tick in _LOG_TICKS_S:
        if low <= tick <= high and (not shown or tick >= shown[-1] * apart):
            shown.append(tick)
    axis.set_ticks(shown)
    axis.set_major_formatter(_round_time)


def signed_share(share: float, _position: int) -> str:
    """A tick's label in percent; ticks are not always at whole ones."""
    return f"{100 * share:+.3g}%" if share else "0"


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _round_time(seconds: float, _position: int) -> str:
    if seconds and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f} h"
    if seconds and seconds % 60 == 0:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:g} s" if seconds else "0"


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
