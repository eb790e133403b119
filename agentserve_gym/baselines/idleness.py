"""MORI's relative idleness, and the tiers it gives programs."""

from __future__ import annotations

from collections import deque
from typing import Any

from agentserve_gym.baselines.contexts import SharedContexts
from agentserve_gym.sim import (
    ClusterView,
    PlacementDecision,
    ProgramState,
    ProgramStatus,
)

CYCLES = 5


class IdlenessRanking:
    """Which programs of an instance may be in HBM, which in DRAM, by relative idleness.

    Idleness is acting / (reasoning + acting) over the last five cycles, an ongoing gap included and
    queueing excluded. The least idle fill the HBM budget, the next the DRAM budget, the others
    wait; who has not run yet is not idle at all. A prefix that programs share takes its room once.
    Ranks are settled every ``interval_s``.
    """

    def __init__(self, interval_s: float, hbm_share: float) -> None:
        self._interval_s = interval_s
        self._hbm_share = hbm_share
        self._cycles: dict[int, deque[tuple[float, float]]] = {}
        self._totals: dict[int, tuple[float, float]] = {}
        self._tiers: dict[int, str | None] = {}
        self._settled_s: dict[int, float] = {}
        self._instance: dict[int, int] = {}
        self._context: dict[int, int] = {}

    def gap_began(self, decision: PlacementDecision) -> None:
        """A cycle ended: its acting and reasoning seconds are what was added since the last."""
        program = decision.program
        acting, reasoning = program.gap_total_s, program.attained_service_s
        acting0, reasoning0 = self._totals.get(program.index, (0.0, 0.0))
        self._totals[program.index] = (acting, reasoning)
        cycles = self._cycles.setdefault(program.index, deque(maxlen=CYCLES))
        cycles.append((acting - acting0, reasoning - reasoning0))
        self._instance[program.index] = decision.instance
        self._context[program.index] = program.context_tokens

    def admitted(self, program: ProgramState, instance: int, context_tokens: int) -> None:
        """The program runs on an instance now, with a context of this size."""
        self._instance[program.index] = instance
        self._context[program.index] = context_tokens
        self._tiers[program.index] = "hbm"

    def waits(self, program: ProgramState, instance: int, context_tokens: int) -> None:
        """A turn waits for an instance: from now on its program is ranked there."""
        self._instance[program.index] = instance
        self._context[program.index] = context_tokens

    def idleness(self, program: ProgramState, now_s: float) -> float:
        """Relative idleness in [0, 1]."""
        cycles = self._cycles.get(program.index, ())
        acting = sum(cycle[0] for cycle in cycles)
        reasoning = sum(cycle[1] for cycle in cycles)
        if program.status is ProgramStatus.TOOL_GAP:
            acting += now_s - program.gap_started_s
        total = acting + reasoning
        return acting / total if total > 0.0 else 0.0

    def tier(self, cluster: ClusterView, program: ProgramState, instance: int) -> str | None:
        """Where the program may be, ``None`` for waiting."""
        now_s = cluster.now_s
        if now_s - self._settled_s.get(instance, -self._interval_s) >= self._interval_s:
            self._settled_s[instance] = now_s
            self._settle(cluster, instance, now_s)
        return self._tiers.get(program.index)

    def has_room(
        self, cluster: ClusterView, program: ProgramState, instance: int, context_tokens: int
    ) -> bool:
        """Whether the HBM budget has room for one more program of this size."""
        live = cluster.programs
        used = SharedContexts(cluster.instances[instance].block_size_tokens)
        for index, at in self._instance.items():
            ranked_in = at == instance and self._tiers.get(index) == "hbm"
            if ranked_in and index != program.index and index in live:
                used.add(live[index], self._context[index])
        room = self._budget(cluster, instance) - used.tokens
        return not used.tokens or used.added(program, context_tokens) <= room

    def _budget(self, cluster: ClusterView, instance: int) -> float:
        view = cluster.instances[instance]
        return self._hbm_share * view.kv_blocks * view.block_size_tokens

    def _settle(self, cluster: ClusterView, instance: int, now_s: float) -> None:
        live = cluster.programs
        tables: list[dict[int, Any]] = [
            self._instance, self._context, self._cycles, self._totals, self._tiers,
        ]  # fmt: skip
        for table in tables:
            for index in [index for index in table if index not in live]:
                del table[index]
        members = [index for index, at in self._instance.items() if at == instance]
        members.sort(key=lambda index: (self.idleness(live[index], now_s), index))
        here = cluster.instances[instance]
        sharers = sum(
            view.node == here.node and view.model == here.model for view in cluster.instances
        )
        budgets = {
            "hbm": self._budget(cluster, instance),
            "dram": cluster.tier_capacity_tokens("dram", instance) / sharers,
        }
        filled = {tier: SharedContexts(here.block_size_tokens) for tier in budgets}
        for index in members:
            self._tiers[index] = None
            for tier, used in filled.items():
                more = used.added(live[index], self._context[index])
                if used.tokens + more <= budgets[tier]:
                    used.add(live[index], self._context[index])
                    self._tiers[index] = tier
                    break
