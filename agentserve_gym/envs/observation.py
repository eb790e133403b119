"""The observation builder: what a live router knows at a decision, as numbers in [0, 1].

It reads decisions and views only, never the simulation behind them, so it cannot see a program's
future. Raw numbers are gathered into one vector and scaled by five array operations; the static
part of each instance's row is written once per episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.features import (
    DYNAMIC_INSTANCE_FEATURES,
    INSTANCE_FEATURES,
    ObservationLayout,
)
from agentserve_gym.hardware.timing import BatchStep
from agentserve_gym.sim import (
    ClusterView,
    Decision,
    InstanceView,
    Phase,
    PlacementDecision,
    ProgramState,
    RouteDecision,
    Tier,
    TurnState,
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
        self._raw = np.zeros(self.layout.size)
        self._scaled = np.zeros(self.layout.size)
        features = self.layout.features
        self._slope = np.array([1.0 / (f.unit if f.scale == "log" else f.full) for f in features])
        self._is_log = np.array([f.scale == "log" for f in features])
        self._factor = np.array(
            [1.0 / log1p(f.full / f.unit) if f.scale == "log" else 1.0 for f in features]
        )
        self._single = self._raw[: self.layout.instances_start]
        self._rows = self._raw[self.layout.instances_start :].reshape(max_instances, -1)
        self._backlog_s_per_token: list[float] = []
        self._pool_blocks = 1
        self._within: dict[int, tuple[int, KindStatistics, list[float]]] = {}

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster: write what never changes within it."""
        self._raw[:] = 0.0
        self._within = {}
        self._backlog_s_per_token = []
        self._pool_blocks = sum(view.kv_blocks for view in cluster.instances)
        for view in cluster.instances:
            prefill_s = cluster.prefill_s(view.index, _REFERENCE_PREFILL_TOKENS, 0)
            self._backlog_s_per_token.append(prefill_s / _REFERENCE_PREFILL_TOKENS)
            self._rows[view.index, DYNAMIC_INSTANCE_FEATURES:] = (
                1.0,
                cluster.has_dram[view.index],
                cluster.has_cxl[view.index],
                view.kv_blocks * view.block_size_tokens,
                prefill_s,
                view.latency.step_s(_REFERENCE_DECODE),
            )

    def write(self, decision: Decision) -> NDArray[np.float32]:
        """Observe a decision; returns ``buffer``."""
        program, cluster = decision.program, decision.cluster
        rows = _Rows(self, cluster, decision.program)
        if isinstance(decision, RouteDecision):
            rows.gather_route(decision.turn)
            single = self._route_features(decision)
        else:
            rows.gather_placement()
            single = self._placement_features(decision)
        kinds, user = program.gap_tool_kinds, program.gap_kind == "user"
        single += self._tool_features(cluster, kinds, program.gap_kind, user)
        return self._finish(single, rows, cluster, isinstance(decision, RouteDecision))

    def write_end(self, cluster: ClusterView) -> NDArray[np.float32]:
        """Observe a cluster when nothing is asked (any more): no decision, program or tool."""
        rows = _Rows(self, cluster, None)
        rows.gather_idle()
        layout = self.layout.groups
        blank = [0.0] * sum(len(layout[group]) for group in ("decision", "program", "tools"))
        return self._finish(blank, rows, cluster, False)

    # --- groups ------------------------------------------------------------------------------

    def _route_features(self, decision: RouteDecision) -> list[float]:
        turn = decision.turn
        now = decision.time_s
        single = [1.0, 0.0, decision.may_hold, decision.offers, now - turn.ready_s]
        new_tokens = turn.prompt_tokens - turn.reuse_tokens
        self._program_features(single, decision, turn.prompt_tokens, new_tokens)
        single += (0.0, 0.0)
        return single

    def _placement_features(self, decision: PlacementDecision) -> list[float]:
        single = [0.0, 1.0, 0.0, 0.0, 0.0]
        self._program_features(single, decision, 0, 0)
        cluster, program, home = decision.cluster, decision.program, decision.instance
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
        single: list[float], decision: Decision, prompt_tokens: int, new_tokens: int
    ) -> None:
        program, now = decision.program, decision.time_s
        elapsed = now - program.arrival_s
        turns, gaps, home = program.turns_done, program.gaps, program.home
        cluster = decision.cluster
        single += (
            turns,
            program.context_tokens,
            prompt_tokens,
            new_tokens,
            program.generated_tokens,
            program.generated_tokens / turns if turns else 0.0,
            elapsed,
            program.attained_service_s,
            program.phase_s[Phase.QUEUE] / elapsed if elapsed > 0.0 else 0.0,
            gaps,
            program.gap_total_s / gaps if gaps else 0.0,
            program.last_gap_s,
            program.is_subagent,
            home >= 0,
            program.pinned_at >= 0 and cluster.is_pinned(program),
            cluster.prefill_s(home, program.context_tokens, 0) if home >= 0 else 0.0,
        )

    def _tool_features(
        self, cluster: ClusterView, kinds: tuple[str, ...], gap_kind: str, user: bool
    ) -> list[float]:
        """Statistics of the slowest known kind of the gap that begins (placement) or ended."""
        tools = cluster.tools
        slowest: KindStatistics | None = None
        for name in kinds or (gap_kind,):
            kind = tools.kind(name)
            if kind is not None and (slowest is None or kind.mean_s > slowest.mean_s):
                slowest = kind
        kind = slowest if slowest is not None else _NO_STATISTICS
        overall = tools.overall
        return [
            user,
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
        ]

    def _shares_within(self, kind: KindStatistics) -> list[float]:
        """Share of recent durations within each pin TTL; counted anew only after a new call."""
        known = self._within.get(id(kind))
        if known is not None and known[0] == kind.count and known[1] is kind:
            return known[2]
        recent = kind.recent
        number = max(len(recent), 1)
        shares = [sum(1 for value in recent if value <= ttl) / number for ttl in self._ttls_s]
        self._within[id(kind)] = (kind.count, kind, shares)
        return shares

    def _finish(
        self, single: list[float], rows: _Rows, cluster: ClusterView, routing: bool
    ) -> NDArray[np.float32]:
        number = len(cluster.instances)
        in_gap = cluster.live_programs - rows.sent_turns - cluster.held_turns - routing
        single += (
            cluster.now_s,
            cluster.live_programs,
            max(in_gap, 0),
            cluster.held_turns,
            rows.sent_turns,
            rows.queued_turns,
            cluster.live_context_tokens
            / (self._pool_blocks * cluster.instances[0].block_size_tokens),
            1.0 - (rows.free_blocks + rows.cached_blocks) / self._pool_blocks,
            rows.cached_blocks / self._pool_blocks,
            rows.dram_used / number,
            rows.cxl_used / number,
        )
        self._single[:] = single
        self._rows[:number, :DYNAMIC_INSTANCE_FEATURES] = rows.values
        scaled = self._scaled
        np.multiply(self._raw, self._slope, out=scaled)
        np.log1p(scaled, out=scaled, where=self._is_log)
        np.multiply(scaled, self._factor, out=scaled)
        np.maximum(scaled, 0.0, out=scaled)
        np.minimum(scaled, 1.0, out=self.buffer, casting="same_kind")
        return self.buffer


class _Rows:
    """Raw dynamic features of every instance, and sums over them."""

    def __init__(
        self, builder: ObservationBuilder, cluster: ClusterView, program: ProgramState | None
    ) -> None:
        self.values: list[list[float]] = []
        self.sent_turns = 0
        self.queued_turns = 0
        self.free_blocks = 0
        self.cached_blocks = 0
        self.dram_used = 0.0
        self.cxl_used = 0.0
        self._cluster = cluster
        self._home = program.home if program is not None else -1
        self._program = program
        self._backlog_s_per_token = builder._backlog_s_per_token
        self._prefill_s: dict[tuple[int, int], float] = {}

    def gather_route(self, turn: TurnState) -> None:
        """Rows for a turn that needs an instance."""
        cluster = self._cluster
        prompt = turn.prompt_tokens
        hits = [view.cached_tokens(turn) for view in cluster.instances]
        home_hit = hits[self._home] if self._home >= 0 else 0
        for view, hit in zip(cluster.instances, hits, strict=True):
            i = view.index
            dram = cluster.tier_tokens(turn, i, Tier.DRAM) if cluster.has_dram[i] else 0
            cxl = cluster.tier_tokens(turn, i, Tier.CXL) if cluster.has_cxl[i] else 0
            recompute = restore = self._first_token_s(view, prompt, hit)
            if dram > hit or cxl > hit or home_hit > hit:
                restore = self._restore_s(turn, view, prompt, recompute)
            self._add(view, prompt, hit, dram, cxl, recompute, restore)

    def gather_placement(self) -> None:
        """Rows for a program whose tool gap began."""
        cluster, program = self._cluster, self._program
        assert program is not None
        context = program.context_tokens
        for view in cluster.instances:
            i = view.index
            hit = cluster.chain_tokens(program, i, Tier.HBM)
            dram = cluster.chain_tokens(program, i, Tier.DRAM) if cluster.has_dram[i] else 0
            cxl = cluster.chain_tokens(program, i, Tier.CXL) if cluster.has_cxl[i] else 0
            recompute = self._first_token_s(view, context, hit)
            self._add(view, context, hit, dram, cxl, recompute, recompute)

    def gather_idle(self) -> None:
        """Rows when no program is asked about."""
        for view in self._cluster.instances:
            self._add(view, 0, 0, 0, 0, 0.0, 0.0)

    def _first_token_s(self, view: InstanceView, tokens: int, known: int) -> float:
        """Prefill time of what is not known; computed once for equal instances and equal hits."""
        key = (id(view.latency), known)
        found = self._prefill_s.get(key)
        if found is None:
            found = self._cluster.prefill_s(view.index, tokens - known, known)
            self._prefill_s[key] = found
        return found

    def _restore_s(
        self, turn: TurnState, view: InstanceView, prompt: int, recompute_s: float
    ) -> float:
        """The soonest first token over recompute and every copy that could be loaded."""
        cluster = self._cluster
        now = cluster.now_s
        best = recompute_s
        for copy in cluster.restorables(turn, view.index):
            known = copy.blocks * view.block_size_tokens
            best = min(best, copy.end_s - now + self._first_token_s(view, prompt, known))
        return best

    def _add(
        self,
        view: InstanceView,
        tokens: int,
        hit: int,
        dram: int,
        cxl: int,
        recompute_s: float,
        restore_s: float,
    ) -> None:
        cluster, i, blocks = self._cluster, view.index, view.kv_blocks
        (
            queued, loading, prefilling, decoding, _queued_tokens, backlog, contexts,
            free, cached, pinned,
        ) = view.load()  # fmt: skip
        dram_used = cluster.tier_occupancy(Tier.DRAM, i) if cluster.has_dram[i] else 0.0
        cxl_used = cluster.tier_occupancy(Tier.CXL, i) if cluster.has_cxl[i] else 0.0
        sent = view.sent_turns
        self.sent_turns += sent
        self.queued_turns += queued
        self.free_blocks += free
        self.cached_blocks += cached
        self.dram_used += dram_used
        self.cxl_used += cxl_used
        missing = tokens - hit
        share = 1.0 / tokens if tokens else 0.0
        room_tokens = (free + cached) * view.block_size_tokens
        self.values.append(
            [
                i == self._home,
                hit * share,
                missing,
                dram * share,
                cxl * share,
                recompute_s,
                restore_s,
                backlog * self._backlog_s_per_token[i],
                missing / room_tokens if room_tokens else float(missing > 0),
                sent,
                queued,
                loading,
                prefilling,
                decoding,
                (prefilling + decoding) / view.max_num_seqs,
                backlog,
                contexts,
                free / blocks,
                cached / blocks,
                pinned / blocks,
                dram_used,
                cxl_used,
            ]
        )


assert len(INSTANCE_FEATURES) > DYNAMIC_INSTANCE_FEATURES
