"""Processes of this machine, as Linux lists them in /proc."""

from __future__ import annotations

from pathlib import Path

_PARENT, _SESSION = 1, 3
"""Places after a process's name in its ``stat``."""


def children(parent: int) -> list[int]:
    """Running processes that a process has started, zombies aside."""
    return _running(_PARENT, parent)


def of_session(session: int) -> list[int]:
    """Running processes of a session, zombies aside."""
    return _running(_SESSION, session)


def _running(place: int, value: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[place]) == value and fields[0] != "Z":
                found.append(int(entry.name))
    return found
