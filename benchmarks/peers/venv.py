"""An environment of its own for each peer."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.base import Peer, last_line

FOLDER = Path(__file__).parents[1] / ".venv-peers"


def python_of(peer: Peer, *, install: bool) -> Path:
    """The Python that has the peer, set up on first use.

    Raises:
        ValueError: if it is absent and may not be installed, or cannot be; in one line.
    """
    folder = FOLDER / re.sub(r"\W+", "-", peer.requirement)
    return set_up(folder, peer.requirement, [[peer.requirement]], install=install)


def set_up(folder: Path, what: str, installs: Sequence[Sequence[str]], *, install: bool) -> Path:
    """The Python of an environment in ``folder``, made on first use.

    Args:
        folder: of the environment.
        what: is installed, in words.
        installs: arguments of each call of ``pip install``, in order.
        install: whether it may be made.

    Raises:
        ValueError: as `python_of`.
    """
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if ready.is_file():
        return python
    if not install:
        raise ValueError(f"{what} is not installed here")
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        *([*pip, *arguments] for arguments in installs),
    ):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            said = last_line(finished.stderr) or last_line(finished.stdout)
            raise ValueError(f"{what} could not be installed: {said}")
    ready.touch()
    return python
