"""What policies may see: instances through their signals, and the cluster around a decision.

A view shows only what a live router could know. What the router does itself (how many turns it
sent where) it knows at once, the rest as early as signals reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from mypy_extensions import mypyc_attr

from agentserve_gym.hardware.pricing.timing import LatencyModel
from agentserve_gym.sim.kernel.copies import NEAR, Restorable
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.links import Path
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import ProgramState, TurnState
from agentserve_gym.sim.kernel.request import Prompt
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.kernel.tiers import HBM, HBM_NAME
from agentserve_gym.sim.kernel.tool_statistics import ToolStatistics
from agentserve_gym.sim.signals import Load, Signals


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass
class InstanceView(Copyable):
    """One instance as the router sees it.

    Attributes:
        index, node: numbers. ``model``: what it serves, as the scenario names it.
        accelerator, tensor_parallel: what it runs on.
        latency: how long its iterations take; known from profiling.
        kv_blocks: HBM pool, blocks of ``block_size_tokens``.
        max_num_seqs, max_num_batched_tokens: its scheduler's limits.
        sent_turns: turns that the router sent there and that have not ended; known without delay.
        prompt_tokens, hit_tokens: of turns admitted so far, and how many of those it found in HBM;
            the counters that engines export.
    """

    index: int
    node: int
    model: str
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


@mypyc_attr(allow_interpreted_subclasses=True)
class ClusterView(Copyable):
    """The cluster as the router sees it.

    Attributes:
        instances: one view per instance, by its index; ``serving``: those that a program may use.
        tools: statistics of completed tool calls.
        tiers: names of the memory tiers below HBM, nearest first. Methods that take the name of a
            tier treat one that the cluster lacks as one that no instance reaches.
        held_turns, live_programs: turns held back; programs (and sub-agents) that are not done, as
            far as a router knows.
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
        self.tiers = tuple(tier.name for tier in residency.topology.tiers)
        self.held_turns = 0
        self.live_programs = 0
        self.programs: Mapping[int, ProgramState] = {}
        self.live_context_tokens = 0
        self._residency = residency
        self._topology = residency.topology
        self._engines = engines
        self._clock = clock
        self._serving: dict[str, list[InstanceView]] = {}
        for view in instances:
            self._serving.setdefault(view.model, []).append(view)

    def serving(self, program: ProgramState) -> list[InstanceView]:
        """The instances that serve the program's model, by index; not to be changed."""
        return self._serving[program.model]

    def serves(self, instance: int, program: ProgramState) -> bool:
        """Whether an instance serves the program's model."""
        return self.instances[instance].model == program.model

    @property
    def now_s(self) -> float:
        return self._clock.time_s

    def reaches(self, instance: int, tier: str) -> bool:
        """Whether an instance reaches a pool of a lower tier."""
        return self._pool(tier, instance) is not None

    def reached_tiers(self, instance: int) -> list[str]:
        """Names of the lower tiers that an instance reaches, nearest first."""
        return [tier.name for tier in self._topology.tiers if tier.pool_of[instance] is not None]

    def pool_number(self, instance: int, tier: str) -> int:
        """Which of a lower tier's pools an instance reaches, counted from 0; -1 for none."""
        pool = self._pool(tier, instance)
        if pool is None:
            return -1
        return self._topology.tiers[self._topology.number_of(tier) - 1].pools.index(pool)

    def _pool(self, tier: str, instance: int) -> BlockPool | None:
        number = self._topology.number_of(tier)
        return self._topology.pool(number, instance) if number > HBM else None

    def tier_tokens(self, turn: TurnState, instance: int, tier: str) -> int:
        """Prompt tokens whose KV the instance could load from a lower tier."""
        pool = self._pool(tier, instance)
        if pool is None:
            return 0
        size = self.instances[instance].block_size_tokens
        return pool.match(turn.program, turn.match_limit_blocks) * size

    def chain_tokens(self, program: ProgramState, instance: int, tier: str) -> int:
        """Tokens of a program's context whose KV lies in a tier that the instance reaches, or, for
        ``hbm``, in its own."""
        view = self.instances[instance]
        limit = program.context_tokens // view.block_size_tokens
        if tier == HBM_NAME:
            return view.signals.cached_blocks(program, limit) * view.block_size_tokens
        pool = self._pool(tier, instance)
        return pool.match(program, limit) * view.block_size_tokens if pool is not None else 0

    def tier_occupancy(self, tier: str, instance: int) -> float:
        """Share of a lower tier's blocks in use, 0 where there is none."""
        pool = self._pool(tier, instance)
        return 1.0 - pool.free / pool.capacity if pool is not None else 0.0

    def tier_capacity_tokens(self, tier: str, instance: int) -> int:
        """Tokens whose KV a lower tier can hold, 0 where there is none."""
        pool = self._pool(tier, instance)
        size = self.instances[instance].block_size_tokens
        return pool.capacity * size if pool is not None else 0

    def restorables(self, turn: TurnState, instance: int) -> list[Restorable]:
        """Copies outside the instance's HBM that it could load, each with its estimated end.

        What lies in HBM is known as well as the instances' signals tell it.
        """
        return self._residency.restorables(turn, instance, self._hbm_blocks)

    def sources(self, turn: TurnState) -> tuple[list[int], list[int]]:
        """Instances whose HBM may hold some of a turn's prompt, and instances whose lower tiers may
        hold some that other nodes can fetch. Where programs ran, the router knows itself."""
        return self._residency.sources(turn.program)

    def first_token_s(self, turn: TurnState, instance: int, copy: Restorable | None) -> float:
        """Load plus prefill time if the instance were idle, from ``copy`` or by recompute."""
        if copy is not None:
            return self._residency.loaded_first_token_s(turn.prompt_tokens, instance, copy)
        known_blocks = self._hbm_blocks(turn, instance)
        return self._residency.first_token_s(turn.prompt_tokens, instance, known_blocks)

    def _hbm_blocks(self, turn: Prompt, instance: int) -> int:
        signals = self.instances[instance].signals
        return signals.cached_blocks(turn.program, turn.match_limit_blocks)

    def load_s(self, instance: int, tier: str, tokens: int, source: int = NEAR) -> float:
        """Time to load ``tokens`` from a lower tier that the instance reaches or, with ``source``,
        from that instance's HBM or from a tier that it reaches on another node.

        The links' queues are included; infinite where no links join the two."""
        topology = self._topology
        number = topology.number_of(tier)
        if number == HBM and source == NEAR:
            return inf
        if source != NEAR and not topology.can_migrate(source, instance):
            return inf
        if number != HBM and self._pool(tier, instance if source == NEAR else source) is None:
            return inf
        return self._transfer_s(topology.load_path(number, source, instance), instance, tokens)

    def offload_s(self, program: ProgramState, tier: str, tokens: int) -> float:
        """Time to move ``tokens`` from the program's home to a lower tier, as links are queued;
        infinite where its home does not reach it."""
        if self._pool(tier, program.home) is None:
            return inf
        topology = self._topology
        path = topology.offload_path(program.home, topology.number_of(tier))
        return self._transfer_s(path, program.home, tokens)

    def _transfer_s(self, path: Path, instance: int, tokens: int) -> float:
        topology, now = self._topology, self._clock.time_s
        size = tokens * topology.block_bytes[instance] / topology.block_size_tokens
        return path.end_s(now, size + topology.besides_bytes[instance]) - now

    def is_pinned(self, program: ProgramState) -> bool:
        """Whether the program's chain is pinned somewhere."""
        return self._residency.is_pinned(program)

    def prefill_s(self, instance: int, new_tokens: int, history_tokens: int) -> float:
        """Time to prefill alone on an instance, in chunks."""
        return self._engines[instance].prefill_s(new_tokens, history_tokens)
