"""Drawing pictures of runs to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentserve_gym.cli.driving import Run
from agentserve_gym.files import require_replaceable, write_file
from agentserve_gym.plots import draw_comparison, require_matplotlib


def require_drawable(path: Path) -> None:
    """Find out before a long run whether its picture can be drawn.

    Raises:
        ValueError: if the name does not end in ``.png``, the folder does not exist, or a file of
            that name is no picture.
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"picture is {str(path)!r}; allowed: a file whose name ends in .png")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"picture is {str(path)!r}, but there is no folder {path.parent}")
    require_replaceable(path, b"\x89PNG", "a PNG picture")
    require_matplotlib()


def draw(path: Path, runs: Sequence[Run], title: str, subtitle: str) -> None:
    """Draw the comparison picture of runs to a PNG file."""
    write_file(path, draw_comparison([run.record for run in runs], title, subtitle))
