"""Replay of measured runs of a real engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agentserve_gym.sim import Simulation, run
from agentserve_gym.validation.cases import MeasuredCase, find_cases, read_case
from agentserve_gym.validation.replay import DataParallelBalancer
from benchmarks.measure import Bench, Result, Table, Target, costs, spread

RUNS = Path(__file__).parents[2].parent / "shared" / "data" / "vllm_runs"
_TITLE = "replay of a measured run of 300 requests, compact timing"


def replays(bench: Bench, folder: Path = RUNS) -> list[Result]:
    """Every measured run in the folder; the slowest is held against the target."""
    if not folder.is_dir():
        missing = "the measured runs are not here (they belong into ../shared/data/vllm_runs)"
        return [Result(row="replay", title=_TITLE, unit="ms", missing=missing)]
    cases: dict[str, Callable[[int], float]] = {}
    names: list[str] = []
    for path in find_cases(folder):
        case = read_case(path)
        names.append(case.name)
        cases[case.name] = _replay(case)
        cases[f"{case.name}, file read"] = _read(case)
    samples = bench.interleaved(cases, bench.sizes.repetitions)
    rows = []
    for name in names:
        whole, reading = (costs(samples[key]) for key in (name, f"{name}, file read"))
        rows.append(
            [
                f"`{name}`",
                f"{1e-3 * (whole.median - reading.median):.0f}",
                f"{1e-3 * whole.median:.0f}",
            ]
        )
    slowest = max(
        (
            [
                1e-3 * (whole.microseconds - reading.microseconds)
                for whole, reading in zip(samples[name], samples[f"{name}, file read"], strict=True)
            ]
            for name in names
        ),
        key=lambda values: spread(values).median,
    )
    return [
        Result(
            row="replay",
            title=_TITLE,
            unit="ms",
            measured=spread(slowest),
            target=Target(limit=50, at="most", text="under 50 ms"),
            tables=[
                Table(
                    title="Replays of measured runs",
                    heading=["run", "simulation, ms", "with reading the file, ms"],
                    rows=rows,
                )
            ],
        )
    ]


def _simulation(case: MeasuredCase) -> Simulation:
    settings = replace(case.settings, timing="compact")
    return Simulation(settings.scenario(), record_turns=True)


def _replay(case: MeasuredCase) -> Callable[[int], float]:
    def work(_: int) -> float:
        run(_simulation(case), DataParallelBalancer())
        return 1.0

    return work


def _read(case: MeasuredCase) -> Callable[[int], float]:
    def work(_: int) -> float:
        _simulation(case)
        return 1.0

    return work
