"""The observation builder: what a live router knows at a decision, as numbers in [0, 1].

It reads decisions and views only, never the simulation behind them, so it cannot see a program's
future. Raw numbers are packed into one vector and scaled by a handful of array operations; the
static part of each instance's row is written once per episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log1p, sqrt
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.features import (
    DYNAMIC_INSTANCE_FEATURES,
    INSTANCE_FEATURES,
    ObservationLayout,
)
from agentserve_gym.envs.instance_rows import InstanceRows
from agentserve_gym.envs.prefill_estimate import PrefillEstimate
from agentserve_gym.envs.recent_calls import RecentCalls
from agentserve_gym.hardware.timing import BatchStep
from agentserve_gym.sim import (
    ClusterView,
    Decision,
    InstanceView,
    Phase,
    PlacementDecision,
    RouteDecision,
    Tier,
)
from agentserve_gym.sim.tools import KindStatistics

_REFERENCE_PREFILL_TOKENS = 8192
_REFERENCE_DECODE = BatchStep(
    decode_count=32,
    decode_context_tokens=32 * 8192,
    decode_max_context_tokens=8192,
    sampled_count=32,
)
_NO_STATISTICS = KindStatistics()
_ROW_BYTES = 8 * len(INSTANCE_FEATURES)
_DYNAMIC_ROW = Struct(f"{DYNAMIC_INSTANCE_FEATURES}d")
_STATIC_ROW = Struct(f"{len(INSTANCE_FEATURES) - DYNAMIC_INSTANCE_FEATURES}d")


class ObservationBuilder:
    """Writes observations of one cluster into a buffer of its own.

    Attributes:
        layout: where each feature lies.
        buffer: float32, shape ``(layout.size,)``; overwritten by each ``write``.
    """

    def __init__(self, max_instances: int, pin_ttls_s: Sequence[float]) -> None:
        """Lay out observations with ``max_instances`` rows and shares for these pin TTLs."""
        self.layout = ObservationLayout(max_instances, pin_ttls_s)
        self.buffer: NDArray[np.float32] = np.zeros(self.layout.size, np.float32)
        self._ttls_s = tuple(pin_ttls_s)
        features = self.layout.features
        self._slope = np.array([1.0 / (f.unit if f.scale == "log" else f.full) for f in features])
        self._is_log = np.array([f.scale == "log" for f in features])
        self._factor = np.array(
            [1.0 / log1p(f.full / f.unit) if f.scale == "log" else 1.0 for f in features]
        )
        self._one = np.ones(1)
        self._scaled = np.zeros(self.layout.size)
        self._logs = np.zeros(self.layout.size)
        self._single = Struct(f"{self.layout.instances_start}d")
        self._blank = [0.0] * sum(
            len(self.layout.groups[group]) for group in ("decision", "program", "tools")
        )
        self._memory = bytearray(8 * self.layout.size)
        self._raw = np.frombuffer(self._memory)
        self._rows = InstanceRows()
        self._prefill_s: list[PrefillEstimate] = []
        self._estimates: dict[int, PrefillEstimate] = {}
        self._recent: dict[int, RecentCalls] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"max_instances": self.layout.max_instances, "pin_ttls_s": self._ttls_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay out anew: whoever copies or unpickles a builder attaches it before use."""
        self.__init__(**state)  # type: ignore[misc]

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster: write what never changes within it."""
        self._raw[:] = 0.0
        self._recent = {}
        estimates = [self._estimate(view) for view in cluster.instances]
        self._estimates = {id(estimate.latency): estimate for estimate in estimates}
        for view, prefill_s in zip(cluster.instances, estimates, strict=True):
            _STATIC_ROW.pack_into(
                self._memory,
                self._row_offset(view.index) + 8 * DYNAMIC_INSTANCE_FEATURES,
                1.0,
                cluster.has_dram[view.index],
                cluster.has_cxl[view.index],
                view.kv_blocks * view.block_size_tokens,
                prefill_s(_REFERENCE_PREFILL_TOKENS, 0),
                view.latency.step_s(_REFERENCE_DECODE),
            )
        self._prefill_s = estimates
        self._rows.attach(cluster, estimates)

    def _estimate(self, view: InstanceView) -> PrefillEstimate:
        """An estimate for an instance; kept from the last episode where its latency model was."""
        known = self._estimates.get(id(view.latency))
        if known is not None and known.latency is view.latency:
            return known
        return PrefillEstimate(view.latency, view.max_num_batched_tokens)

    def write(self, decision: Decision) -> NDArray[np.float32]:
        """Observe a decision; returns ``buffer``."""
        program, cluster = decision.program, decision.cluster
        if isinstance(decision, RouteDecision):
            rows = self._rows.at_route(decision.turn)
            single = self._route_features(decision)
        else:
            rows = self._rows.at_placement(program)
            single = self._placement_features(decision)
        single += self._tool_features(cluster, program.gap_tool_kinds, program.gap_kind)
        return self._finish(single, rows, cluster, isinstance(decision, RouteDecision))

    def write_end(self, cluster: ClusterView) -> NDArray[np.float32]:
        """Observe a cluster when nothing is asked (any more): no decision, program or tool."""
        return self._finish(list(self._blank), self._rows.at_end(), cluster, False)

    # --- groups ------------------------------------------------------------------------------

    def _row_offset(self, instance: int) -> int:
        return 8 * self.layout.instances_start + instance * _ROW_BYTES

    def _route_features(self, decision: RouteDecision) -> list[float]:
        turn = decision.turn
        single = [1.0, 0.0, decision.may_hold, decision.offers, decision.time_s - turn.ready_s]
        new_tokens = turn.prompt_tokens - turn.reuse_tokens
        single += self._program_features(decision, turn.prompt_tokens, new_tokens)
        single += (0.0, 0.0, 0.0)
        return single

    def _placement_features(self, decision: PlacementDecision) -> list[float]:
        cluster, program, home = decision.cluster, decision.program, decision.instance
        single = [0.0, 1.0, 0.0, 0.0, 0.0]
        single += self._program_features(decision, 0, 0)
        single.append(self._prefill_s[home](program.context_tokens, 0))
        for tier, reachable in ((Tier.DRAM, cluster.has_dram), (Tier.CXL, cluster.has_cxl)):
            if reachable[home]:
                there = cluster.chain_tokens(program, home, tier)
                left = max(program.context_tokens - there, 0)
                single.append(cluster.offload_s(program, tier, left))
            else:
                single.append(0.0)
        return single

    @staticmethod
    def _program_features(
        decision: Decision, prompt_tokens: int, new_tokens: int
    ) -> tuple[float, ...]:
        """The program group but for the prices at its end."""
        program = decision.program
        elapsed = decision.time_s - program.arrival_s
        turns, gaps, generated = program.turns_done, program.gaps, program.generated_tokens
        return (
            turns,
            program.context_tokens,
            prompt_tokens,
            new_tokens,
            generated,
            generated / turns if turns else 0.0,
            elapsed,
            program.attained_service_s,
            program.phase_s[Phase.QUEUE] / elapsed if elapsed > 0.0 else 0.0,
            gaps,
            program.gap_total_s / gaps if gaps else 0.0,
            program.last_gap_s,
            program.parent is not None,
            program.home >= 0,
            program.pinned_at >= 0 and decision.cluster.is_pinned(program),
        )

    def _tool_features(
        self, cluster: ClusterView, kinds: tuple[str, ...], gap_kind: str
    ) -> tuple[float, ...]:
        """Statistics of the slowest known kind of the gap that begins (placement) or ended."""
        tools = cluster.tools
        slowest: KindStatistics | None = None
        for name in kinds or (gap_kind,):
            kind = tools.kind(name)
            if kind is not None and (slowest is None or kind.mean_s > slowest.mean_s):
                slowest = kind
        kind = slowest if slowest is not None else _NO_STATISTICS
        overall = tools.overall
        return (
            gap_kind == "user",
            len(kinds),
            slowest is not None,
            kind.count,
            kind.mean_s,
            kind.ema_s,
            exp(kind.log_mean) if kind.count else 0.0,
            sqrt(kind.log_variance),
            *self._shares_within(kind),
            overall.mean_s,
            overall.ema_s,
            *self._shares_within(overall),
        )

    def _shares_within(self, kind: KindStatistics) -> list[float]:
        """Share of recent durations within each pin TTL."""
        known = self._recent.get(id(kind))
        if known is None or known.kind is not kind:
            known = self._recent[id(kind)] = RecentCalls(kind, self._ttls_s)
        return known.shares_within()

    def _finish(
        self, single: list[float], rows: InstanceRows, cluster: ClusterView, routing: bool
    ) -> NDArray[np.float32]:
        """Add the global group, pack everything, scale it into the buffer."""
        live, held = cluster.live_programs, cluster.held_turns
        share = 1.0 / rows.pool_blocks
        self._single.pack_into(
            self._memory,
            0,
            *single,
            cluster.now_s,
            live,
            max(live - rows.sent_turns - held - routing, 0),
            held,
            rows.sent_turns,
            rows.queued_turns,
            cluster.live_context_tokens / rows.pool_tokens,
            1.0 - (rows.free_blocks + rows.cached_blocks) * share,
            rows.cached_blocks * share,
            rows.dram_used,
            rows.cxl_used,
        )
        offset = self._row_offset(0)
        for row in rows.values:
            _DYNAMIC_ROW.pack_into(self._memory, offset, *row)
            offset += _ROW_BYTES
        scaled = self._scaled
        np.multiply(self._raw, self._slope, out=scaled)
        np.log1p(scaled, out=self._logs)
        np.copyto(scaled, self._logs, where=self._is_log)
        np.multiply(scaled, self._factor, out=scaled)
        np.minimum(scaled, self._one, out=scaled)
        self.buffer[:] = scaled
        return self.buffer
