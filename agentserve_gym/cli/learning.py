"""What ``train`` and ``evaluate`` share: progress on standard error, and the table of results."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from rich.table import Table

from agentserve_gym.cli.output import note, progress

if TYPE_CHECKING:
    from agentserve_gym.train import Evaluation, PairedDifference

Report = Callable[[str, int, int], None]
_SECONDS_BETWEEN_LINES = 15.0
_HEADINGS = ("mean JCT, s", "slowdown", "SLO missed", "difference", "relative", "wins")


@contextmanager
def reporting() -> Iterator[Report]:
    """A bar for what is going on; where standard error is a file, a line now and then instead."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with progress() as bars:
        yield _Bar(bars)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings are one line each, without the place in the code that they come from."""

    def show(message: Warning | str, *_: Any, **_named: Any) -> None:
        note(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class _Bar:
    """One bar that changes its name with what is going on."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("starting", total=None)

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bars.update(self._task, description=what, completed=done, total=total)


class _Lines:
    """A line at the beginning of everything, and now and then while it goes on."""

    def __init__(self) -> None:
        self._what = ""
        self._said_at_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if what != self._what or now_s - self._said_at_s > _SECONDS_BETWEEN_LINES:
            self._what, self._said_at_s = what, now_s
            note(f"{what} {done} of {total}")


def evaluation_table(evaluation: Evaluation) -> Table:
    """One row a policy: its figures, and how the judged policy differs from it."""
    table = Table(
        title=f"{evaluation.scenario}, {len(evaluation.seeds)} held-out seeds",
        title_justify="left",
        title_style="bold",
        caption=f"difference: {evaluation.policy.policy} minus the row's policy, "
        f"{evaluation.unit}, paired by seed, with its 95 % bootstrap interval; negative is better",
        caption_justify="left",
    )
    table.add_column("policy", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    none = ("",) * 3
    for scores, cells in [
        (evaluation.policy, none),
        *(
            (other, _difference_cells(difference))
            for other, difference in zip(evaluation.others, evaluation.differences, strict=True)
        ),
    ]:
        table.add_row(
            scores.policy,
            f"{scores.mean('jct'):,.2f}",
            f"{scores.mean('slowdown'):,.2f}",
            f"{scores.mean('slo'):.2%}",
            *cells,
        )
    return table


def _difference_cells(difference: PairedDifference) -> tuple[str, ...]:
    low, high = difference.bootstrap.low, difference.bootstrap.high
    return (
        f"{difference.mean:+.3g} [{low:+.3g}, {high:+.3g}]",
        f"{difference.relative:+.1%}",
        f"{difference.wins}/{difference.pairs}",
    )
