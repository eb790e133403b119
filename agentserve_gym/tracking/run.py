"""A run as services see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Described:
    """A run as it is introduced.

    Attributes:
        folder: of the training. ``name``: for people.
        group: of trainings that differ in their seeds alone, if it is one of several.
        config: everything that was set, and the version that runs it; may be nested.
    """

    folder: Path
    name: str
    group: str | None
    config: Mapping[str, Any]


class TrackedRun(Protocol):
    """A run as one service keeps it."""

    @property
    def id(self) -> str:
        """By which the service finds it again."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""

    def summarize(self, values: Mapping[str, float | str]) -> None:
        """Note what came out in the end."""

    def end(self, *, failed: bool) -> None:
        """Close the run; a failed one may be opened again."""
