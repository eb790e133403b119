"""Colours of all drawn pictures; the frames that environments render have their own."""

INK = "#22303c"
FAINT = "#8a97a3"
GRID = "#e3e8ec"

TEAL = "#00798c"
RED = "#d1495b"
YELLOW = "#edae49"
PURPLE = "#6b5b95"
MOSS = "#588157"
BLUE = "#30638e"
ORANGE = "#e07a1f"
BROWN = "#8a5a2b"
GREEN = "#3d8b5f"
NAVY = "#12476b"
SKY = "#a9cce3"
PINK = "#e8a0a8"
MIST = "#dde3e8"
SILVER = "#a9b4be"

SERIES = (RED, TEAL, YELLOW, PURPLE, MOSS, BLUE)
"""Of lines that have no meaning of their own, such as policies, in this order."""
