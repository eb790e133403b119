"""An environment of its own for each peer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.base import Peer, last_line

FOLDER = Path(__file__).parents[1] / ".venv-peers"


def python_of(peer: Peer, *, install: bool) -> Path:
    """The Python that has the peer, set up on first use.

    Raises:
        ValueError: if it is absent and may not be installed, or cannot be; in one line.
    """
    folder = FOLDER / re.sub(r"\W+", "-", peer.requirement)
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if ready.is_file():
        return python
    if not install:
        raise ValueError(f"{peer.requirement} is not installed here")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check",
         peer.requirement],
    ):  # fmt: skip
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            said = last_line(finished.stderr) or last_line(finished.stdout)
            raise ValueError(f"{peer.requirement} could not be installed: {said}")
    ready.touch()
    return python
