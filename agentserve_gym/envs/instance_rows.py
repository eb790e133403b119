"""One row of raw numbers per instance: what makes it a good or a bad place for a turn.

This is the hot part of an observation, so lookups that instances share are made once: lower tiers
once per node, prefill times once per kind of instance and length, and constants once per episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from agentserve_gym.envs.features import DYNAMIC_INSTANCE_FEATURES
from agentserve_gym.envs.prefill_estimate import PrefillEstimate
from agentserve_gym.sim import ClusterView, InstanceView, Load, ProgramState, Tier, TurnState

_REFERENCE_PREFILL_TOKENS = 8192
_HBM, _DRAM, _CXL = Tier.HBM, Tier.DRAM, Tier.CXL  # members are slow to look up in their enum
_NO_TIMES = (0.0, 0.0)
_ROW = Struct(f"{DYNAMIC_INSTANCE_FEATURES}d")

Seen = list[tuple[int, Load]]
"""Per instance, blocks of a chain in its HBM, and its load."""


_Constants = tuple[InstanceView, int, int, bool, int, int, float]
"""What a row needs of an instance and never changes within an episode: the view, its number, node
and whether it reaches CXL, KV blocks, batch limit, seconds per token of prefill backlog. A plain
tuple: those with names take several times as long to unpack."""


class InstanceRows:
    """Packs the raw dynamic features of every instance of one cluster, and sums over them.

    Rows are packed one after the other from ``offset`` in ``memory`` on, as float64, each in the
    order of ``features.INSTANCE_FEATURES``.

    Attributes:
        dram_tokens, cxl_tokens: tokens of the prompt or context that lie in each node's DRAM and
            in the CXL tier.
        pool_blocks, pool_tokens: size of all KV pools together.
        sent_turns, queued_turns, free_blocks, cached_blocks: sums over instances.
        dram_used, cxl_used: means over instances.
    """

    def __init__(self) -> None:
        self.dram_tokens: list[int] = []
        self.cxl_tokens = 0
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
        self._node_of: list[int] = []
        self._looks: list[Callable[[ProgramState, int], tuple[int, Load]]] = []
        self._constants: list[_Constants] = []
        self._prefill_s: Sequence[PrefillEstimate] = ()
        self._block_size = 1
        self._dram_nodes: list[tuple[int, int]] = []
        self._cxl_instance = -1
        self._nodes = 0

    def attach(self, cluster: ClusterView, prefill_s: Sequence[PrefillEstimate]) -> None:
        """Begin an episode on a cluster; ``prefill_s``: an estimate per instance."""
        self._cluster = cluster
        self._views = views = cluster.instances
        self._node_of = [view.node for view in views]
        self._looks = [view.signals.look for view in views]
        self._prefill_s = prefill_s
        self._block_size = views[0].block_size_tokens
        self._constants = [
            (
                view,
                view.index,
                view.node,
                cluster.has_cxl[view.index],
                view.kv_blocks,
                view.max_num_seqs,
                estimate(_REFERENCE_PREFILL_TOKENS, 0) / _REFERENCE_PREFILL_TOKENS,
            )
            for view, estimate in zip(views, prefill_s, strict=True)
        ]
        self.pool_blocks = sum(view.kv_blocks for view in views)
        self.pool_tokens = self.pool_blocks * self._block_size
        self._nodes = max(view.node for view in views) + 1
        by_node = {
            view.node: view.index for view in reversed(views) if cluster.has_dram[view.index]
        }
        self._dram_nodes = sorted(by_node.items())
        self._cxl_instance = cluster.has_cxl.index(True) if any(cluster.has_cxl) else -1

    def at_route(self, turn: TurnState, memory: bytearray, offset: int) -> None:
        """Rows for a turn that needs an instance."""
        cluster, program, limit = self._cluster, turn.program, turn.match_limit_blocks
        self.dram_tokens = dram = [0] * self._nodes
        for node, instance in self._dram_nodes:
            dram[node] = cluster.tier_tokens(turn, instance, _DRAM)
        at = self._cxl_instance
        self.cxl_tokens = cluster.tier_tokens(turn, at, _CXL) if at >= 0 else 0
        seen = [look(program, limit) for look in self._looks]
        times = self._times(turn, seen)
        self._fill(program.home, turn.prompt_tokens, seen, times, memory, offset)

    def at_placement(self, program: ProgramState, memory: bytearray, offset: int) -> None:
        """Rows for a program whose tool gap began."""
        cluster = self._cluster
        self.dram_tokens = dram = [0] * self._nodes
        for node, instance in self._dram_nodes:
            dram[node] = cluster.chain_tokens(program, instance, _DRAM)
        at = self._cxl_instance
        self.cxl_tokens = cluster.chain_tokens(program, at, _CXL) if at >= 0 else 0
        context = program.context_tokens
        limit = context // self._block_size
        seen = [look(program, limit) for look in self._looks]
        times = [_NO_TIMES] * len(seen)
        self._fill(program.home, context, seen, times, memory, offset)

    def at_end(self, memory: bytearray, offset: int) -> None:
        """Rows when no program is asked about."""
        self.dram_tokens, self.cxl_tokens = [0] * self._nodes, 0
        seen = [(0, view.load()) for view in self._views]
        self._fill(-1, 0, seen, [_NO_TIMES] * len(seen), memory, offset)

    def _times(self, turn: TurnState, seen: Seen) -> list[tuple[float, float]]:
        """Per instance, time to the first token if idle: by recompute, and by the soonest way."""
        load_s, prompt, home = self._cluster.load_s, turn.prompt_tokens, turn.program.home
        size, dram, cxl = self._block_size, self.dram_tokens, self.cxl_tokens
        nodes = self._node_of
        home_hit = seen[home][0] * size if home >= 0 else 0
        times = []
        asked: PrefillEstimate | None = None
        after: dict[int, float] = {}  # by tokens that are known, of the kind of instance asked
        for i, prefill_s in enumerate(self._prefill_s):
            if prefill_s is not asked:
                asked, after = prefill_s, {}
            hit, there = seen[i][0] * size, dram[nodes[i]]
            if hit not in after:
                after[hit] = prefill_s(prompt - hit, hit)
            recompute_s = restore_s = after[hit]
            if there > hit:
                if there not in after:
                    after[there] = prefill_s(prompt - there, there)
                restore_s = min(restore_s, load_s(i, _DRAM, there - hit) + after[there])
            if cxl > hit and self._cluster.has_cxl[i]:
                if cxl not in after:
                    after[cxl] = prefill_s(prompt - cxl, cxl)
                restore_s = min(restore_s, load_s(i, _CXL, cxl - hit) + after[cxl])
            if home_hit > hit:
                if home_hit not in after:
                    after[home_hit] = prefill_s(prompt - home_hit, home_hit)
                migrate_s = load_s(i, _HBM, home_hit - hit, home)
                restore_s = min(restore_s, migrate_s + after[home_hit])
            times.append((recompute_s, restore_s))
        return times

    def _fill(
        self,
        home: int,
        tokens: int,
        seen: Seen,
        times: Sequence[tuple[float, float]],
        memory: bytearray,
        offset: int,
    ) -> None:
        """Pack every row and sum; ``tokens`` is the length of the prompt or context."""
        cluster = self._cluster
        dram_used = [0.0] * self._nodes
        for node, instance in self._dram_nodes:
            dram_used[node] = cluster.tier_occupancy(_DRAM, instance)
        at = self._cxl_instance
        cxl_used = cluster.tier_occupancy(_CXL, at) if at >= 0 else 0.0
        share = 1.0 / tokens if tokens else 0.0
        dram_shares = [there * share for there in self.dram_tokens]
        cxl_share = self.cxl_tokens * share
        size = self._block_size
        sent_sum = queued_sum = free_sum = cached_sum = 0
        dram_sum = cxl_sum = 0.0
        pack_row = _ROW.pack_into
        for (
            (view, i, node, reaches_cxl, blocks, max_num_seqs, backlog_s),
            (hit_blocks, load),
            (recompute_s, restore_s),
        ) in zip(self._constants, seen, times, strict=True):
            (
                queued, loading, prefilling, decoding, _, backlog, contexts, free, cached, pinned,
            ) = load[:]  # fmt: skip
            sent = view.sent_turns
            hit = hit_blocks * size
            missing = tokens - hit
            room = (free + cached) * size
            sent_sum += sent
            queued_sum += queued
            free_sum += free
            cached_sum += cached
            dram_sum += dram_used[node]
            if reaches_cxl:
                cxl_sum += cxl_used
            pack_row(
                memory,
                offset,
                i == home,
                hit * share,
                missing,
                dram_shares[node],
                cxl_share if reaches_cxl else 0.0,
                recompute_s,
                restore_s,
                backlog * backlog_s,
                missing / room if room else missing > 0,
                sent,
                queued,
                loading,
                prefilling,
                decoding,
                (prefilling + decoding) / max_num_seqs,
                backlog,
                contexts,
                free / blocks,
                cached / blocks,
                pinned / blocks,
                dram_used[node],
                cxl_used if reaches_cxl else 0.0,
            )
            offset += _ROW.size
        self.sent_turns, self.queued_turns = sent_sum, queued_sum
        self.free_blocks, self.cached_blocks = free_sum, cached_sum
        self.dram_used, self.cxl_used = dram_sum / len(seen), cxl_sum / len(seen)
