"""A record of how full the pools are and what programs do over time, for pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import ProgramState, ProgramStatus
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.kernel.tiers import HBM_NAME


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass
class Timeline(Copyable):
    """Samples taken as turns finish.

    Attributes:
        time_s: of each sample.
        occupancy: per tier of the cluster, ``hbm`` first, share of its blocks in use (all its pools
            together).
        held: per tier, the part of ``occupancy`` that cannot be reclaimed: running, in flight or
            pinned. The rest is cache. ``pinned``: the part of HBM that only pins hold.
        statuses: per program status, number of programs.
    """

    time_s: list[float] = field(default_factory=list)
    occupancy: dict[str, list[float]] = field(default_factory=dict)
    held: dict[str, list[float]] = field(default_factory=dict)
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
        hbm = [engine.pool for engine in engines]
        pools: dict[str, list[BlockPool]] = {HBM_NAME: hbm}
        for lower in residency.topology.tiers:
            pools[lower.name] = lower.pools
        self.time_s.append(now_s)
        for tier, members in pools.items():
            capacity = sum(pool.capacity for pool in members)
            used = sum(pool.capacity - pool.free for pool in members)
            self.occupancy.setdefault(tier, []).append(used / capacity)
            held = sum(pool.held for pool in members)
            self.held.setdefault(tier, []).append(held / capacity)
        pinned = sum(pool.reclaimable_pinned() for pool in hbm)
        self.pinned.append(pinned / sum(pool.capacity for pool in hbm))
        counts = dict.fromkeys(ProgramStatus, 0)
        for program in live.values():
            counts[program.status] += 1
        for status, count in counts.items():
            self.statuses[status].append(count)
