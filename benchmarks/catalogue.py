"""Every row of the page, in its order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure import Bench, Result
from benchmarks.rows import (
    decode,
    environment,
    replay,
    rooms,
    scaling,
    simulation,
    startup,
    training,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A command: its name, what it measures, and how; it may fill several rows of the page."""

    name: str
    help: str
    measure: Callable[[Bench], list[Result]]


ROWS = {
    row.name: row
    for row in (
        Row("peer", "turns/s on the peer workload, policies that know the caches", simulation.peer),
        Row("default", "turns/s on the default scenario under heuristics", simulation.default),
        Row("step", "env.step of AgentServe-v0, and what it consists of", environment.step),
        Row("vector", "the native vector environment against DummyVecEnv", environment.vector),
        Row("training", "where MaskablePPO's wall time goes", training.training),
        Row("fused", "fused decode against step by step, same results", decode.fused),
        Row("replay", "replays of measured runs, compact timing", replay.replays),
        Row("turns", "cost of a turn in one run of up to 10^6 turns, and memory", scaling.turns),
        Row("instances", "cost of a turn on 1 to 64 instances", scaling.instances),
        Row("live-programs", "cost of a turn at 10 to 10,000 live programs", scaling.live_programs),
        Row("startup", "import, gym.make and reset in a fresh process", startup.startup),
        Row("rooms", "events per turn and share of time per room", rooms.rooms),
    )
}
