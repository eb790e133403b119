"""Where a generated page comes from: the command, the version and the commit that made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import agentserve_gym

_PACKAGE = Path(__file__).parent
_OPENING = "*Made by `"


def made_by(command: str, commit: str | None) -> str:
    """A line of Markdown for a generated page.

    Args:
        command: that makes the page.
        commit: of the code that computed what is on it, as `current_commit` names it.
    """
    at = f", commit {commit}" if commit else ""
    return f"{_OPENING}{command}` (agentserve-gym {agentserve_gym.__version__}{at}).*\n"


def is_made_by(line: str) -> bool:
    """Whether a page's line is one of `made_by`."""
    return line.startswith(_OPENING)


def current_commit() -> str | None:
    """The checkout's commit, with ``+`` where the package has uncommitted changes; ``None`` where
    the package is not run from a checkout of its own."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")
    commit = _git("rev-parse", "--short=10", "HEAD") if tracked else None
    if commit is None:
        return None
    return f"{commit}+" if _git("status", "--porcelain", "--", ".") else commit


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=_PACKAGE, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
