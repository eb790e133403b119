"""What the instances show at a decision, column by column: what makes each a good or a bad place.

This is the hot part of an observation, so lookups that instances share are made once: lower tiers
once per pool, prefill times once per kind of instance and length, and constants once per episode.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.envs.features.prefill_estimate import PrefillEstimate
from agentserve_gym.hardware.pricing.timing import BatchStep
from agentserve_gym.sim.kernel.programs import ProgramState, TurnState
from agentserve_gym.sim.signals import Load, Signals
from agentserve_gym.sim.views import ClusterView, InstanceView

_PREFILL_TOKENS = 8192
_DECODE = BatchStep(
    decode_count=32,
    decode_context_tokens=32 * 8192,
    decode_max_context_tokens=8192,
    sampled_count=32,
)


class TierColumns:
    """One lower tier as the instances see it. They are asked once per pool.

    Attributes:
        name: of the tier.
        tokens: of the prompt or context, per instance; 0 for one that does not reach the tier.
        used: share of the pool in use, per instance.
        mean_used: mean of ``used``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokens: list[int] = []
        self.used: list[float] = []
        self.mean_used = 0.0
        self._slots: list[int] = []  # per instance, the number of its pool, or -1
        self._askers: list[int] = []  # per pool, an instance that reaches it
        self._cluster: ClusterView

    def attach(self, cluster: ClusterView) -> None:
        """Find out which instances share a pool."""
        self._cluster = cluster
        self._slots, self._askers = [], []
        known: dict[int, int] = {}
        for view in cluster.instances:
            pool = cluster.pool_number(view.index, self.name)
            if pool >= 0 and pool not in known:
                known[pool] = len(self._askers)
                self._askers.append(view.index)
            self._slots.append(known.get(pool, -1))

    def of_turn(self, turn: TurnState) -> None:
        """Look up how much of a turn's prompt each pool has."""
        cluster, name = self._cluster, self.name
        self._fill([cluster.tier_tokens(turn, instance, name) for instance in self._askers])

    def of_program(self, program: ProgramState) -> None:
        """Look up how much of a program's context each pool has."""
        cluster, name = self._cluster, self.name
        self._fill([cluster.chain_tokens(program, instance, name) for instance in self._askers])

    def of_nobody(self) -> None:
        """Nobody is asked about."""
        self._fill([0] * len(self._askers))

    def _fill(self, tokens: list[int]) -> None:
        """From pools to instances; what stands at the end is for those without a pool."""
        cluster, name = self._cluster, self.name
        used = [cluster.tier_occupancy(name, instance) for instance in self._askers]
        tokens.append(0)
        used.append(0.0)
        self.tokens = [tokens[slot] for slot in self._slots]
        self.used = [used[slot] for slot in self._slots]
        total = 0.0
        for share in self.used:  # not ``sum``, whose last bit differs between versions of Python
            total += share
        self.mean_used = total / len(self._slots)


class InstanceColumns:
    """Every instance of one cluster, as a decision shows them: each column one number per instance.

    Attributes:
        view, load: the instance itself, and what its signals say.
        index, kv_blocks, max_num_seqs: constants of it.
        prefill_8k_s, decode_step_s: times of its: 8192 tokens alone; 32 turns of 8192 tokens.
        prefill_s: estimates of its prefills, from prompt tokens not known and known to seconds.
        backlog_token_s: seconds per token of a prefill without history.
        hit_tokens, missing_tokens: of the prompt or context, those in its HBM and those not.
        recompute_s, restore_s: time to the first token if idle: by recompute, by the soonest way.
        sent_turns: turns sent there and not finished.
        pool_blocks, pool_tokens: no columns, but the size of all KV pools together.
        total_sent_turns, total_queued_turns, total_free_blocks, total_cached_blocks: likewise.
    """

    def __init__(self, tiers: Sequence[TierColumns]) -> None:
        """Follow no cluster yet.

        Args:
            tiers: the lower tiers that observations have room for.
        """
        self._tiers = tiers
        self.view: list[InstanceView] = []
        self.load: list[Load] = []
        self.index: list[int] = []
        self.kv_blocks: list[int] = []
        self.max_num_seqs: list[int] = []
        self.prefill_s: list[PrefillEstimate] = []
        self.backlog_token_s: list[float] = []
        self.prefill_8k_s: list[float] = []
        self.decode_step_s: list[float] = []
        self.pool_blocks = 1
        self.pool_tokens = 1
        self.hit_tokens: list[int] = []
        self.missing_tokens: list[int] = []
        self.recompute_s: list[float] = []
        self.restore_s: list[float] = []
        self.sent_turns: list[int] = []
        self.total_sent_turns = 0
        self.total_queued_turns = 0
        self.total_free_blocks = 0
        self.total_cached_blocks = 0
        self._cluster: ClusterView
        self._signals: list[Signals] = []
        self._block_size = 1
        self._zeros: list[float] = []

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster."""
        self._cluster = cluster
        self.view = views = cluster.instances
        self.index = [view.index for view in views]
        self.kv_blocks = [view.kv_blocks for view in views]
        self.max_num_seqs = [view.max_num_seqs for view in views]
        self.prefill_s = self._estimates_of(views)
        self.prefill_8k_s = [estimate.seconds(_PREFILL_TOKENS, 0) for estimate in self.prefill_s]
        self.backlog_token_s = [time_s / _PREFILL_TOKENS for time_s in self.prefill_8k_s]
        self.decode_step_s = [view.latency.step_s(_DECODE) for view in views]
        self._signals = [view.signals for view in views]
        self._block_size = views[0].block_size_tokens
        self._zeros = [0.0] * len(views)
        self.pool_blocks = sum(self.kv_blocks)
        self.pool_tokens = self.pool_blocks * self._block_size
        for tier in self._tiers:
            tier.attach(cluster)

    def of_turn(self, turn: TurnState) -> None:
        """See the instances as places for a turn's prompt."""
        for tier in self._tiers:
            tier.of_turn(turn)
        self._look(turn.program, turn.match_limit_blocks, turn.prompt_tokens)
        self._price(turn)

    def of_program(self, program: ProgramState) -> None:
        """See the instances as places for the context of a program whose tool gap began."""
        for tier in self._tiers:
            tier.of_program(program)
        context = program.context_tokens
        self._look(program, context // self._block_size, context)
        self.recompute_s = self.restore_s = self._zeros

    def of_nobody(self) -> None:
        """See the instances when no program is asked about."""
        for tier in self._tiers:
            tier.of_nobody()
        self.hit_tokens = self.missing_tokens = [0] * len(self.view)
        self._read([view.load() for view in self.view])
        self.recompute_s = self.restore_s = self._zeros

    def _look(self, program: ProgramState, limit_blocks: int, tokens: int) -> None:
        """Ask every instance what it has of a chain of ``tokens`` tokens, and for its load."""
        size = self._block_size
        hits: list[int] = []
        missing: list[int] = []
        loads: list[Load] = []
        for signals in self._signals:
            blocks, load = signals.look(program, limit_blocks)
            hit = blocks * size
            hits.append(hit)
            missing.append(tokens - hit)
            loads.append(load)
        self.hit_tokens, self.missing_tokens = hits, missing
        self._read(loads)

    def _read(self, loads: list[Load]) -> None:
        """Keep the loads, and add up what is asked of all together."""
        self.load = loads
        queued = free = cached = 0
        for load in loads:
            queued += load.queued_turns
            free += load.free_blocks
            cached += load.cached_blocks
        self.total_queued_turns = queued
        self.total_free_blocks = free
        self.total_cached_blocks = cached
        self.sent_turns = [view.sent_turns for view in self.view]
        self.total_sent_turns = sum(self.sent_turns)

    def _price(self, turn: TurnState) -> None:
        """Compute times to the first token."""
        cluster, prompt, hits = self._cluster, turn.prompt_tokens, self.hit_tokens
        copies = self._copies(turn)
        self.recompute_s, self.restore_s = recomputes_s, restores_s = [], []
        asked: PrefillEstimate | None = None
        after: dict[int, float] = {}  # by tokens that are known, of the kind of instance asked
        for i, prefill_s in enumerate(self.prefill_s):
            if prefill_s is not asked:
                asked, after = prefill_s, {}
            hit = hits[i]
            if hit not in after:
                after[hit] = prefill_s.seconds(prompt - hit, hit)
            recompute_s = restore_s = after[hit]
            for tier in self._tiers:
                there = tier.tokens[i]
                if there > hit:
                    if there not in after:
                        after[there] = prefill_s.seconds(prompt - there, there)
                    loaded_s = cluster.load_s(i, tier.name, there - hit) + after[there]
                    if loaded_s < restore_s:
                        restore_s = loaded_s
            for name, source, there in copies:
                if there > hit:
                    if there not in after:
                        after[there] = prefill_s.seconds(prompt - there, there)
                    loaded_s = cluster.load_s(i, name, there - hit, source) + after[there]
                    if loaded_s < restore_s:
                        restore_s = loaded_s
            recomputes_s.append(recompute_s)
            restores_s.append(restore_s)

    def _copies(self, turn: TurnState) -> list[tuple[str, int, int]]:
        """Copies that one instance has and others may fetch: tier, instance, tokens."""
        hbm, tiers = self._cluster.sources(turn)
        copies = [("hbm", source, self.hit_tokens[source]) for source in hbm]
        copies += [
            (tier.name, source, tier.tokens[source]) for source in tiers for tier in self._tiers
        ]
        return copies

    def _estimates_of(self, views: Sequence[InstanceView]) -> list[PrefillEstimate]:
        """An estimate per instance: one object for those alike, also of the episode before."""
        known = {id(estimate.latency): estimate for estimate in self.prefill_s}
        found: list[PrefillEstimate] = []
        for view in views:
            budget = view.max_num_batched_tokens
            estimate = known.get(id(view.latency))
            if (
                estimate is None
                or estimate.latency is not view.latency
                or estimate.budget != budget
            ):
                estimate = known[id(view.latency)] = PrefillEstimate(view.latency, budget)
            found.append(estimate)
        return found
