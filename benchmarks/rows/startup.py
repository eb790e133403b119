"""From a fresh interpreter to the first observation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.measure import Bench, Result, Table, Target, spread

_CHILD = """
import time; t = [time.perf_counter()]
import agentserve_gym; t.append(time.perf_counter())
import gymnasium; env = gymnasium.make("agentserve_gym:AgentServe-v0")
t.append(time.perf_counter())
env.reset(seed=0); t.append(time.perf_counter())
import json; print(json.dumps([b - a for a, b in zip(t, t[1:])]))
"""
_PARTS = ("import agentserve_gym", "gym.make", "reset")


def startup(bench: Bench) -> list[Result]:
    """``import agentserve_gym``, ``gym.make`` and ``reset`` in fresh processes."""
    times: list[list[float]] = []
    work = _launch(times)
    bench.interleaved({"fresh process": work}, bench.sizes.repetitions)
    kept = times[1:]
    rows = [
        [part, f"{1e3 * spread([run[index] for run in kept]).median:.0f}"]
        for index, part in enumerate((*_PARTS, "interpreter, and its end"))
    ]
    return [
        Result(
            row="startup",
            title="`import agentserve_gym`, `gym.make` and `reset` in a fresh process",
            unit="s",
            measured=spread([sum(run[:3]) for run in kept]),
            target=Target(limit=0.6, at="most", text="under 0.6 s"),
            tables=[Table(title="Start", heading=["part", "ms"], rows=rows)],
        )
    ]


def _launch(times: list[list[float]]) -> Callable[[int], float]:
    def work(_: int) -> float:
        started = time.perf_counter()
        finished = subprocess.run(
            [sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True
        )
        parts: list[float] = json.loads(finished.stdout)
        times.append([*parts, time.perf_counter() - started - sum(parts)])
        return 1.0

    return work
