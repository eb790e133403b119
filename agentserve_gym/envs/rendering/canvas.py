"""A small rasteriser: filled rectangles, frames and text on an array of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.rendering.font import text_mask, text_width

Color = tuple[int, int, int]


class Canvas:
    """Pixels, uint8 of shape ``(height, width, 3)``; drawing outside is cut off."""

    def __init__(self, width: int, height: int, background: Color) -> None:
        self.pixels: NDArray[np.uint8] = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = background

    def fill(self, x: int, y: int, width: int, height: int, color: Color) -> None:
        """A filled rectangle."""
        self.pixels[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = color

    def box(self, x: int, y: int, width: int, height: int, color: Color, edge: Color) -> None:
        """A filled rectangle with a frame of one pixel and cut corners."""
        self.fill(x + 1, y, width - 2, height, edge)
        self.fill(x, y + 1, width, height - 2, edge)
        self.fill(x + 1, y + 1, width - 2, height - 2, color)

    def text(self, x: int, y: int, text: str, color: Color, scale: int = 2) -> int:
        """A line of text with its upper left corner at (x, y); returns the x after it."""
        width = min(text_width(text, scale), self.pixels.shape[1] - x)
        if text and width > 0:
            mask = text_mask(text, scale)[: self.pixels.shape[0] - y, :width]
            self.pixels[y : y + mask.shape[0], x : x + width][mask] = color
        return x + text_width(text, scale)

    def text_right(self, x: int, y: int, text: str, color: Color, scale: int = 2) -> None:
        """A line of text that ends at ``x``."""
        self.text(x - text_width(text, scale), y, text, color, scale)

    def stacked_bar(
        self, x: int, y: int, width: int, height: int, parts: list[tuple[float, Color]], rest: Color
    ) -> None:
        """A bar whose parts take these shares of its width, the rest in ``rest``."""
        self.fill(x, y, width, height, rest)
        start = 0.0
        for share, color in parts:
            stop = min(start + share, 1.0)
            left, right = round(start * width), round(stop * width)
            self.fill(x + left, y, right - left, height, color)
            start = stop
