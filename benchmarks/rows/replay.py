"""Replay of measured runs of a real engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from agentserve_gym.datasets import find_data_set, missing
from agentserve_gym.sim import Simulation, run
from agentserve_gym.validation.cases import MeasuredCase, find_cases, read_case
from agentserve_gym.validation.replay import DataParallelBalancer
from benchmarks.measure import Bench, Result, Table, Target, costs, spread

_RUNS = "vllm-runs"
_TITLE = "replay of a measured run of 300 requests, compact timing"


def replays(bench: Bench) -> list[Result]:
    """Every measured run; the slowest is held against the target."""
    folder = find_data_set(_RUNS)
    if folder is None:
        return [Result(row="replay", title=_TITLE, unit="ms", missing=missing(_RUNS))]
    cases: dict[str, Callable[[int], float]] = {}
    runs: dict[str, list[float]] = {}
    for path in find_cases(folder):
        case = read_case(path)
        runs[case.name] = []
        cases[case.name] = partial(_replay, case, runs[case.name])
    samples = bench.interleaved(cases, bench.sizes.repetitions)
    # The first round is a warm-up.
    simulated = {name: spread([1e3 * seconds for seconds in runs[name][1:]]) for name in cases}
    rows = [
        [
            f"`{name}`",
            f"{simulated[name].median:.0f}",
            f"{simulated[name].low:.0f} to {simulated[name].high:.0f}",
            f"{1e-3 * costs(found).median:.0f}",
        ]
        for name, found in samples.items()
    ]
    slowest = max(simulated.values(), key=lambda value: value.median)
    return [
        Result(
            row="replay",
            title=_TITLE,
            unit="ms",
            measured=slowest,
            target=Target(limit=50, at="most", text="under 50 ms"),
            tables=[
                Table(
                    title="Replays of measured runs",
                    heading=["run", "simulation, ms", "range", "with reading the file, ms"],
                    rows=rows,
                )
            ],
        )
    ]


def _replay(case: MeasuredCase, seconds: list[float], _repetition: int) -> float:
    """Read the workload, replay it, and note how long the replay alone took."""
    settings = replace(case.settings, timing="compact")
    simulation = Simulation(settings.scenario(), record_turns=True)
    started = time.perf_counter()
    run(simulation, DataParallelBalancer())
    seconds.append(time.perf_counter() - started)
    return 1.0
