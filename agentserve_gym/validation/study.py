"""Replays of measured and of published runs under each timing source."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentserve_gym.hardware import find_profile
from agentserve_gym.validation.cases import MeasuredCase
from agentserve_gym.validation.compare import CaseErrors, compare, misses
from agentserve_gym.validation.replay import Replay, ReplaySettings, replay
from agentserve_gym.validation.targets import (
    PUBLISHED_RUNS,
    PublishedRun,
    published_run,
)

TIMINGS = ("profile", "compact", "roofline")


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One measured case replayed with one timing source.

    Attributes:
        case: measured, with the settings of this replay.
        wall_s: how long the replay took, reading its inputs included.
    """

    case: MeasuredCase
    replayed: Replay
    errors: CaseErrors
    wall_s: float

    @property
    def published(self) -> PublishedRun | None:
        """The published run that the case is, if any: it has targets."""
        return published_run(self.case.settings)

    @property
    def missed(self) -> list[str] | None:
        """Targets that it misses; ``None`` where none are set. The roofline has none: it is for
        hardware without measurements."""
        run = self.published
        if run is None or self.case.settings.timing == "roofline":
            return None
        return misses(self.errors, run)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; ``missed`` is null where there is no target."""
        return {
            **self.errors.as_dict(),
            "missed": self.missed,
            "wall_s": self.wall_s,
            "simulated": self.replayed.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class UnmeasuredResult:
    """A published run of which only the workload is here: simulated figures without errors."""

    run: PublishedRun
    timing: str
    replayed: Replay
    wall_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "accelerator": self.run.accelerator,
            "model": self.run.model,
            "tensor_parallel": self.run.tensor_parallel,
            "timing": self.timing,
            "reference_preemptions": self.run.preemptions,
            "wall_s": self.wall_s,
            "simulated": self.replayed.as_dict(),
        }


def profile_folder(settings: ReplaySettings, profiles: Path | None) -> Path | None:
    """The profile tables of these settings, if they are there; see ``find_profile``."""
    if profiles is None:
        return None
    return find_profile(profiles, settings.accelerator, settings.model, settings.tensor_parallel)


def with_timing(settings: ReplaySettings, timing: str, profiles: Path | None) -> ReplaySettings:
    """The settings with a timing source.

    Raises:
        ValueError: ``profile`` is asked for and there are no tables for the case.
    """
    if timing != "profile":
        return replace(settings, timing=timing, profile=None)
    folder = profile_folder(settings, profiles)
    if folder is None:
        raise ValueError(
            f"no profile tables for {settings.accelerator}/{settings.model}/"
            f"tp{settings.tensor_parallel} in {profiles or 'any folder given'}"
        )
    return replace(settings, timing=timing, profile=folder)


def run_case(case: MeasuredCase, timing: str, profiles: Path | None) -> CaseResult:
    """Replay a measured case and compare. Raises ValueError as ``with_timing`` and ``replay``."""
    timed = replace(case, settings=with_timing(case.settings, timing, profiles))
    start = time.perf_counter()
    replayed = replay(timed.settings)
    wall_s = time.perf_counter() - start
    return CaseResult(timed, replayed, compare(timed, replayed), wall_s)


def unmeasured_runs(folder: Path, cases: list[MeasuredCase]) -> list[PublishedRun]:
    """Published runs whose workload lies in the folder and whose measurements do not."""
    measured = [published_run(case.settings) for case in cases]
    return [
        run for run in PUBLISHED_RUNS if run not in measured and (folder / run.workload).is_file()
    ]


def run_unmeasured(
    run: PublishedRun, folder: Path, timing: str, profiles: Path | None
) -> UnmeasuredResult:
    """Replay a published run without its measurements. Raises ValueError as ``run_case``."""
    settings = with_timing(run.settings(folder), timing, profiles)
    start = time.perf_counter()
    replayed = replay(settings)
    return UnmeasuredResult(run, timing, replayed, time.perf_counter() - start)
