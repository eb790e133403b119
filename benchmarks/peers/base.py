"""What a peer is, and running a script that measures."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.files import ROOT
from benchmarks.measure import Value


class Measured(Value):
    """What a script prints as its last line: one replay of the trace, warm, in its own process.

    Attributes:
        wall_s: of the replay, reading the file included.
        turns: that were completed.
        ttft_ms, tpot_ms: means over turns, simulated.
        cached_share: of prompt tokens, found in a cache.
    """

    wall_s: float
    turns: int
    ttft_ms: float
    tpot_ms: float
    cached_share: float

    @property
    def per_second(self) -> float:
        return self.turns / self.wall_s


@dataclass(frozen=True, slots=True)
class Setting:
    """The cluster that everybody simulates: what has to be told to a peer."""

    trace: Path
    instances: int
    block_tokens: int
    kv_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """For the scripts, as JSON."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


class Peer(Protocol):
    """A simulator that can be installed and replays a trace."""

    @property
    def name(self) -> str:
        """On the page."""
        ...

    @property
    def requirement(self) -> str:
        """What pip installs."""
        ...

    @property
    def what(self) -> str:
        """What it simulates, for the page."""
        ...

    @property
    def script(self) -> Path:
        """Run by the peer's own Python with the setting as JSON; prints a `Measured`."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables that it needs."""
        ...


def run_script(
    python: Path, script: list[str], setting: Setting, environment: Mapping[str, str]
) -> Measured:
    """Run a script in a fresh process.

    Raises:
        ValueError: with the last line of what it said, if it failed.
    """
    finished = subprocess.run(
        [str(python), *script, json.dumps(setting.as_dict())],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    if finished.returncode:
        raise ValueError(last_line(finished.stderr) or f"exit code {finished.returncode}")
    return Measured.model_validate_json(last_line(finished.stdout))


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
