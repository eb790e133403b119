"""A record of how full the pools are and what programs do over time, for pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentserve_gym.sim.decisions import Tier
from agentserve_gym.sim.engine import Engine
from agentserve_gym.sim.programs import ProgramState, ProgramStatus
from agentserve_gym.sim.residency import Residency


@dataclass(slots=True)
class Timeline:
    """Samples taken as turns finish.

    Attributes:
        time_s: of each sample.
        occupancy: per tier, share of its blocks in use (all instances or nodes together).
        statuses: per program status, number of programs.
    """

    time_s: list[float] = field(default_factory=list)
    occupancy: dict[Tier, list[float]] = field(default_factory=lambda: {tier: [] for tier in Tier})
    statuses: dict[ProgramStatus, list[int]] = field(
        default_factory=lambda: {status: [] for status in ProgramStatus}
    )

    def sample(
        self,
        now_s: float,
        engines: list[Engine],
        residency: Residency,
        live: dict[int, ProgramState],
    ) -> None:
        """Take one sample."""
        for engine in engines:
            engine.synchronize()
        topology = residency.topology
        pools: dict[Tier, list[Any]] = {
            Tier.HBM: [engine.pool for engine in engines],
            Tier.DRAM: [pool for pool in topology.dram if pool is not None],
            Tier.CXL: [topology.cxl] if topology.cxl is not None else [],
        }
        self.time_s.append(now_s)
        for tier, members in pools.items():
            capacity = sum(pool.capacity for pool in members)
            used = capacity - sum(pool.free for pool in members)
            self.occupancy[tier].append(used / capacity if capacity else 0.0)
        counts = dict.fromkeys(ProgramStatus, 0)
        for program in live.values():
            counts[program.status] += 1
        for status, count in counts.items():
            self.statuses[status].append(count)
