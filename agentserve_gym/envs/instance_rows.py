"""One row of raw numbers per instance: what makes it a good or a bad place for a turn.

This is the hot part of an observation, so lookups that instances share are made once: lower tiers
once per node, prefill estimates once per latency model and hit.
"""

from __future__ import annotations

from agentserve_gym.sim import ClusterView, InstanceView, ProgramState, Tier, TurnState


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
        self._backlog_s_per_token: list[float] = []
        self._dram_nodes: list[tuple[int, int]] = []
        self._cxl_instance = -1
        self._nodes = 0

    def attach(self, cluster: ClusterView, backlog_s_per_token: list[float]) -> None:
        """Begin an episode on a cluster."""
        self._cluster = cluster
        self._views = views = cluster.instances
        self._backlog_s_per_token = backlog_s_per_token
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
        cluster = self._cluster
        dram = [0] * self._nodes
        for node, instance in self._dram_nodes:
            dram[node] = cluster.tier_tokens(turn, instance, Tier.DRAM)
        at = self._cxl_instance
        cxl = cluster.tier_tokens(turn, at, Tier.CXL) if at >= 0 else 0
        hits = [view.cached_tokens(turn) for view in self._views]
        times = self._times(turn, hits, dram, cxl)
        return self._fill(turn.program.home, turn.prompt_tokens, hits, dram, cxl, times)

    def at_placement(self, program: ProgramState) -> InstanceRows:
        """Rows for a program whose tool gap began."""
        cluster = self._cluster
        dram = [0] * self._nodes
        for node, instance in self._dram_nodes:
            dram[node] = cluster.chain_tokens(program, instance, Tier.DRAM)
        at = self._cxl_instance
        cxl = cluster.chain_tokens(program, at, Tier.CXL) if at >= 0 else 0
        hits = [cluster.chain_tokens(program, view.index, Tier.HBM) for view in self._views]
        times = [(0.0, 0.0)] * len(hits)
        return self._fill(program.home, program.context_tokens, hits, dram, cxl, times)

    def at_end(self) -> InstanceRows:
        """Rows when no program is asked about."""
        nothing = [0] * len(self._views)
        times = [(0.0, 0.0)] * len(nothing)
        return self._fill(-1, 0, nothing, [0] * self._nodes, 0, times)

    def _times(
        self, turn: TurnState, hits: list[int], dram: list[int], cxl: int
    ) -> list[tuple[float, float]]:
        """Per instance, time to the first token if idle: by recompute, and by the soonest way."""
        cluster, prompt, home = self._cluster, turn.prompt_tokens, turn.program.home
        home_hit = hits[home] if home >= 0 else 0
        known_s: dict[tuple[int, int], float] = {}

        def prefill_s(view: InstanceView, known: int) -> float:
            key = (id(view.latency), known)
            found = known_s.get(key)
            if found is None:
                found = known_s[key] = cluster.prefill_s(view.index, prompt - known, known)
            return found

        times = []
        for view, hit in zip(self._views, hits, strict=True):
            i = view.index
            recompute_s = restore_s = prefill_s(view, hit)
            if dram[view.node] > hit:
                there = dram[view.node]
                load_s = cluster.load_s(i, Tier.DRAM, there - hit)
                restore_s = min(restore_s, load_s + prefill_s(view, there))
            if cxl > hit and cluster.has_cxl[i]:
                load_s = cluster.load_s(i, Tier.CXL, cxl - hit)
                restore_s = min(restore_s, load_s + prefill_s(view, cxl))
            if home_hit > hit:
                load_s = cluster.load_s(i, Tier.HBM, home_hit - hit, home)
                restore_s = min(restore_s, load_s + prefill_s(view, home_hit))
            times.append((recompute_s, restore_s))
        return times

    def _fill(
        self,
        home: int,
        tokens: int,
        hits: list[int],
        dram: list[int],
        cxl: int,
        times: list[tuple[float, float]],
    ) -> InstanceRows:
        """Write every row and sum; ``tokens`` is the length of the prompt or context."""
        cluster = self._cluster
        dram_used = [0.0] * self._nodes
        for node, instance in self._dram_nodes:
            dram_used[node] = cluster.tier_occupancy(Tier.DRAM, instance)
        at = self._cxl_instance
        cxl_used = cluster.tier_occupancy(Tier.CXL, at) if at >= 0 else 0.0
        share = 1.0 / tokens if tokens else 0.0
        sent_sum = queued_sum = free_sum = cached_sum = 0
        dram_sum = cxl_sum = 0.0
        values: list[tuple[float, ...]] = []
        for view, hit, (recompute_s, restore_s), backlog_s in zip(
            self._views, hits, times, self._backlog_s_per_token, strict=True
        ):
            i, node, blocks, sent = view.index, view.node, view.kv_blocks, view.sent_turns
            (
                queued, loading, prefilling, decoding, _, backlog, contexts, free, cached, pinned,
            ) = view.signals.load()  # fmt: skip
            reaches_cxl = cluster.has_cxl[i]
            missing = tokens - hit
            room = (free + cached) * view.block_size_tokens
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
