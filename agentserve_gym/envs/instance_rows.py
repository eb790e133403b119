"""One row of raw numbers per instance: what makes it a good or a bad place for a turn.

This is the hot part of an observation, so lookups that instances share are made once: lower tiers
once per node, and prefill times come from a table.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.envs.prefill_estimate import PrefillEstimate
from agentserve_gym.sim import ClusterView, InstanceView, Load, ProgramState, Tier, TurnState

_REFERENCE_PREFILL_TOKENS = 8192
_NO_TIMES = (0.0, 0.0)


class InstanceRows:
    """Raw dynamic features of every instance of one cluster, and sums over them.

    Attributes:
        values: a row per instance, in the order of ``features.INSTANCE_FEATURES``.
        pool_blocks, pool_tokens: size of all KV pools together.
        sent_turns, queued_turns, free_blocks, cached_blocks: sums over instances.
        dram_used, cxl_used: means over instances.
    """

    def __init__(self) -> None:
        self.values: list[tuple[float, ...]] = []
        self.pool_blocks = 1
        self.pool_tokens = 1
        self.sent_turns = 0
        self.queued_turns = 0
        self.free_blocks = 0
        self.cached_blocks = 0
        self.dram_used = 0.0
        self.cxl_used = 0.0
        self._cluster: ClusterView
        self._views: list[InstanceView] = []
        self._prefill_s: Sequence[PrefillEstimate] = ()
        self._backlog_s_per_token: list[float] = []
        self._dram_nodes: list[tuple[int, int]] = []
        self._cxl_instance = -1
        self._nodes = 0

    def attach(self, cluster: ClusterView, prefill_s: Sequence[PrefillEstimate]) -> None:
        """Begin an episode on a cluster; ``prefill_s``: an estimate per instance."""
        self._cluster = cluster
        self._views = views = cluster.instances
        self._prefill_s = prefill_s
        reference = _REFERENCE_PREFILL_TOKENS
        self._backlog_s_per_token = [estimate(reference, 0) / reference for estimate in prefill_s]
        self.pool_blocks = sum(view.kv_blocks for view in views)
        self.pool_tokens = self.pool_blocks * views[0].block_size_tokens
        self._nodes = max(view.node for view in views) + 1
        by_node = {
            view.node: view.index for view in reversed(views) if cluster.has_dram[view.index]
        }
        self._dram_nodes = sorted(by_node.items())
        self._cxl_instance = cluster.has_cxl.index(True) if any(cluster.has_cxl) else -1

    def at_route(self, turn: TurnState) -> InstanceRows:
        """Rows for a turn that needs an instance."""
        cluster, limit = self._cluster, turn.match_limit_blocks
        dram = [0] * self._nodes
        for node, instance in self._dram_nodes:
            dram[node] = cluster.tier_tokens(turn, instance, Tier.DRAM)
        at = self._cxl_instance
        cxl = cluster.tier_tokens(turn, at, Tier.CXL) if at >= 0 else 0
        seen = [view.signals.look(turn.program, limit) for view in self._views]
        times = self._times(turn, seen, dram, cxl)
        return self._fill(turn.program.home, turn.prompt_tokens, seen, dram, cxl, times)

    def at_placement(self, program: ProgramState) -> InstanceRows:
        """Rows for a program whose tool gap began."""
        cluster = self._cluster
        dram = [0] * self._nodes
        for node, instance in self._dram_nodes:
            dram[node] = cluster.chain_tokens(program, instance, Tier.DRAM)
        at = self._cxl_instance
        cxl = cluster.chain_tokens(program, at, Tier.CXL) if at >= 0 else 0
        context = program.context_tokens
        limit = context // self._views[0].block_size_tokens
        seen = [view.signals.look(program, limit) for view in self._views]
        return self._fill(program.home, context, seen, dram, cxl, [_NO_TIMES] * len(seen))

    def at_end(self) -> InstanceRows:
        """Rows when no program is asked about."""
        seen = [(0, view.load()) for view in self._views]
        return self._fill(-1, 0, seen, [0] * self._nodes, 0, [_NO_TIMES] * len(seen))

    def _times(
        self, turn: TurnState, seen: list[tuple[int, Load]], dram: list[int], cxl: int
    ) -> list[tuple[float, float]]:
        """Per instance, time to the first token if idle: by recompute, and by the soonest way."""
        cluster, prompt, home = self._cluster, turn.prompt_tokens, turn.program.home
        size = self._views[0].block_size_tokens
        home_hit = seen[home][0] * size if home >= 0 else 0
        times = []
        for view, (blocks, _), prefill_s in zip(self._views, seen, self._prefill_s, strict=True):
            i, hit, there = view.index, blocks * size, dram[view.node]
            recompute_s = restore_s = prefill_s(prompt - hit, hit)
            if there > hit:
                load_s = cluster.load_s(i, Tier.DRAM, there - hit)
                restore_s = min(restore_s, load_s + prefill_s(prompt - there, there))
            if cxl > hit and cluster.has_cxl[i]:
                load_s = cluster.load_s(i, Tier.CXL, cxl - hit)
                restore_s = min(restore_s, load_s + prefill_s(prompt - cxl, cxl))
            if home_hit > hit:
                load_s = cluster.load_s(i, Tier.HBM, home_hit - hit, home)
                restore_s = min(restore_s, load_s + prefill_s(prompt - home_hit, home_hit))
            times.append((recompute_s, restore_s))
        return times

    def _fill(
        self,
        home: int,
        tokens: int,
        seen: list[tuple[int, Load]],
        dram: list[int],
        cxl: int,
        times: list[tuple[float, float]],
    ) -> InstanceRows:
        """Write every row and sum; ``tokens`` is the length of the prompt or context, ``seen`` the
        blocks of it that each instance's HBM holds, and its load."""
        cluster = self._cluster
        dram_used = [0.0] * self._nodes
        for node, instance in self._dram_nodes:
            dram_used[node] = cluster.tier_occupancy(Tier.DRAM, instance)
        at = self._cxl_instance
        cxl_used = cluster.tier_occupancy(Tier.CXL, at) if at >= 0 else 0.0
        share = 1.0 / tokens if tokens else 0.0
        size = self._views[0].block_size_tokens
        sent_sum = queued_sum = free_sum = cached_sum = 0
        dram_sum = cxl_sum = 0.0
        values: list[tuple[float, ...]] = []
        for view, (hit_blocks, load), (recompute_s, restore_s), backlog_s in zip(
            self._views, seen, times, self._backlog_s_per_token, strict=True
        ):
            i, node, blocks, sent = view.index, view.node, view.kv_blocks, view.sent_turns
            (
                queued, loading, prefilling, decoding, _, backlog, contexts, free, cached, pinned,
            ) = load  # fmt: skip
            reaches_cxl = cluster.has_cxl[i]
            hit = hit_blocks * size
            missing = tokens - hit
            room = (free + cached) * size
            sent_sum += sent
            queued_sum += queued
            free_sum += free
            cached_sum += cached
            dram_sum += dram_used[node]
            cxl_sum += cxl_used if reaches_cxl else 0.0
            values.append(
                (
                    i == home,
                    hit * share,
                    missing,
                    dram[node] * share,
                    cxl * share if reaches_cxl else 0.0,
                    recompute_s,
                    restore_s,
                    backlog * backlog_s,
                    missing / room if room else missing > 0,
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
                    dram_used[node],
                    cxl_used if reaches_cxl else 0.0,
                )
            )
        self.values = values
        self.sent_turns, self.queued_turns = sent_sum, queued_sum
        self.free_blocks, self.cached_blocks = free_sum, cached_sum
        self.dram_used, self.cxl_used = dram_sum / len(values), cxl_sum / len(values)
        return self
