"""A service that keeps what it is told, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from agentserve_gym.tracking import services
from agentserve_gym.tracking.run import Described
from agentserve_gym.tracking.services import Service


@dataclass
class RecordedRun:
    """A run that was opened once or more often; ``broken`` ones refuse all that they are told."""

    id: str
    described: list[Described] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    summary: dict[str, float | str] = field(default_factory=dict)
    ends: list[bool] = field(default_factory=list)
    broken: bool = False

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if self.broken:
            raise ConnectionError("nobody listens")
        for key, value in metrics.items():
            self.curves.setdefault(key, []).append((step, value))

    def summarize(self, values: Mapping[str, float | str]) -> None:
        self.summary.update(values)

    def end(self, *, failed: bool) -> None:
        self.ends.append(failed)


class Recorder:
    """All runs of the service, in the order in which they were begun."""

    def __init__(self) -> None:
        self.runs: list[RecordedRun] = []
        self.checks = 0

    def check(self) -> None:
        self.checks += 1

    def open(self, described: Described, known: str | None) -> RecordedRun:
        if known is None:
            self.runs.append(RecordedRun(f"run-{len(self.runs)}"))
            known = self.runs[-1].id
        (run,) = (run for run in self.runs if run.id == known)
        run.described.append(described)
        return run


def recorder(patch: pytest.MonkeyPatch, name: str = "recorder") -> Recorder:
    """A new one, to which trainings can be logged by this name."""
    made = Recorder()
    patch.setitem(services.SERVICES, name, Service("json", made.check, made.open))
    return made
