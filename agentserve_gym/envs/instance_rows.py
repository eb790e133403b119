"""One row of raw numbers per instance: what makes it a good or a bad place for a turn.

This is the hot part of an observation, so lookups that instances share are made once: lower tiers
once per pool, prefill times once per kind of instance and length, and constants once per episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from agentserve_gym.envs.features import TIER_FEATURES, ObservationLayout
from agentserve_gym.envs.prefill_estimate import PrefillEstimate
from agentserve_gym.sim import ClusterView, InstanceView, Load, ProgramState, TurnState

_REFERENCE_PREFILL_TOKENS = 8192
_NO_TIMES = (0.0, 0.0)
_PAIR = Struct(f"{len(TIER_FEATURES['instance'])}d")

Seen = list[tuple[int, Load]]
"""Per instance, blocks of a chain in its HBM, and its load."""


_Constants = tuple[InstanceView, int, int, int, float]
"""What a row needs of an instance and never changes within an episode: the view, its number, KV
blocks, batch limit, seconds per token of prefill backlog. A plain tuple: those with names take
several times as long to unpack."""


class TierColumns:
    """One lower tier as the instances see it. They are asked once per pool.

    Attributes:
        name: of the tier.
        tokens: of the prompt or context, by pool, and 0 at the end for who reaches none.
        slots: per instance, the number of its pool, or -1.
        mean_used: share in use, mean over instances.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokens = [0]
        self.slots: list[int] = []
        self.mean_used = 0.0
        self._askers: list[int] = []
        self._cluster: ClusterView

    def attach(self, cluster: ClusterView) -> None:
        """Find out which instances share a pool."""
        self._cluster = cluster
        self.slots, self._askers = [], []
        known: dict[int, int] = {}
        for view in cluster.instances:
            pool = cluster.pool_number(view.index, self.name)
            if pool >= 0 and pool not in known:
                known[pool] = len(self._askers)
                self._askers.append(view.index)
            self.slots.append(known.get(pool, -1))
        self.forget()

    def of_turn(self, turn: TurnState) -> None:
        """Look up how much of a turn's prompt each pool has."""
        tokens, name = self._cluster.tier_tokens, self.name
        self.tokens = [tokens(turn, instance, name) for instance in self._askers]
        self.tokens.append(0)

    def of_program(self, program: ProgramState) -> None:
        """Look up how much of a program's context each pool has."""
        tokens, name = self._cluster.chain_tokens, self.name
        self.tokens = [tokens(program, instance, name) for instance in self._askers]
        self.tokens.append(0)

    def forget(self) -> None:
        """Nobody is asked about."""
        self.tokens = [0] * (len(self._askers) + 1)

    def tokens_at(self, instance: int) -> int:
        """Tokens that lie in the pool that an instance reaches, 0 without one."""
        return self.tokens[self.slots[instance]]

    def fill(self, share: float, memory: bytearray, offset: int, stride: int) -> None:
        """Pack the tier's two numbers of every row, ``stride`` bytes apart."""
        occupancy, name = self._cluster.tier_occupancy, self.name
        used = [occupancy(name, instance) for instance in self._askers]
        used.append(0.0)
        shares = [tokens * share for tokens in self.tokens]
        total, pack_pair = 0.0, _PAIR.pack_into
        for slot in self.slots:
            total += used[slot]
            pack_pair(memory, offset, shares[slot], used[slot])
            offset += stride
        self.mean_used = total / len(self.slots)


class InstanceRows:
    """Packs the raw dynamic features of every instance of one cluster, and sums over them.

    Rows are packed one after the other from ``offset`` in ``memory`` on, as float64, each in the
    order of ``ObservationLayout.dynamic``.

    Attributes:
        tiers: the lower tiers that the layout has room for.
        pool_blocks, pool_tokens: size of all KV pools together.
        sent_turns, queued_turns, free_blocks, cached_blocks: sums over instances.
    """

    def __init__(self, layout: ObservationLayout) -> None:
        self.tiers = [TierColumns(name) for name in layout.tiers]
        own = len(layout.dynamic) - len(layout.tiers) * len(TIER_FEATURES["instance"])
        self._row = Struct(f"{own}d")
        self._stride = 8 * len(layout.dynamic)
        self.pool_blocks = 1
        self.pool_tokens = 1
        self.sent_turns = 0
        self.queued_turns = 0
        self.free_blocks = 0
        self.cached_blocks = 0
        self._cluster: ClusterView
        self._views: list[InstanceView] = []
        self._looks: list[Callable[[ProgramState, int], tuple[int, Load]]] = []
        self._constants: list[_Constants] = []
        self._prefill_s: Sequence[PrefillEstimate] = ()
        self._block_size = 1

    def attach(self, cluster: ClusterView, prefill_s: Sequence[PrefillEstimate]) -> None:
        """Begin an episode on a cluster; ``prefill_s``: an estimate per instance."""
        self._cluster = cluster
        self._views = views = cluster.instances
        self._looks = [view.signals.look for view in views]
        self._prefill_s = prefill_s
        self._block_size = views[0].block_size_tokens
        self._constants = [
            (
                view,
                view.index,
                view.kv_blocks,
                view.max_num_seqs,
                estimate(_REFERENCE_PREFILL_TOKENS, 0) / _REFERENCE_PREFILL_TOKENS,
            )
            for view, estimate in zip(views, prefill_s, strict=True)
        ]
        self.pool_blocks = sum(view.kv_blocks for view in views)
        self.pool_tokens = self.pool_blocks * self._block_size
        for tier in self.tiers:
            tier.attach(cluster)

    def at_route(self, turn: TurnState, memory: bytearray, offset: int) -> None:
        """Rows for a turn that needs an instance."""
        program, limit = turn.program, turn.match_limit_blocks
        for tier in self.tiers:
            tier.of_turn(turn)
        seen = [look(program, limit) for look in self._looks]
        times = self._times(turn, seen)
        self._fill(program.home, turn.prompt_tokens, seen, times, memory, offset)

    def at_placement(self, program: ProgramState, memory: bytearray, offset: int) -> None:
        """Rows for a program whose tool gap began."""
        for tier in self.tiers:
            tier.of_program(program)
        context = program.context_tokens
        limit = context // self._block_size
        seen = [look(program, limit) for look in self._looks]
        times = [_NO_TIMES] * len(seen)
        self._fill(program.home, context, seen, times, memory, offset)

    def at_end(self, memory: bytearray, offset: int) -> None:
        """Rows when no program is asked about."""
        for tier in self.tiers:
            tier.forget()
        seen = [(0, view.load()) for view in self._views]
        self._fill(-1, 0, seen, [_NO_TIMES] * len(seen), memory, offset)

    def _times(self, turn: TurnState, seen: Seen) -> list[tuple[float, float]]:
        """Per instance, time to the first token if idle: by recompute, and by the soonest way."""
        load_s, prompt, home = self._cluster.load_s, turn.prompt_tokens, turn.program.home
        size = self._block_size
        home_hit = seen[home][0] * size if home >= 0 else 0
        times = []
        asked: PrefillEstimate | None = None
        after: dict[int, float] = {}  # by tokens that are known, of the kind of instance asked
        for i, prefill_s in enumerate(self._prefill_s):
            if prefill_s is not asked:
                asked, after = prefill_s, {}
            hit = seen[i][0] * size
            if hit not in after:
                after[hit] = prefill_s(prompt - hit, hit)
            recompute_s = restore_s = after[hit]
            for tier in self.tiers:
                there = tier.tokens[tier.slots[i]]
                if there > hit:
                    if there not in after:
                        after[there] = prefill_s(prompt - there, there)
                    restore_s = min(restore_s, load_s(i, tier.name, there - hit) + after[there])
            if home_hit > hit:
                if home_hit not in after:
                    after[home_hit] = prefill_s(prompt - home_hit, home_hit)
                migrate_s = load_s(i, "hbm", home_hit - hit, home)
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
        share = 1.0 / tokens if tokens else 0.0
        size, stride = self._block_size, self._stride
        at = offset + self._row.size
        for tier in self.tiers:
            tier.fill(share, memory, at, stride)
            at += _PAIR.size
        sent_sum = queued_sum = free_sum = cached_sum = 0
        pack_row = self._row.pack_into
        for (
            (view, i, blocks, max_num_seqs, backlog_s),
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
            pack_row(
                memory,
                offset,
                i == home,
                hit * share,
                missing,
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
            )
            offset += stride
        self.sent_turns, self.queued_turns = sent_sum, queued_sum
        self.free_blocks, self.cached_blocks = free_sum, cached_sum
