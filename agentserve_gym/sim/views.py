"""What policies may see: instances through their signals, and the cluster around a decision.

A view shows only what a live router could know. What the router does itself (how many turns it
sent where) it knows at once, the rest as early as signals reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from agentserve_gym.hardware.pricing.timing import LatencyModel
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.programs import ProgramState, TurnState
from agentserve_gym.sim.kernel.residency import Residency, Restorable
from agentserve_gym.sim.kernel.tiers import CXL, DRAM, HBM, Tier
from agentserve_gym.sim.kernel.tool_statistics import ToolStatistics
from agentserve_gym.sim.signals import Load, Signals


@dataclass(slots=True)
class InstanceView:
    """One instance as the router sees it.

    Attributes:
        index, node: numbers. ``accelerator``, ``tensor_parallel``: what it runs on.
        latency: how long its iterations take; known from profiling.
        kv_blocks: HBM pool, blocks of ``block_size_tokens``.
        max_num_seqs, max_num_batched_tokens: its scheduler's limits.
        sent_turns: turns that the router sent there and that have not ended; known without delay.
        prompt_tokens, hit_tokens: of turns admitted so far, and how many of those it found in HBM;
            the counters that engines export.
    """

    index: int
    node: int
    accelerator: str
    tensor_parallel: int
    latency: LatencyModel
    kv_blocks: int
    block_size_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int
    signals: Signals
    sent_turns: int = 0
    prompt_tokens: int = 0
    hit_tokens: int = 0

    def load(self) -> Load:
        """The instance's load, as old as its signals are."""
        return self.signals.load()

    def cached_tokens(self, turn: TurnState) -> int:
        """Prompt tokens whose KV is known to lie in the instance's HBM."""
        blocks = self.signals.cached_blocks(turn.program, turn.match_limit_blocks)
        return blocks * self.block_size_tokens

    def look(self, turn: TurnState) -> tuple[int, Load]:
        """``cached_tokens`` and ``load`` at once."""
        blocks, load = self.signals.look(turn.program, turn.match_limit_blocks)
        return blocks * self.block_size_tokens, load


class ClusterView:
    """The cluster as the router sees it.

    Attributes:
        instances: one view per instance.
        tools: statistics of completed tool calls.
        has_dram, has_cxl: per instance, whether it reaches such a tier.
        held_turns, live_programs: turns held back; programs (and sub-agents) that are not done.
        programs: those programs by index, as the router's own table knows them.
        live_context_tokens: sum of the contexts that live programs had when they last ended a turn.
    """

    def __init__(
        self,
        instances: list[InstanceView],
        residency: Residency,
        engines: list[Engine],
        tools: ToolStatistics,
        clock: Clock,
    ) -> None:
        self.instances = instances
        self.tools = tools
        everywhere = range(len(instances))
        self.has_dram = [residency.tier_pool(DRAM, i) is not None for i in everywhere]
        self.has_cxl = [residency.tier_pool(CXL, i) is not None for i in everywhere]
        self.held_turns = 0
        self.live_programs = 0
        self.programs: Mapping[int, ProgramState] = {}
        self.live_context_tokens = 0
        self._residency = residency
        self._engines = engines
        self._clock = clock

    @property
    def now_s(self) -> float:
        return self._clock.time_s

    def tier_tokens(self, turn: TurnState, instance: int, tier: Tier) -> int:
        """Prompt tokens whose KV the instance could load from its DRAM or CXL tier."""
        pool = self._residency.tier_pool(tier, instance)
        if pool is None:
            return 0
        size = self.instances[instance].block_size_tokens
        return pool.match(turn.program, turn.match_limit_blocks) * size

    def chain_tokens(self, program: ProgramState, instance: int, tier: Tier) -> int:
        """Tokens of a program's context whose KV lies in a tier that the instance reaches."""
        view = self.instances[instance]
        limit = program.context_tokens // view.block_size_tokens
        if tier is HBM:
            return view.signals.cached_blocks(program, limit) * view.block_size_tokens
        pool = self._residency.tier_pool(tier, instance)
        return pool.match(program, limit) * view.block_size_tokens if pool is not None else 0

    def tier_occupancy(self, tier: Tier, instance: int) -> float:
        """Share of a lower tier's blocks in use, 0 where there is none."""
        pool = self._residency.tier_pool(tier, instance)
        return 1.0 - pool.free / pool.capacity if pool is not None else 0.0

    def tier_capacity_tokens(self, tier: Tier, instance: int) -> int:
        """Tokens whose KV a lower tier can hold, 0 where there is none."""
        pool = self._residency.tier_pool(tier, instance)
        size = self.instances[instance].block_size_tokens
        return pool.capacity * size if pool is not None else 0

    def restorables(self, turn: TurnState, instance: int) -> list[Restorable]:
        """Copies outside the instance's HBM that it could load, each with its estimated end.

        What lies in HBM is known as well as the instances' signals tell it.
        """
        return self._residency.restorables(turn, instance, self._hbm_blocks)

    def first_token_s(self, turn: TurnState, instance: int, copy: Restorable | None) -> float:
        """Load plus prefill time if the instance were idle, from ``copy`` or by recompute."""
        if copy is not None:
            return self._residency.loaded_first_token_s(turn, instance, copy)
        return self._residency.first_token_s(turn, instance, self._hbm_blocks(turn, instance))

    def _hbm_blocks(self, turn: TurnState, instance: int) -> int:
        signals = self.instances[instance].signals
        return signals.cached_blocks(turn.program, turn.match_limit_blocks)

    def load_s(self, instance: int, tier: Tier, tokens: int, source: int = -1) -> float:
        """Time to load ``tokens`` from a lower tier, or from the HBM of instance ``source``.

        The links' queues are included; infinite where no link joins the two instances."""
        topology = self._residency.topology
        if tier is HBM and not topology.can_migrate(source, instance):
            return inf
        now = self._clock.time_s
        size = tokens * topology.block_bytes / topology.block_size_tokens
        return topology.load_path(tier, source, instance).end_s(now, size) - now

    def offload_s(self, program: ProgramState, tier: Tier, tokens: int) -> float:
        """Time to move ``tokens`` from the program's home to a lower tier, as links are queued."""
        topology = self._residency.topology
        now = self._clock.time_s
        size = tokens * topology.block_bytes / topology.block_size_tokens
        return topology.offload_path(program.home, tier).end_s(now, size) - now

    def is_pinned(self, program: ProgramState) -> bool:
        """Whether the program's chain is pinned somewhere."""
        return self._residency.is_pinned(program)

    def prefill_s(self, instance: int, new_tokens: int, history_tokens: int) -> float:
        """Time to prefill alone on an instance, in chunks."""
        return self._engines[instance].prefill_s(new_tokens, history_tokens)
