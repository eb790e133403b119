"""Pictures of a study: scores, profiles, policies by cell, levers by cell."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from agentserve_gym.bench.study import Study
from agentserve_gym.bench.suite import Lever
from agentserve_gym.plots import style
from agentserve_gym.report import palette
from agentserve_gym.report.statistics import performance_profile

LEVER_COLOURS: dict[Lever, str] = {
    "stock": palette.FAINT,
    "routing": palette.BLUE,
    "residency": palette.ORANGE,
    "tiers": palette.BROWN,
    "order": palette.PURPLE,
    "admission": palette.RED,
    "mixed": palette.GREEN,
    "learned": palette.TEAL,
}
SINGLE_LEVERS: tuple[Lever, ...] = ("routing", "residency", "tiers", "order", "admission")
_PROFILE_COLOURS = (
    palette.TEAL, palette.RED, palette.YELLOW, palette.PURPLE, palette.MOSS, palette.BLUE,
    palette.ORANGE,
)  # fmt: skip
_DPI = 100
_COLOURS = 192
_LONGEST_LINE = 40
_INCHES_A_LETTER = 0.06


def draw_all(study: Study) -> dict[str, bytes]:
    """Every picture as PNG bytes, by name; none where no cell ranks.

    Raises:
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    if not study.ranking_cells:
        return {}
    drawn = {
        "scores": draw_scores(study),
        "profile": draw_profile(study),
        "cells": draw_cells(study),
    }
    return {**drawn, "levers": draw_levers(study)} if shown_levers(study) else drawn


def shown_levers(study: Study) -> list[Lever]:
    """Levers, and mixtures of them, of which a policy is ranked in some cell."""
    levers: tuple[Lever, ...] = (*SINGLE_LEVERS, "mixed", "learned")
    cells = study.ranking_cells
    return [lever for lever in levers if any(study.gain(cell, [lever]) for cell in cells)]


def draw_scores(study: Study) -> bytes:
    """Interquartile mean scores with intervals, best first, coloured by lever."""
    rows = study.overall
    names = [_folded(row.label) for row in rows]
    margin, height = _margin(names), 1.0 + 0.21 * len(rows)
    width = margin + 7.2
    figure = style.new_figure(width, height)
    axes = _axes(figure, margin / width, 0.97, 0.4 / height, 1 - 0.4 / height)
    style.tidy(axes, f"Score: 0 = {study.suite.reference}, 1 = lower bound (IQM, 95 % interval)")
    shown: set[str] = set()
    for place, row in enumerate(rows):
        lever = study.suite.entry(row.label).lever
        colour = LEVER_COLOURS[lever]
        if np.isfinite(row.score.high):
            ends = [row.score.low, row.score.high]
            axes.plot(ends, [place, place], color=colour, linewidth=2.4)
        label = None if lever in shown else lever
        axes.plot(row.score.value, place, "o", color=colour, markersize=5, label=label)
        shown.add(lever)
    _name_rows(axes, names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    style.legend(axes, loc="lower right")
    return _png(figure)


def draw_profile(study: Study, most: int = 5) -> bytes:
    """Share of runs with at least a score: the best policies, the stock one, the reference."""
    rows = [row.label for row in study.overall[:most]]
    rows += [role for role in (study.suite.stock, study.suite.reference) if role not in rows]
    figure = style.new_figure(8.0, 4.6)
    axes = _axes(figure, 0.09, 0.97, 0.12, 0.91)
    style.tidy(axes, "Performance profile: share of runs that score at least x")
    thresholds = np.linspace(-0.5, 1.0, 301)
    for label, colour in zip(rows, _PROFILE_COLOURS, strict=False):
        shares = performance_profile([c.scores(label) for c in study.ranking_cells], thresholds)
        axes.plot(thresholds, shares, color=colour, linewidth=1.9, label=_folded(label))
    axes.set_xlabel("score", fontsize=9, color=palette.INK)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.5, 1.0)
    style.legend(axes, loc="lower left")
    return _png(figure)


def draw_cells(study: Study) -> bytes:
    """Mean JCT against the stock policy, policy by cell."""
    labels = [row.label for row in study.overall]
    cells = study.ranking_cells
    change = np.array(
        [[cell.against(label, study.suite.stock).value - 1.0 for cell in cells] for label in labels]
    )
    rows = [_folded(label) for label in labels]
    margin, height = _margin(rows), 1.8 + 0.21 * len(labels)
    width = margin + max(4.7, 0.6 + 0.66 * len(cells))
    figure = style.new_figure(width, height)
    axes = _axes(figure, margin / width, 0.98, 1.35 / height, 1 - 0.4 / height)
    axes.set_title(
        f"Mean JCT against {study.suite.stock}, % (blue is faster)",
        loc="left", fontsize=11, color=palette.INK, fontweight="bold",
    )  # fmt: skip
    axes.imshow(np.clip(change, -0.6, 0.6), cmap="RdBu_r", vmin=-0.6, vmax=0.6, aspect="auto")
    for row in range(len(labels)):
        for column in range(len(cells)):
            value = change[row, column]
            colour = "white" if abs(value) > 0.4 else palette.INK
            axes.text(
                column, row, f"{100 * value:+.0f}", ha="center", va="center", fontsize=7,
                color=colour,
            )  # fmt: skip
    _name_rows(axes, rows)
    names = [cell.name for cell in cells]
    axes.set_xticks(range(len(cells)), names, fontsize=8, rotation=40, ha="right")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return _png(figure)


def draw_levers(study: Study) -> bytes:
    """What the best policy of each lever is worth, cell by cell."""
    cells = study.ranking_cells
    levers = shown_levers(study)
    figure = style.new_figure(max(9.0, 2.0 + 0.72 * len(cells)), 4.8)
    axes = _axes(figure, 0.075, 0.985, 0.27, 0.84)
    style.tidy(axes, "")
    figure.text(
        0.02, 0.955, f"Mean JCT of the best policy of a lever, against {study.suite.stock}",
        fontsize=11, color=palette.INK, fontweight="bold", va="center",
    )  # fmt: skip
    axes.grid(axis="x", visible=False)
    width = 0.8 / len(levers)
    for number, lever in enumerate(levers):
        gains = [study.gain(cell, [lever]) for cell in cells]
        label: str | None = lever
        for place, gain in enumerate(gains):
            if gain is None:
                continue
            at = place + (number - (len(levers) - 1) / 2) * width
            estimate = gain.estimate
            axes.bar(
                at, estimate.value - 1.0, width * 0.9, color=LEVER_COLOURS[lever],
                label=label,
            )  # fmt: skip
            label = None
            if estimate.low > 0.0:
                ends = [estimate.low - 1.0, estimate.high - 1.0]
                axes.plot([at, at], ends, color=palette.INK, linewidth=0.8)
    axes.axhline(0.0, color=palette.INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0%}")
    axes.set_xticks(range(len(cells)), [c.name for c in cells], fontsize=8, rotation=40, ha="right")
    axes.set_xlim(-0.6, len(cells) - 0.4)
    low = min(gain.estimate.value for c in cells for v in levers if (gain := study.gain(c, [v])))
    axes.set_ylim(max(-1.0, low - 1.15), 0.35)
    style.legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncol=len(levers))
    return _png(figure)


def _folded(label: str) -> str:
    """A policy's label in two lines where it is long, cut between parts."""
    cuts = [place for place, letter in enumerate(label) if letter == "+"]
    if len(label) <= _LONGEST_LINE or not cuts:
        return label
    cut = min(cuts, key=lambda place: abs(place - len(label) / 2))
    return f"{label[:cut]}\n{label[cut:]}"


def _margin(names: Sequence[str]) -> float:
    """Inches that names of rows need on the left."""
    longest = max(len(line) for name in names for line in name.splitlines())
    return max(1.8, 0.2 + _INCHES_A_LETTER * longest)


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for text in axes.get_yticklabels():
        if "\n" in text.get_text():
            text.set(fontsize=6.5, linespacing=1.0)


def _axes(figure: Any, left: float, right: float, bottom: float, top: float) -> Any:
    """Axes between edges given as shares of the figure."""
    return figure.add_axes((left, bottom, right - left, top - bottom))


def _png(figure: Any) -> bytes:
    """PNG bytes with a palette, a third of the size of full colour."""
    from PIL import Image  # comes with matplotlib

    small = io.BytesIO()
    drawn = Image.open(io.BytesIO(style.png(figure, _DPI))).convert("RGB")
    picture = drawn.quantize(_COLOURS, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()
