"""Files: what was measured, kept until the page is written."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from agentserve_gym.files import write_file
from benchmarks.machine import KERNELS, Machine
from benchmarks.measure import Result, Spread, Value

ROOT = Path(__file__).parents[1]
SPEED_FILES = {name: ROOT / "runs" / "benchmarks" / f"speed-{name}.json" for name in KERNELS}
"""By kernel."""
PEERS_FILE = ROOT / "runs" / "benchmarks" / "peers.json"
PAGE = ROOT / "docs" / "performance.md"


class SpeedFile(Value):
    """A run of all rows, or of some."""

    machine: Machine
    controls: dict[str, Spread]
    results: list[Result]
    wall_s: float


class PeerRun(Value):
    """One simulator on the peer trace.

    Attributes:
        what: what it simulates.
        rate: turns per second of wall time, over repetitions; ``None`` where it did not run.
        figures: what it says about the simulated cluster.
        missing: why it did not run.
    """

    name: str
    version: str
    what: str
    rate: Spread | None = None
    figures: dict[str, float] = Field(default_factory=dict)
    missing: str = ""


class PeersFile(Value):
    """A comparison: ``ours`` and ``peers`` alternated in one run."""

    machine: Machine
    turns: int
    repetitions: int
    ours: list[PeerRun]
    peers: list[PeerRun]
    ratios: dict[str, Spread]
    """Of our rate to a peer's, repetition by repetition, by "ours / peer"."""


Model = TypeVar("Model", bound=Value)


def read(model: type[Model], path: Path) -> Model | None:
    """What a file holds; ``None`` if there is none.

    Raises:
        ValueError: if it holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(
            f"{path.name} was written by another version; measure again ({error.error_count()} "
            "wrong fields)"
        ) from error


def read_speeds() -> dict[str, SpeedFile]:
    """What was measured with each kernel, as far as there is something.

    Raises:
        ValueError: as ``read``.
    """
    found = {name: read(SpeedFile, path) for name, path in SPEED_FILES.items()}
    return {name: speed for name, speed in found.items() if speed is not None}


def write(content: Value, path: Path) -> None:
    """Write a result file, whole or not at all; its folder is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content.model_dump_json(indent=1) + "\n")
