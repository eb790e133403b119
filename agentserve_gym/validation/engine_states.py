"""What an engine's monitor shows once a second: running and waiting turns, KV use, bytes moved."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from agentserve_gym.sim import Simulation
from agentserve_gym.sim.environment import SimpyEnvironment


@dataclass(slots=True)
class EngineStates:
    """Samples of all engines together, one each ``every_s`` seconds from 0 on.

    Attributes:
        time_s: of each sample.
        running, waiting: turns in batches, and turns in engines' queues or loading KV.
        kv_usage_pct: share of the HBM pools that running and loading turns hold; what is merely
            cached does not count, as in vLLM's metric.
        host_kv_usage_pct: share of the nearest lower tier in use; 0 where there is none.
        host_gb_out, host_gb_in: moved from and to the GPUs so far, 1e9 bytes.
    """

    every_s: float = 1.0
    time_s: list[float] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    kv_usage_pct: list[float] = field(default_factory=list)
    host_kv_usage_pct: list[float] = field(default_factory=list)
    host_gb_out: list[float] = field(default_factory=list)
    host_gb_in: list[float] = field(default_factory=list)

    def watch(self, simulation: Simulation) -> None:
        """Sample a fresh simulation as its clock runs."""
        environment = SimpyEnvironment(simulation.clock)
        environment.process(self._sample_forever(environment, simulation))

    def as_dict(self) -> dict[str, list[float] | list[int]]:
        """Every series by name."""
        return {
            "time_s": self.time_s,
            "running": self.running,
            "waiting": self.waiting,
            "kv_usage_pct": self.kv_usage_pct,
            "host_kv_usage_pct": self.host_kv_usage_pct,
            "host_gb_out": self.host_gb_out,
            "host_gb_in": self.host_gb_in,
        }

    def _sample_forever(
        self, environment: SimpyEnvironment, simulation: Simulation
    ) -> Generator[Any, Any, None]:
        while True:
            self.sample(simulation)
            yield environment.timeout(self.every_s)

    def sample(self, simulation: Simulation) -> None:
        """Take one sample now."""
        engines = simulation.engines
        for engine in engines:
            engine.synchronize()
        capacity = sum(engine.pool.capacity for engine in engines)
        held = sum(engine.pool.held for engine in engines)
        lower = simulation.residency.topology.tiers
        below = lower[0].pools if lower else []
        room = sum(pool.capacity for pool in below)
        out, into = moved_gb(simulation)
        self.time_s.append(simulation.now_s)
        self.running.append(sum(len(engine.running) for engine in engines))
        queues = [engine.queue for engine in engines]
        self.waiting.append(sum(len(queue.turns) + len(queue.loading) for queue in queues))
        self.kv_usage_pct.append(100 * held / capacity)
        self.host_kv_usage_pct.append(
            100 * sum(pool.capacity - pool.free for pool in below) / room if room else 0.0
        )
        self.host_gb_out.append(out)
        self.host_gb_in.append(into)


def moved_gb(simulation: Simulation) -> tuple[float, float]:
    """Moved from and to the GPUs over their host links so far, 1e9 bytes each."""
    links = simulation.residency.topology.links.items()
    out = sum(link.moved_bytes for name, link in links if name.endswith(" d2h"))
    into = sum(link.moved_bytes for name, link in links if name.endswith(" h2d"))
    return out / 1e9, into / 1e9
