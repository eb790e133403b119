"""A scene as a picture: instances with batch, queue and HBM, lower tiers, programs by state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.rendering.canvas import Canvas, Color
from agentserve_gym.envs.rendering.font import ADVANCE, text_width
from agentserve_gym.envs.rendering.scene import STATUS_NAMES, InstanceScene, PoolScene, Scene
from agentserve_gym.sim import ProgramStatus

_BACKGROUND: Color = (244, 246, 249)
_PANEL: Color = (255, 255, 255)
_EDGE: Color = (214, 220, 228)
_INK: Color = (31, 41, 51)
_FAINT: Color = (123, 135, 148)
_EMPTY: Color = (230, 234, 239)
_DECODE: Color = (47, 111, 222)
_PREFILL: Color = (242, 140, 56)
_QUEUED: Color = (139, 150, 163)
_LOADING: Color = (155, 81, 224)
_PINNED: Color = (222, 62, 123)
_CACHED: Color = (122, 196, 180)

_STATUS_COLORS: dict[ProgramStatus, Color] = {
    ProgramStatus.DONE: (58, 160, 98),
    ProgramStatus.TOOL_GAP: (122, 196, 180),
    ProgramStatus.RUNNING: _DECODE,
    ProgramStatus.LOADING: _LOADING,
    ProgramStatus.QUEUED: _QUEUED,
    ProgramStatus.HELD: (240, 190, 60),
    ProgramStatus.PLANNED: _EMPTY,
}

_POOL_LEGEND = (("in use", _DECODE), ("pinned", _PINNED), ("cached", _CACHED), ("free", _EMPTY))
_TURN_LEGEND = (
    ("prefill", _PREFILL),
    ("decode", _DECODE),
    ("loading", _LOADING),
    ("queued", _QUEUED),
)

_MARGIN = 16
_HEADER = 96
_GAP = 12
_PANEL_WIDTH = 436
_PANEL_HEIGHT = 122
_ROW = 26
_SQUARE = 12
_LABEL_WIDTH = 72
_LONGEST_CONTEXT = "context 999.9k"


def draw(scene: Scene) -> NDArray[np.uint8]:
    """The scene as pixels, uint8 of shape ``(height, width, 3)``, both multiples of 16; their size
    depends on the cluster only."""
    columns = 2 if len(scene.instances) <= 8 else 4
    rows = -(-len(scene.instances) // columns)
    width = 2 * _MARGIN + columns * (_PANEL_WIDTH + _GAP) - _GAP
    height = _HEADER + rows * (_PANEL_HEIGHT + _GAP) + _tier_rows(scene, columns) * _ROW + 140
    canvas = Canvas(_up(width), _up(height), _BACKGROUND)
    _header(canvas, scene, width)
    y = _HEADER
    for number, instance in enumerate(scene.instances):
        x = _MARGIN + number % columns * (_PANEL_WIDTH + _GAP)
        top = y + number // columns * (_PANEL_HEIGHT + _GAP)
        _instance(canvas, x, top, instance, number == scene.asked_instance)
    y += rows * (_PANEL_HEIGHT + _GAP)
    for number, tier in enumerate(scene.lower_tiers):
        x = _MARGIN + number % columns * (_PANEL_WIDTH + _GAP)
        _pool(canvas, x + 12, y + number // columns * _ROW, _PANEL_WIDTH - 24, tier, tier.name)
    y += _tier_rows(scene, columns) * _ROW
    _programs(canvas, _MARGIN, y + 10, width - 2 * _MARGIN, scene)
    canvas.text(_MARGIN, y + 114, _fitting("> " + scene.question, width - 2 * _MARGIN), _INK)
    return canvas.pixels


def _up(pixels: int) -> int:
    return -(-pixels // 16) * 16


def _tier_rows(scene: Scene, columns: int) -> int:
    return -(-len(scene.lower_tiers) // columns)


def _header(canvas: Canvas, scene: Scene, width: int) -> None:
    end = canvas.text(_MARGIN, 12, scene.scenario, _INK, 3)
    canvas.text(end + 18, 19, f"seed {scene.seed}", _FAINT)
    minutes, seconds = divmod(int(scene.time_s * 10), 600)
    clock = f"{minutes:02d}:{seconds // 10:02d}.{seconds % 10}"
    canvas.text_right(width - _MARGIN, 12, clock, _INK, 3)
    figures = f"{scene.turns_done} turns, mean JCT {scene.mean_jct_s:.1f} s"
    canvas.text(_MARGIN, 47, figures, _FAINT)
    _legend(canvas, width - _MARGIN, 47, "bars:", _POOL_LEGEND)
    _legend(canvas, width - _MARGIN, 71, "squares are turns:", _TURN_LEGEND)


def _legend(
    canvas: Canvas, right: int, y: int, title: str, entries: tuple[tuple[str, Color], ...]
) -> None:
    """What colours mean, in a line that ends at ``right``."""
    x = right
    for name, color in reversed(entries):
        x -= text_width(name, 2)
        canvas.text(x, y, name, _FAINT)
        x -= _SQUARE + 6
        canvas.fill(x, y + 1, _SQUARE, _SQUARE, color)
        x -= 18
    canvas.text_right(x, y, title, _FAINT)


def _instance(canvas: Canvas, x: int, y: int, instance: InstanceScene, asked: bool) -> None:
    canvas.box(x, y, _PANEL_WIDTH, _PANEL_HEIGHT, _PANEL, _INK if asked else _EDGE)
    left, right = x + 12, x + _PANEL_WIDTH - 12
    end = canvas.text(left, y + 12, instance.name, _INK)
    context = f"context {_thousands(instance.context_tokens)}"
    room = right - text_width(_LONGEST_CONTEXT, 2) - end - 28
    canvas.text(end + 14, y + 12, _fitting(instance.hardware, room), _FAINT)
    canvas.text_right(right, y + 12, context, _FAINT)
    batch = [(instance.prefilling, _PREFILL), (instance.decoding, _DECODE)]
    queue = [(instance.loading, _LOADING), (instance.queued, _QUEUED)]
    for row, (name, squares) in enumerate((("batch", batch), ("queue", queue))):
        top = y + 40 + row * _ROW
        canvas.text(left, top, name, _FAINT)
        _squares(canvas, left + _LABEL_WIDTH, top + 1, right, squares)
    _pool(canvas, left, y + 40 + 2 * _ROW, right - left, instance.hbm, "HBM")


def _squares(canvas: Canvas, x: int, y: int, right: int, groups: list[tuple[int, Color]]) -> None:
    """One square per turn; if they do not fit, their number follows those that do."""
    total = sum(count for count, _ in groups)
    step = _SQUARE + 3
    room = (right - x + 3) // step
    shown = total if total <= room else room - 4
    colors = [color for count, color in groups for _ in range(count)]
    for number, color in enumerate(colors[:shown]):
        canvas.fill(x + number * step, y, _SQUARE, _SQUARE, color)
    if shown < total:
        canvas.text_right(right, y - 1, f"+{total - shown}", _FAINT)


def _pool(canvas: Canvas, x: int, y: int, width: int, pool: PoolScene, name: str) -> None:
    label = _LABEL_WIDTH if name == "HBM" else max(_LABEL_WIDTH, 12 * len(name) + 12)
    canvas.text(x, y, name, _FAINT)
    parts = [(pool.used, _DECODE), (pool.pinned, _PINNED), (pool.cached, _CACHED)]
    canvas.stacked_bar(x + label, y, width - label - 60, 14, parts, _EMPTY)
    canvas.text_right(x + width, y, f"{pool.full:.0%}", _INK)


def _programs(canvas: Canvas, x: int, y: int, width: int, scene: Scene) -> None:
    """Programs by state: one bar, and its legend with counts."""
    total = max(sum(scene.programs.values()), 1)
    canvas.text(x, y, "programs", _INK)
    done = f"{scene.done_programs} of {scene.total_programs} done"
    canvas.text_right(x + width, y, done, _FAINT)
    parts = [(scene.programs[status] / total, color) for status, color in _STATUS_COLORS.items()]
    canvas.stacked_bar(x, y + 24, width, 22, parts, _EMPTY)
    step = width // len(_STATUS_COLORS)
    for number, (status, color) in enumerate(_STATUS_COLORS.items()):
        left = x + number * step
        canvas.fill(left, y + 59, _SQUARE, _SQUARE, color)
        canvas.text(left + 18, y + 58, f"{scene.programs[status]}", _INK)
        canvas.text(left + 18, y + 76, STATUS_NAMES[status], _FAINT)


def _fitting(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits, with dots for the rest."""
    if text_width(text, 2) <= width:
        return text
    return text[: width // (2 * ADVANCE) - 3] + "..."


def _thousands(count: int) -> str:
    """Tokens: ``12.3k``."""
    return f"{count / 1000:.1f}k" if count >= 1000 else f"{count}"
