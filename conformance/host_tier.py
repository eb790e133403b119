"""The DRAM tier beside vLLM's CPU offloading manager: what is found, stored and evicted.

Our simulation runs first, and writes through: at the end of every turn, what the tier lacks is
copied to it. What the tier is asked, in order, is a *history*: vLLM's manager is asked the same,
and must find, store and evict the same blocks. A block is named by its owner (a program, or a level
of a shared prefix), its place there, and how often that place was dropped before.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict
from zlib import crc32

from agentserve_gym.sim import (
    Answer,
    Decision,
    PlacementDecision,
    Restore,
    Route,
    RouteDecision,
    Simulation,
    load_scenario,
    offload,
    run,
)
from agentserve_gym.sim.kernel.arc import ArcPool
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.host import Watcher
from agentserve_gym.sim.kernel.pools import BlockPool, Key
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.tier_pool import TierPool
from conformance import ours
from conformance.cases import Case, PlainProgram

_TIER = "host"
_BLOCK_TOKENS = 16
_BLOCK_GIB = _BLOCK_TOKENS * 131_072 / 2**30
"""Of llama-3.1-8b in bf16, 131,072 bytes a token."""

Block = tuple[str, int, int]
"""Owner, place, and how often that place was dropped before."""


class Event(TypedDict):
    """Something that the tier is asked: ``find`` blocks of a chain from ``first`` on, ``load`` some
    of them, ``store`` what it lacks of a chain; ``loaded`` and ``stored`` end what was begun.
    ``dropped``: what contexts that shrank have dropped since blocks were stored last."""

    do: str
    turn: tuple[int, int]
    first: NotRequired[int]
    chain: NotRequired[list[Block]]
    dropped: NotRequired[list[Block]]


class Stored(NamedTuple):
    """What a request to store led to.

    Attributes:
        stored, evicted: blocks; ``stored`` is -1 if there was no room, and nothing happened.
        used: blocks of the tier that are not free then.
        found: how many can be found; ``which``: a checksum of their names.
    """

    stored: int
    evicted: int
    used: int
    found: int
    which: int


Reply = int | Stored | None
"""Blocks found, what was stored, or nothing where something ended."""


class History(NamedTuple):
    """What a run asked of its tier, and the answers."""

    events: list[Event]
    answers: list[Reply]


@dataclass(frozen=True, slots=True)
class HostCase:
    """A run with a DRAM tier.

    Attributes:
        case: programs, and the engine.
        host_blocks: the tier's. ``eviction``: its rule.
        alone: every turn of a program runs on an engine and a node of its own, so that what it
            shares with no other program is found in the tier alone.
        gbps: of every link between HBM and the tier.
    """

    case: Case
    host_blocks: int
    eviction: str = "lru"
    alone: bool = False
    gbps: float = 50.0


def play(case: HostCase) -> History:
    """Run our side."""
    spec = ours.scenario(case.case).model_dump(mode="json")
    cluster = spec["cluster"]
    (node,) = cluster["nodes"]
    node["host_link"] = {"bandwidth_gbps": case.gbps, "latency_us": 0.0}
    if case.alone:
        count = max(len(plan["turns"]) for plan in case.case.programs)
        cluster["nodes"] = [node | {"name": f"node{number}"} for number in range(count)]
    cluster["tiers"] = [
        {
            "name": _TIER, "shared": True, "staged": False, "eviction": case.eviction,
            "capacity_gib": case.host_blocks * _BLOCK_GIB, "latency_us": 0.0,
            "read_gbps": case.gbps, "write_gbps": case.gbps,
        }
    ]  # fmt: skip
    simulation = Simulation(load_scenario(spec), fused=False)
    recorder = _Recorder(simulation, case)
    (tier,) = simulation.residency.topology.tiers
    (pool,) = tier.pools
    recorded = _POOLS[case.eviction](pool.name, pool.capacity)
    recorded.recorder = recorder
    tier.pools, tier.pool_of = [recorded], [recorded] * len(tier.pool_of)
    run(simulation, recorder)
    return History(recorder.events, recorder.answers)


class _Chain:
    """Names the blocks of one program's chain."""

    def __init__(self, plan: PlainProgram) -> None:
        self.turn = 0
        self._own = plan["program_id"]
        self._levels: list[tuple[str, int]] = []
        tokens = counted = 0
        for level in plan["prefix"]:
            tokens += level["tokens"]
            self._levels.append((level["key"], tokens // _BLOCK_TOKENS - counted))
            counted = tokens // _BLOCK_TOKENS
        self._kept = [
            turn.get("reset_to_tokens", 2**40) // _BLOCK_TOKENS - counted for turn in plan["turns"]
        ]

    def begin(self, turn: int, blocks: int) -> list[Block]:
        """A turn is ready, and had ``blocks`` blocks before; returns those that are dropped."""
        kept = self._kept[turn]
        before = self.own(blocks - sum(size for _, size in self._levels))
        self.turn = turn
        return [block for block in before if block[1] >= kept]

    def blocks(self, count: int) -> list[Block]:
        """Its first blocks as they are now."""
        found = [(key, place, 0) for key, size in self._levels for place in range(size)]
        return (found + self.own(count - len(found)))[:count]

    def own(self, count: int) -> list[Block]:
        """The first of those that it does not share."""
        kept = self._kept[: self.turn + 1]
        return [(self._own, place, sum(most <= place for most in kept)) for place in range(count)]


class _Recorder:
    """A policy that writes through; it hears what engines and the tier do."""

    def __init__(self, simulation: Simulation, case: HostCase) -> None:
        self.events: list[Event] = []
        self.answers: list[Reply] = []
        self._alone = case.alone
        self._chains = [_Chain(plan) for plan in case.case.programs]
        self._numbers: dict[int, int] = {}
        self._engines = simulation.engines
        for engine in simulation.engines:
            engine.watcher = _Admissions(self, engine)
        self._offered: tuple[tuple[int, int], list[Block]] = ((0, 0), [])
        self._dropped: list[Block] = []
        self._storing: dict[int, deque[tuple[int, int]]] = defaultdict(deque)

    def ask(self, event: Event, answer: Reply = None) -> None:
        """Write down what the tier was asked, and what it answered."""
        self.events.append(event)
        self.answers.append(answer)

    def chain(self, request: Request) -> list[Block]:
        """The blocks of a prompt."""
        chain = self._chains[int(request.program.program_id)]
        return chain.blocks(request.match_limit_blocks)

    def decide(self, decision: Decision) -> Answer:
        program = decision.program
        number = self._numbers[program.index] = int(program.program_id)
        if isinstance(decision, RouteDecision):
            blocks = program.context_tokens // _BLOCK_TOKENS
            self._dropped += self._chains[number].begin(decision.turn.number, blocks)
            return Route(decision.turn.number if self._alone else 0, restore=Restore.LOAD)
        self._offer(decision, number)
        return offload(_TIER, stay_warm=True)

    def _offer(self, decision: PlacementDecision, number: int) -> None:
        program, engine = decision.program, self._engines[decision.instance]
        engine.synchronize()
        held = engine.pool.match(program, program.context_tokens // _BLOCK_TOKENS)
        turn = (number, program.turns_done - 1)
        self._offered = (turn, self._chains[number].blocks(held))

    def store_began(self, pool: BlockPool, count: int, evicted: int) -> None:
        """The tier has room for ``count`` blocks of what was offered last; -1: it has none."""
        turn, chain = self._offered
        found = sorted(
            block for key, entry in pool.entries.items() for block in self._names(key, entry.blocks)
        )
        which = crc32(json.dumps(found).encode())
        event: Event = {"do": "store", "turn": turn, "chain": chain, "dropped": self._dropped}
        used = pool.capacity - pool.free
        self.ask(event, Stored(count, evicted, used, len(found), which))
        self._dropped = []
        if count >= 0:
            self._storing[turn[0]].append(turn)

    def store_ended(self, index: int) -> None:
        """The first of what is stored for a program is there."""
        self.ask({"do": "stored", "turn": self._storing[self._numbers[index]].popleft()})

    def _names(self, key: Key, blocks: int) -> list[Block]:
        if isinstance(key, int):
            return self._chains[self._numbers[key]].own(blocks)
        return [(key, place, 0) for place in range(blocks)]


class _Admissions(Watcher):
    """Sees which turns an engine has admitted, and what they load."""

    def __init__(self, recorder: _Recorder, engine: Engine) -> None:
        self._recorder = recorder
        self._engine = engine
        self._admitted: dict[int, int] = {}
        self._loading: dict[int, tuple[int, int]] = {}

    def load_changed(self) -> None:
        engine = self._engine
        for sequence in [each for each in self._loading if each not in engine.queue.loading]:
            self._recorder.ask({"do": "loaded", "turn": self._loading.pop(sequence)})
        for request in (*engine.queue.loading.values(), *engine.running.values()):
            if self._admitted.get(request.sequence) != request.preemptions:
                self._admitted[request.sequence] = request.preemptions
                self._admit(request)

    def _admit(self, request: Request) -> None:
        turn = (int(request.program.program_id), request.turn.number)
        first, chain = request.hit_blocks, self._recorder.chain(request)
        loading = request.sequence in self._engine.queue.loading
        end = request.computed_tokens // _BLOCK_TOKENS if loading else first
        self._recorder.ask(
            {"do": "find", "turn": turn, "first": first, "chain": chain}, end - first
        )
        if loading:
            self._loading[request.sequence] = turn
            self._recorder.ask({"do": "load", "turn": turn, "first": first, "chain": chain[:end]})

    def entry_changed(self, key: Key, blocks: int) -> None:
        """Of no interest: the tier's pool says more."""


class _Recorded(BlockPool):
    """The tier's pool, which says what is stored."""

    recorder: _Recorder

    def make_room(self, sizes: Sequence[tuple[Key, int]]) -> int:
        before = self.evicted
        taken = super().make_room(sizes)
        self.recorder.store_began(self, taken, self.evicted - before)
        return taken

    def fill(self, sizes: Sequence[tuple[Key, int]], taken: int, stale: Key | None) -> None:
        super().fill(sizes, taken, stale)
        index = sizes[-1][0]
        assert isinstance(index, int)
        self.recorder.store_ended(index)


class _RecordedLru(_Recorded, TierPool):
    """One that evicts in LRU order."""


class _RecordedArc(_Recorded, ArcPool):
    """One that evicts by ARC."""


_POOLS: dict[str, type[_Recorded]] = {"lru": _RecordedLru, "arc": _RecordedArc}
