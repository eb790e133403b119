"""How much KV the live programs of a run want, against the KV that HBM can hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agentserve_gym.sim import Simulation

_EVERY = 16
"""Decisions from one sample to the next: a sample looks at every live program."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Over the time in which it was sampled.

    Attributes:
        live: mean number of root programs that have arrived and are not done.
        working_set, working_set_p90: mean and 90th percentile of the live programs' contexts as a
            share of all HBM blocks. A shared prefix counts once for each instance, or for each
            program that has it where those are fewer.
    """

    live: float
    working_set: float
    working_set_p90: float


NO_PRESSURE = Pressure(0.0, 0.0, 0.0)


class PressureMeter:
    """Samples a simulation at every few decisions, each sample weighted by the time up to it."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._pool_blocks = sum(engine.pool.capacity for engine in simulation.engines)
        self._calls = 0
        self._since_s = simulation.now_s
        self._weights_s: list[float] = []
        self._live: list[int] = []
        self._working_set: list[float] = []

    def observe(self) -> None:
        """The simulation stands at its next decision."""
        self._calls += 1
        if self._calls % _EVERY == 0:
            simulation = self._simulation
            self._weights_s.append(simulation.now_s - self._since_s)
            self._since_s = simulation.now_s
            self._live.append(simulation.orchestrator.unfinished.count)
            self._working_set.append(working_set_blocks(simulation) / self._pool_blocks)

    def result(self) -> Pressure:
        """What was sampled; zeros for a run of a few decisions."""
        weights = np.array(self._weights_s)
        total_s = float(weights.sum())
        if total_s <= 0.0:
            return NO_PRESSURE
        sizes = np.array(self._working_set)
        order = np.argsort(sizes)
        at = int(np.searchsorted(np.cumsum(weights[order]), 0.9 * total_s))
        return Pressure(
            live=float(weights @ np.array(self._live) / total_s),
            working_set=float(weights @ sizes / total_s),
            working_set_p90=float(sizes[order][min(at, sizes.size - 1)]),
        )


def working_set_blocks(simulation: Simulation) -> float:
    """KV blocks of the live programs' contexts at this moment; a shared prefix as ``Pressure``
    counts it."""
    size = simulation.scenario.engine.block_size_tokens
    instances = len(simulation.engines)
    own = 0.0
    sharers: dict[str, int] = {}
    blocks: dict[str, int] = {}
    for program in simulation.orchestrator.live.values():
        own += max(program.context_tokens / size - program.shared_blocks, 0.0)
        for key, length in program.prefix:
            sharers[key] = sharers.get(key, 0) + 1
            blocks[key] = length
    return own + sum(min(sharers[key], instances) * length for key, length in blocks.items())
