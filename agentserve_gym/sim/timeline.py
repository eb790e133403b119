"""A record of how full the pools are and what programs do over time, for pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import ProgramState, ProgramStatus
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.kernel.tiers import Tier


@dataclass(slots=True)
class Timeline:
    """Samples taken as turns finish.

    Attributes:
        time_s: of each sample.
        occupancy: per tier, share of its blocks in use (all instances or nodes together); 0 for a
            tier that the cluster lacks.
        held: per tier, the part of ``occupancy`` that cannot be reclaimed: running, in flight or
            pinned. The rest is cache. ``pinned``: the part of HBM that only pins hold.
        statuses: per program status, number of programs.
    """

    time_s: list[float] = field(default_factory=list)
    occupancy: dict[Tier, list[float]] = field(default_factory=lambda: {tier: [] for tier in Tier})
    held: dict[Tier, list[float]] = field(default_factory=lambda: {tier: [] for tier in Tier})
    pinned: list[float] = field(default_factory=list)
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
        hbm = [engine.pool for engine in engines]
        pools: dict[Tier, list[BlockPool]] = {
            Tier.HBM: hbm,
            Tier.DRAM: [pool for pool in topology.dram if pool is not None],
            Tier.CXL: [topology.cxl] if topology.cxl is not None else [],
        }
        self.time_s.append(now_s)
        for tier, members in pools.items():
            capacity = sum(pool.capacity for pool in members) or 1
            self.occupancy[tier].append(sum(p.capacity - p.free for p in members) / capacity)
            self.held[tier].append(sum(pool.held for pool in members) / capacity)
        pinned = sum(pool.reclaimable_pinned() for pool in hbm)
        self.pinned.append(pinned / sum(pool.capacity for pool in hbm))
        counts = dict.fromkeys(ProgramStatus, 0)
        for program in live.values():
            counts[program.status] += 1
        for status, count in counts.items():
            self.statuses[status].append(count)
