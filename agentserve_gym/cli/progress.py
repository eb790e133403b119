"""Progress of every command, on standard error: a bar, or a line now and then where that is a file.

What reports is a function of what is going on, how much of it is done, and how much there is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agentserve_gym.cli.output import note

Report = Callable[[str, int, int], None]

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BEFORE_NEWS = 3.0


@contextmanager
def reporting() -> Iterator[Report]:
    """What a command calls while it works; a bar leaves nothing behind."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars)


class _Pace:
    """How long what is going on still takes, at its pace since it was first heard of."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def left(self, what: str, done: int, total: int) -> str:
        """In words; nothing where there is nothing to go by."""
        now_s = time.monotonic()
        began_s, done_then = self._first.setdefault(what, (now_s, done))
        if done <= done_then or done >= total:
            return ""
        left_s = (now_s - began_s) * (total - done) / (done - done_then)
        return f"about {_duration(left_s)} left"


class _Bar:
    """One bar that changes its name with what is going on."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._pace = _Pace()
        self._task = bars.add_task("starting", total=None, left="")

    def __call__(self, what: str, done: int, total: int) -> None:
        left = self._pace.left(what, done, total)
        self._bars.update(self._task, description=what, completed=done, total=total, left=left)


class _Lines:
    """A line when something else goes on, and now and then while it does; none of short work."""

    def __init__(self) -> None:
        self._what = ""
        self._said_at_s = time.monotonic()
        self._pace = _Pace()

    def __call__(self, what: str, done: int, total: int) -> None:
        left = self._pace.left(what, done, total)
        silent_s = time.monotonic() - self._said_at_s
        if silent_s > (_SECONDS_BETWEEN_LINES if what == self._what else _SECONDS_BEFORE_NEWS):
            self._what, self._said_at_s = what, time.monotonic()
            note(f"{what} {done:,} of {total:,}{', ' if left else ''}{left}")


def _duration(seconds: float) -> str:
    """Roughly, for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
