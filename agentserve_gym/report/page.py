"""The shell of a generated page: its opening, who made it, and writing it with its pictures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import agentserve_gym
from agentserve_gym.files import write_file

_PACKAGE = Path(agentserve_gym.__file__).parent
_MADE_BY = "*Made by `"


def opening(title: str, command: str, commit: str | None) -> str:
    """Heading of a page, and the line of `made_by` below it."""
    return f"# {title}\n\n{made_by(command, commit)}"


def made_by(command: str, commit: str | None) -> str:
    """A line of Markdown that says where a page comes from, with the version.

    Args:
        command: that makes the page.
        commit: of the code that computed what is on it, as `current_commit` names it.
    """
    at = f", commit {commit}" if commit else ""
    return f"{_MADE_BY}{command}` (agentserve-gym {agentserve_gym.__version__}{at}).*\n"


def is_made_by(line: str) -> bool:
    """Whether a page's line is one of `made_by`."""
    return line.startswith(_MADE_BY)


def joined(parts: Iterable[str]) -> str:
    """A page of its parts, each of which ends with a line break; empty ones are left out."""
    return "\n".join(part for part in parts if part)


def write_page(path: Path, page: str, beside: Mapping[str, str | bytes]) -> None:
    """Write a page after the files that it shows; each is whole or not there.

    Args:
        path: of the page; missing folders are made.
        page: the text.
        beside: contents of the files, by path from the page's folder.

    Raises:
        OSError: naming what cannot be written.
    """
    for name, content in {**beside, path.name: page}.items():
        place = path.parent / name
        place.parent.mkdir(parents=True, exist_ok=True)
        write_file(place, content)


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
