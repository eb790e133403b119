"""Where KV lies: in HBM per instance and in lower tiers, and the transfers between them.

A program's KV is a chain (shared prefix, then its own part), so in each pool it is a prefix length
in blocks. Copies in lower tiers stay valid after a reload, so a later offload moves only what is
new. An offload keeps its HBM blocks until the copy is done and then makes them the first to be
reclaimed; a reload has reserved its HBM blocks before it starts. A full tier evicts by its own LRU
order; where everything in it is held, the offload is refused and counted, nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.answers import Place, PlacementKind, Restore
from agentserve_gym.sim.kernel.copies import NEAR, UNDER_WAY, Holders, Restorable
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.links import Path
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.kernel.pools import BlockPool, Pin
from agentserve_gym.sim.kernel.programs import ProgramState, ProgramStatus
from agentserve_gym.sim.kernel.request import Prompt, Request
from agentserve_gym.sim.kernel.residency_counters import ResidencyCounters
from agentserve_gym.sim.kernel.tiers import HBM
from agentserve_gym.sim.kernel.transfers import (
    Load,
    Offload,
    PinDeadline,
    Prefetch,
    Transfer,
    TransferHost,
)

HbmBlocks = Callable[[Prompt, int], int]


@mypyc_attr(allow_interpreted_subclasses=True)
class Residency(TransferHost):
    """The KV residency model of one cluster."""

    def __init__(
        self,
        topology: Topology,
        engines: list[Engine],
        clock: Clock,
        host: Host,
    ) -> None:
        self.topology = topology
        self.engines = engines
        self._host = host
        self.counters = ResidencyCounters(1 + len(topology.tiers))
        self._lower = range(1, 1 + len(topology.tiers))
        self._clock = clock
        self._holders = Holders(topology)
        self._joined = topology.is_joined and len(engines) > 1
        self._networked = topology.is_networked
        self._prefetches: dict[int, Prefetch] = {}
        """The last one of each program that has one under way."""
        self._offloads: dict[tuple[int, int], Offload] = {}
        """The last one of each program to each tier that is under way."""

    def pools(self) -> list[BlockPool]:
        """Every pool: HBM by instance, then the lower tiers'."""
        return [engine.pool for engine in self.engines] + self.lower_pools()

    def lower_pools(self) -> list[BlockPool]:
        """The pools below HBM, by tier."""
        return [pool for tier in self.topology.tiers for pool in tier.pools]

    # --- placement ---------------------------------------------------------------------------

    def place(self, program: ProgramState, place: Place) -> None:
        """Carry out a placement for a program whose last turn ran on ``program.home``."""
        if program.pinned_at >= 0:
            self.unpin(program)
        kind = place.kind
        if kind is PlacementKind.PIN:
            self._pin(program, place)
        elif kind is PlacementKind.OFFLOAD:
            self._offload(program, self.topology.number_of(place.tier), place.stay_warm)
        elif kind is PlacementKind.DROP:
            self._drop(program)
        elif kind is PlacementKind.PREFETCH:
            self._prefetch(program)
        engine = self.engines[program.home]
        engine.synchronize()
        engine.pool.set_rank(program.index, place.rank)

    def program_returned(self, program: ProgramState) -> None:
        """The tool gap is over: a pin ends unless it lasts until admission."""
        if program.pinned_at < 0:
            return
        pin = self._pin_of(program)
        if pin is None:
            program.pinned_at = -1
            return
        self.counters.pins_used += 1
        if pin.until_admitted:
            pin.returned = True
        else:
            self.unpin(program)

    def admitted(self, turn: Request) -> None:
        """The turn has its place in HBM: a pin that lasted until then ends."""
        program = turn.program
        if program.pinned_at >= 0:
            self.unpin(program)
        if program.prefix and self._joined:
            self._holders.ran(program, turn.instance)

    def session_forgotten(self, program: ProgramState) -> None:
        """Nobody waits for the program any more: a pin without a deadline would last for ever."""
        pin = self._pin_of(program)
        if pin is not None and pin.deadline_s == inf:
            self.unpin(program)

    def unpin(self, program: ProgramState) -> None:
        """End the program's pin wherever it is."""
        instance, program.pinned_at = program.pinned_at, -1
        if instance < 0:
            return
        engine = self.engines[instance]
        engine.synchronize()
        if engine.pool.unpin(program.index):
            self._freed(engine)

    def truncate(self, program: ProgramState, blocks: int) -> None:
        """The chain was reset to ``blocks`` blocks: what lies beyond can never be matched again,
        but no memory is told, so it stays there until it is reclaimed."""
        kept = max(blocks - program.shared_blocks, 0)
        program.version += 1
        for engine in self.engines:
            if program.index in engine.pool.entries:
                engine.synchronize()
                if engine.pool.abandon(program.index, kept):
                    self._freed(engine)
        for pool in self.lower_pools():
            pool.abandon(program.index, kept)
        if blocks < program.shared_blocks:
            # Its pin would hold blocks that its turn, which ends the pin, might have to wait for.
            self.unpin(program)
            program.cut_prefix(blocks)

    def is_pinned(self, program: ProgramState) -> bool:
        return self._pin_of(program) is not None

    def _pin_of(self, program: ProgramState) -> Pin | None:
        """The program's pin, if no shortage has ended it up to now."""
        if program.pinned_at < 0:
            return None
        engine = self.engines[program.pinned_at]
        engine.synchronize()
        return engine.pool.pins.get(program.index)

    def _pin(self, program: ProgramState, place: Place) -> None:
        engine = self.engines[program.home]
        engine.synchronize()
        deadline = self._clock.time_s + place.ttl_s
        pin = engine.pool.pin(program, deadline, until_admitted=place.until_admitted)
        if pin is not None:
            program.pinned_at = program.home
            self.counters.pins += 1
            self._clock.schedule(deadline, PinDeadline(self, program, pin))
            engine.reconsider()

    def pin_expired(self, program: ProgramState, pin: Pin) -> None:
        """A pin's deadline is over; it may have ended before, or outlast it."""
        alive = self._pin_of(program)
        if alive is not None and alive is pin and not alive.returned:
            self.counters.pins_expired += 1
            self.unpin(program)

    def _drop(self, program: ProgramState) -> None:
        self.counters.drops += 1
        program.version += 1
        for engine in self.engines:
            if program.index in engine.pool.entries:
                engine.synchronize()
                if engine.pool.shorten(program.index, 0):
                    self._freed(engine)
        for pool in self.lower_pools():
            pool.shorten(program.index, 0)

    def _freed(self, engine: Engine) -> None:
        """Blocks of an instance may have come free: its queue and held turns may move."""
        engine.reconsider()
        self._host.blocks_freed()

    # --- transfers ---------------------------------------------------------------------------

    def _offload(self, program: ProgramState, tier: int, stay_warm: bool) -> None:
        """Copy what the home instance holds and the tier neither has nor is about to get."""
        home = program.home
        engine = self.engines[home]
        engine.synchronize()
        blocks = engine.pool.match(program, self._chain_blocks(program))
        under_way = self._offloads.get((program.index, tier))
        if under_way is not None and under_way.covers(home, blocks):
            under_way.asked_for(stay_warm)
            return
        copy = self._copy_down(program, home, blocks, tier, stay_warm)
        if copy is not None:
            self._offloads[program.index, tier] = copy
            copy.hold_source()
            self._start(copy, self.topology.offload_path(home, tier), copy.taken, home)
            engine.reconsider()

    def write_through(self, request: Request) -> None:
        """Account for what the engine itself copied to the nearest tier, block by block, while the
        turn computed it: all of it is there, and nothing waits for it."""
        instance, size = request.instance, self.topology.block_size_tokens
        for tier in self._lower:
            if self.topology.pool(tier, instance) is not None:
                blocks = request.computed_tokens // size
                copy = self._copy_down(request.program, instance, blocks, tier, stay_warm=True)
                if copy is not None:
                    path = self.topology.offload_path(instance, tier)
                    size_bytes = self.topology.copy_bytes(instance, copy.taken)
                    path.start(self._clock.time_s, size_bytes)
                    copy.store()
                return

    def _copy_down(
        self, program: ProgramState, instance: int, blocks: int, tier: int, stay_warm: bool
    ) -> Offload | None:
        """A copy of a chain's first ``blocks``, for which the tier has made room; ``None`` where it
        has no room, or there is nothing of the program's own to copy."""
        pool = self.topology.pool(tier, instance)
        if pool is None or blocks <= program.shared_blocks:
            return None
        source, keys = self.engines[instance].pool, program.chain_keys
        copy = Offload(self, program, instance, source, keys, tier, pool, blocks)
        copy.asked_for(stay_warm)
        if not copy.reserve():
            self.counters.refused_offloads += 1
            return None
        self._holders.copied_down(program, instance)
        self.counters.offloads[tier] += 1
        self.counters.offloaded_blocks[tier] += copy.taken
        self.counters.offloaded_bytes += self.topology.copy_bytes(instance, copy.taken)
        return copy

    def offload_ended(self, copy: Offload) -> None:
        """The copy in a lower tier is complete; the one in HBM gives way first, unless it is to
        stay, or the program returned meanwhile."""
        program = copy.program
        if self._offloads.get((program.index, copy.tier)) is copy:
            del self._offloads[program.index, copy.tier]
        copy.store()
        engine = self.engines[copy.instance]
        engine.synchronize()
        copy.source.release(copy.source_keys)
        same_gap = program.status is ProgramStatus.TOOL_GAP and copy.gap == program.gaps
        if same_gap and copy.version == program.version and not copy.stay_warm:
            copy.source.make_coldest(program.index)
        self._freed(engine)

    def _prefetch(self, program: ProgramState) -> None:
        """Load what a lower tier holds and the home's HBM lacks, if there is room without pins."""
        engine = self.engines[program.home]
        engine.synchronize()
        pool = engine.pool
        hit = pool.match(program, self._chain_blocks(program))
        under_way = self._prefetches.get(program.index)
        if under_way is not None and under_way.completes(program.home, hit):
            return
        blocks, tier = self._longest_copy(program, hit)
        source = self.topology.pool(tier, program.home) if tier else None
        if source is None or blocks <= max(hit, program.shared_blocks):
            return
        copy = Prefetch(self, program, program.home, tier, source, pool, blocks)
        if not copy.reserve():
            self.counters.refused_prefetches += 1
            return
        copy.hold_source()
        self._prefetches[program.index] = copy
        self.counters.prefetches += 1
        self.counters.prefetched_blocks += copy.taken
        path = self.topology.load_path(tier, NEAR, program.home)
        self._start(copy, path, copy.taken, program.home)
        engine.reconsider()

    def prefetch_ended(self, copy: Prefetch) -> None:
        """The copy in HBM is complete, or is what a turn waits for."""
        if self._prefetches.get(copy.program.index) is copy:
            del self._prefetches[copy.program.index]
        copy.source.release(copy.source_keys)
        engine = self.engines[copy.instance]
        if copy.turn is not None:
            engine.load_finished(copy.turn)
            return
        engine.synchronize()
        copy.store()
        self._freed(engine)

    def _start(self, transfer: Transfer, path: Path, blocks: int, instance: int) -> None:
        """Let an instance's blocks set out."""
        transfer.start(self._clock, path, self.topology.copy_bytes(instance, blocks))

    def _longest_copy(self, program: ProgramState, hit: int) -> tuple[int, int]:
        """Most blocks of the chain that a lower tier adds to the first ``hit``, and the first tier
        that has them; 0, 0."""
        most, where = 0, 0
        for tier in self._lower:
            pool = self.topology.pool(tier, program.home)
            if pool is not None:
                blocks = pool.match_beyond(program, hit, self._chain_blocks(program))
                if blocks > most:
                    most, where = blocks, tier
        return most, where

    def _chain_blocks(self, program: ProgramState) -> int:
        return program.context_tokens // self.topology.block_size_tokens

    # --- restoring ---------------------------------------------------------------------------

    def hbm_blocks(self, turn: Prompt, instance: int) -> int:
        """Leading blocks of a turn's prompt that lie in an instance's HBM now."""
        engine = self.engines[instance]
        engine.synchronize()
        return engine.pool.match(turn.program, turn.match_limit_blocks)

    def restorables(
        self, turn: Prompt, instance: int, hbm_blocks: HbmBlocks | None = None
    ) -> list[Restorable]:
        """Copies from which an instance could load more of a turn's prompt than its HBM holds.

        ``hbm_blocks(turn, instance)`` says what lies in HBM; by default what does now.
        """
        lookup = hbm_blocks or self.hbm_blocks
        program, limit = turn.program, turn.match_limit_blocks
        hit = lookup(turn, instance)
        found: list[Restorable] = []
        under_way = self._prefetches.get(program.index)
        if under_way is not None and under_way.completes(instance, hit):
            blocks = min(under_way.blocks, limit)
            if blocks > hit:
                end_s = under_way.end_s()
                found.append(Restorable(under_way.tier, UNDER_WAY, blocks, end_s))
        for tier in self._lower:
            pool = self.topology.pool(tier, instance)
            if pool is not None:
                blocks = pool.match_beyond(program, hit, limit)
                if blocks > hit:
                    found.append(self._restorable(tier, NEAR, instance, hit, blocks))
        if self._joined:
            found += self._in_other_hbm(turn, instance, hit, lookup)
        if self._networked:
            found += self._distant(turn, instance, hit)
        return found

    def _in_other_hbm(
        self, turn: Prompt, instance: int, hit: int, hbm_blocks: HbmBlocks
    ) -> list[Restorable]:
        """Copies in the HBM of instances from which KV can move."""
        found: list[Restorable] = []
        for source in self._holders.of_hbm(turn.program, hit):
            if source != instance and self.topology.can_migrate(source, instance):
                blocks = hbm_blocks(turn, source)
                if blocks > hit:
                    found.append(self._restorable(HBM, source, instance, hit, blocks))
        return found

    def sources(self, program: ProgramState) -> tuple[list[int], list[int]]:
        """Instances whose HBM, and instances whose lower tiers may hold some of a program's chain
        that others can fetch."""
        holders = self._holders
        hbm = holders.of_hbm(program, 0) if self._joined else []
        return hbm, holders.of_tiers(program, 0) if self._networked else []

    def _distant(self, turn: Prompt, instance: int, hit: int) -> list[Restorable]:
        """Copies in lower tiers that other nodes reach and the instance does not."""
        topology, program = self.topology, turn.program
        asked = [topology.pool(tier, instance) for tier in self._lower]
        found: list[Restorable] = []
        for source in self._holders.of_tiers(program, hit):
            if not topology.are_distant(source, instance):
                continue
            for tier in self._lower:
                pool = topology.pool(tier, source)
                if pool is not None and pool not in asked:
                    asked.append(pool)
                    blocks = pool.match_beyond(program, hit, turn.match_limit_blocks)
                    if blocks > hit:
                        found.append(self._restorable(tier, source, instance, hit, blocks))
        return found

    def _restorable(
        self, tier: int, source: int, instance: int, hit: int, blocks: int
    ) -> Restorable:
        path = self.topology.load_path(tier, source, instance)
        end = path.end_s(self._clock.time_s, self.topology.copy_bytes(instance, blocks - hit))
        return Restorable(tier, source, blocks, end)

    def first_token_s(self, tokens: int, instance: int, known_blocks: int) -> float:
        """Prefill time on an idle instance that has ``known_blocks`` of ``tokens`` in HBM."""
        known = known_blocks * self.topology.block_size_tokens
        return self.engines[instance].prefill_s(tokens - known, known)

    def loaded_first_token_s(self, tokens: int, instance: int, copy: Restorable) -> float:
        """Load and prefill time on an idle instance."""
        known = copy.blocks * self.topology.block_size_tokens
        wait = copy.end_s - self._clock.time_s
        return self.engines[instance].loaded_prefill_s(wait, tokens - known, known)

    def _choose_restore(self, turn: Request) -> Restorable | None:
        """The copy to load by the turn's ``restore`` rule, or none to recompute."""
        instance, rule, tokens = turn.instance, turn.restore, turn.target_tokens
        if rule is Restore.RECOMPUTE:
            return None
        copies = self.restorables(turn, instance)
        if not copies:
            return None
        if rule is Restore.LOAD:
            most = max(copy.blocks for copy in copies)
            copies = [copy for copy in copies if copy.blocks == most]
        ends = [self.loaded_first_token_s(tokens, instance, copy) for copy in copies]
        soonest = min(ends)
        if rule is Restore.LOAD or soonest < self.first_token_s(tokens, instance, turn.hit_blocks):
            return copies[ends.index(soonest)]
        return None

    def begin_load(self, turn: Request) -> tuple[int, int] | None:
        """Start loading for a turn whose HBM is being reserved; returns blocks and their tier."""
        copy = self._choose_restore(turn)
        if copy is None:
            return None
        count, tier, source = copy.blocks - turn.hit_blocks, copy.tier, copy.source
        if source == UNDER_WAY:
            self._prefetches[turn.program.index].join(turn)
            self.counters.joined_prefetches += 1
            return count, tier
        pool = self._pool_of(copy, turn.instance)
        keys = tuple(pool.matched_keys(turn.program, copy.blocks))
        pool.hold(keys)
        path = self.topology.load_path(tier, source, turn.instance)
        load = Load(self, turn, pool, keys, source if tier == HBM else -1)
        self._start(load, path, count, turn.instance)
        self._count_load(tier, source, turn.instance, count)
        if tier == HBM:
            self.engines[source].reconsider()
        return count, tier

    def _pool_of(self, copy: Restorable, instance: int) -> BlockPool:
        """The pool that a copy lies in."""
        if copy.tier == HBM:
            return self.engines[copy.source].pool
        reached = instance if copy.source == NEAR else copy.source
        pool = self.topology.pool(copy.tier, reached)
        assert pool is not None
        return pool

    def _count_load(self, tier: int, source: int, instance: int, blocks: int) -> None:
        counters, node_of = self.counters, self.topology.node_of
        size_bytes = self.topology.copy_bytes(instance, blocks)
        counters.loads[tier] += 1
        counters.loaded_blocks[tier] += blocks
        counters.loaded_bytes += size_bytes
        if source != NEAR and node_of[source] != node_of[instance]:
            counters.remote_loads[tier] += 1
            counters.remote_loaded_bytes += size_bytes

    def load_ended(self, load: Load) -> None:
        """The KV that a turn waited for is in its instance's HBM."""
        if load.instance >= 0:
            self.engines[load.instance].synchronize()
        load.source.release(load.source_keys)
        if load.instance >= 0:
            self._freed(self.engines[load.instance])
        self.engines[load.turn.instance].load_finished(load.turn)
