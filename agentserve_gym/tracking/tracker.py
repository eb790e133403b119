"""What a training tells of itself, to all services that it is logged to.

Which these are, and by which ids they know the run, is in ``tracking.json`` in its folder: a
training that goes on is the same run there.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentserve_gym.files import write_file
from agentserve_gym.tables import read_table
from agentserve_gym.tracking.run import Described, TrackedRun
from agentserve_gym.tracking.services import SERVICES, require_package

TRACKING_NAME = "tracking.json"


@dataclass(frozen=True, slots=True)
class LogTo:
    """Where a training is logged.

    Attributes:
        services: by name. ``group``: of trainings that differ in their seeds alone.
    """

    services: tuple[str, ...] = ()
    group: str | None = None


NOT_LOGGED = LogTo()


class Tracker:
    """Tells every service; one that fails is given up with a warning, and training goes on."""

    def __init__(self) -> None:
        self._runs: dict[str, TrackedRun] = {}

    def add(self, service: str, run: TrackedRun) -> None:
        """Tell this service, too."""
        self._runs[service] = run

    @property
    def services(self) -> list[str]:
        """Those that are still told, by name."""
        return list(self._runs)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve; ``step`` is decisions, or updates of a recipe."""
        self._tell(lambda run: run.log(metrics, step))

    def summarize(self, values: Mapping[str, float | str]) -> None:
        """Note what came out in the end."""
        self._tell(lambda run: run.summarize(values))

    def end(self, *, failed: bool) -> None:
        """Close the run at all services."""
        self._tell(lambda run: run.end(failed=failed))

    def _tell(self, tell: Callable[[TrackedRun], None]) -> None:
        for name, run in list(self._runs.items()):
            try:
                tell(run)
            except Exception as error:  # whatever another's service may raise
                del self._runs[name]
                # Else the process would still be in this run when it begins its next one.
                with suppress(Exception):
                    run.end(failed=True)
                warnings.warn(f"no longer logged to {name}: {error!r}", stacklevel=3)


def note_log(folder: Path, log: LogTo) -> None:
    """Note in a new run's folder where it is logged."""
    if log.services:
        _write(folder, log.group, dict.fromkeys(log.services))


@contextmanager
def open_tracker(folder: Path, name: str, config: Mapping[str, Any]) -> Iterator[Tracker]:
    """A tracker for a training, as its folder says; of no service where nothing is noted.

    Args:
        name: of the run. ``config``: everything that was set, and by which version it runs.

    Raises:
        ModuleNotFoundError: naming the extra to install.
        ValueError: if a service does not open the run.
    """
    tracker = Tracker()
    if not (folder / TRACKING_NAME).is_file():
        yield tracker
        return
    noted = read_table(folder / TRACKING_NAME)
    group, ids = noted["group"], noted["ids"]
    try:
        for service, known in ids.items():
            require_package(SERVICES[service].package)
            run = SERVICES[service].open(Described(folder, name, group, config), known)
            tracker.add(service, run)
            ids[service] = run.id
            _write(folder, group, ids)
        yield tracker
    except BaseException:
        tracker.end(failed=True)
        raise
    tracker.end(failed=False)


def _write(folder: Path, group: str | None, ids: Mapping[str, str | None]) -> None:
    content = {"group": group, "ids": ids}
    write_file(folder / TRACKING_NAME, json.dumps(content, indent=2) + "\n")
