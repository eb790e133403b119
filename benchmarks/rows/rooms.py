"""Events per turn, and in which part of the package the time goes."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

import gymnasium as gym

import agentserve_gym
from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.envs.actions import RouteActions
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from benchmarks.measure import Bench, Result, Table
from benchmarks.rows.environment import ENV_ID
from benchmarks.workloads import peer_scenario

_PACKAGE = Path(agentserve_gym.__file__).parent
_INTERVAL_S = 0.001

# Modules of sim/ by what they simulate; the others are "sim: the rest".
_PARTS_OF_SIM = {
    "engine": ("engine", "stepper", "segments", "batch", "shapes", "turn_blocks", "victims"),
    "residency": ("pools", "residency", "links", "memory", "tiers"),
    "router and programs": (
        "router",
        "orchestrator",
        "views",
        "signals",
        "decisions",
        "answers",
        "programs",
        "tools",
        "tool_statistics",
    ),
    "clock": ("events",),
}
_ROOM_OF_MODULE = {
    module: f"sim: {part}" for part, modules in _PARTS_OF_SIM.items() for module in modules
}
_OUTSIDE = "outside the package"


def rooms(bench: Bench) -> list[Result]:
    """Sample where runs are, and count what they do per turn."""
    peer = peer_scenario(bench.sizes.programs)
    default = load_scenario("default")
    subjects: dict[str, Callable[[int], None]] = {
        "peer, `lmetric`": lambda seed: _run(peer, "lmetric", seed),
        "default, `affinity+lru`": lambda seed: _run(default, "affinity+lru", seed),
        "`env.step`, default": _episode,
    }
    shares: dict[str, Counter[str]] = {}
    for number, (name, work) in enumerate(subjects.items()):
        bench.report(name, number, len(subjects))
        shares[name] = _sampled(work, bench.sizes.samples)
    bench.report("", len(subjects), len(subjects))
    return [
        Result(
            row="rooms",
            title="events per turn and time per room",
            unit="",
            tables=[_counts({"peer": peer, "default": default}), _shares(shares)],
        )
    ]


@cache
def room_of(path: str) -> str:
    """The room of a source file: a folder of the package, or a part of ``sim/``."""
    try:
        parts = Path(path).relative_to(_PACKAGE).parts
    except ValueError:
        return _OUTSIDE
    if parts[0] != "sim":
        return parts[0] if len(parts) > 1 else "agentserve_gym"
    return _ROOM_OF_MODULE.get(parts[-1].removesuffix(".py"), "sim: the rest")


def _run(scenario: Scenario, policy: str, seed: int) -> None:
    run_policy(Simulation(scenario, seed), parse_policy(policy))


def _episode(seed: int) -> None:
    env = gym.make(ENV_ID)
    env.reset(seed=seed)
    over = False
    number = 0
    while not over:
        _, _, terminated, truncated, _ = env.step((RouteActions.to(number % 4), 0))
        over = terminated or truncated
        number += 1


def _sampled(work: Callable[[int], None], samples: int) -> Counter[str]:
    """Run until so many samples are taken; time in built-ins counts for who called them."""
    found: Counter[str] = Counter()
    seed = 0
    with _sampling(found):
        while found.total() < samples:
            work(seed)
            seed += 1
    return found


@contextmanager
def _sampling(found: Counter[str]) -> Iterator[None]:
    """Note the room at every tick; the next tick is set when one was noted, so none meets another
    however slow noting is."""
    on = True

    def note(_signal: int, frame: FrameType | None) -> None:
        found[_room_in(frame)] += 1
        if on:
            signal.setitimer(signal.ITIMER_REAL, _INTERVAL_S)

    before = signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, _INTERVAL_S)
    try:
        yield
    finally:
        on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _room_in(frame: FrameType | None) -> str:
    """The room of the innermost function of the package."""
    while frame is not None:
        room = room_of(frame.f_code.co_filename)
        if room != _OUTSIDE:
            return room
        frame = frame.f_back
    return _OUTSIDE


def _counts(scenarios: dict[str, Scenario]) -> Table:
    rows = []
    for name, scenario in scenarios.items():
        for policy in ("affinity+lru", "lmetric"):
            simulation = Simulation(scenario, 0)
            report = run_policy(simulation, parse_policy(policy))
            turns = report["turns"]
            rows.append(
                [
                    f"{name}, `{policy}`",
                    f"{turns:,}",
                    f"{simulation.clock.scheduled_events / turns:.2f}",
                    f"{report['steps'] / turns:.1f}",
                    f"{report['output_tokens'] / turns:.0f}",
                ]
            )
    heading = ["run", "turns", "events per turn", "engine steps per turn", "output tokens per turn"]
    return Table(
        title="Events per turn",
        heading=heading,
        rows=rows,
        note="Engine steps are simulated in runs of many, so a turn needs fewer events than steps.",
    )


def _shares(shares: dict[str, Counter[str]]) -> Table:
    names = sorted(
        {room for found in shares.values() for room in found},
        key=lambda room: -max(found[room] / found.total() for found in shares.values()),
    )
    rows = [
        [room, *(f"{found[room] / found.total():.0%}" for found in shares.values())]
        for room in names
    ]
    counts = ", ".join(f"{found.total():,}" for found in shares.values())
    return Table(
        title="Share of time per room",
        heading=["room", *shares],
        rows=rows,
        note=f"Sampled every millisecond ({counts} samples); built-ins, NumPy and SimPy count for "
        "the module that called them. The environment's column includes `gym.make` and `reset`.",
    )
