"""Pools of lower tiers: what counts as a use, and what is evicted, in LRU order and by ARC."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_helpers import audit_tier

from agentserve_gym.sim.kernel.arc import ArcPool
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.tier_pool import TierPool
from agentserve_gym.workloads.program import PrefixSegment, Program, Turn

BLOCK = 16
MAKERS: list[Callable[[str, int], BlockPool]] = [TierPool, ArcPool]
every_pool = pytest.mark.parametrize("make", MAKERS)


def chain(index: int, *prefix: tuple[str, int]) -> ProgramState:
    """A program whose shared prefix has these levels, in blocks."""
    segments = tuple(PrefixSegment(key, blocks * BLOCK) for key, blocks in prefix)
    plan = Program(f"p{index}", "test", (Turn(10_000, 10_000, 1, 0),), segments)
    return ProgramState(plan, index, index, BLOCK, None)


def store(pool: BlockPool, program: ProgramState, own_blocks: int) -> int:
    """Copy the program's chain to the pool; returns how many blocks it lacked, -1 if refused."""
    sizes = (*program.prefix, (program.index, own_blocks))
    taken = pool.make_room(sizes)
    if taken >= 0:
        pool.fill(sizes, taken, None)
    return taken


def read(pool: BlockPool, program: ProgramState) -> None:
    """Load all of the program's chain."""
    pool.hold(program.chain_keys)
    pool.release(program.chain_keys)


def held_by_program(pool: BlockPool, programs: int) -> list[int]:
    return [pool.blocks_of(index) for index in range(programs)]


@every_pool
def test_only_what_is_missing_is_stored(make: Callable[[str, int], BlockPool]) -> None:
    pool = make("dram", 20)
    assert store(pool, chain(0, ("system", 4)), 5) == 9
    assert store(pool, chain(0, ("system", 4)), 7) == 2
    assert store(pool, chain(1, ("system", 4)), 3) == 3
    assert (pool.free, pool.cached, pool.held) == (6, 14, 0)
    assert pool.match(chain(1, ("system", 4)), 99) == 7


@every_pool
def test_what_is_on_its_way_cannot_be_found_nor_evicted(
    make: Callable[[str, int], BlockPool],
) -> None:
    pool = make("dram", 10)
    taken = pool.make_room([(0, 6)])
    assert taken == pool.held == 6
    assert pool.match(chain(0), 9) == 0
    assert pool.make_room([(1, 5)]) == -1
    assert (pool.free, pool.cached, pool.held) == (4, 0, 6)
    pool.fill([(0, 6)], taken, None)
    assert pool.match(chain(0), 9) == 6
    assert store(pool, chain(1), 5) == 5
    assert pool.match(chain(0), 9) == 5


@every_pool
def test_what_was_dropped_meanwhile_comes_free(make: Callable[[str, int], BlockPool]) -> None:
    pool = make("dram", 10)
    taken = pool.make_room([("system", 2), (0, 6)])
    pool.fill([("system", 2), (0, 6)], taken, 0)
    assert (pool.free, pool.cached, pool.held) == (8, 2, 0)


@every_pool
def test_stale_blocks_are_evicted_in_their_turn(make: Callable[[str, int], BlockPool]) -> None:
    pool = make("dram", 15)
    for index in range(3):
        store(pool, chain(index), 5)
    assert pool.abandon(1, 2) == 0
    assert pool.cached == 15
    assert store(pool, chain(3), 6) == 6
    assert held_by_program(pool, 4) == [0, 2, 5, 6]
    assert pool.cached == 15
    assert store(pool, chain(4), 2) == 2
    assert held_by_program(pool, 4) == [0, 2, 5, 6]
    audit_tier(pool, 0)


@every_pool
def test_a_part_may_be_dropped_for_good(make: Callable[[str, int], BlockPool]) -> None:
    pool = make("dram", 10)
    store(pool, chain(0), 6)
    assert pool.shorten(0, 2) == 4
    assert pool.shorten(0, 0) == 2
    assert (pool.free, pool.cached) == (10, 0)
    assert not pool.entries


def test_a_use_counts_from_its_start() -> None:
    pool = TierPool("dram", 12)
    for index in range(3):
        store(pool, chain(index), 4)
    pool.hold([0])
    pool.hold([1])
    pool.release([1])
    pool.release([0])
    store(pool, chain(3), 4)
    store(pool, chain(4), 4)
    assert held_by_program(pool, 5) == [0, 4, 0, 4, 4]


def test_what_is_held_is_passed_over() -> None:
    pool = TierPool("dram", 8)
    for index in range(2):
        store(pool, chain(index), 4)
    pool.hold([0])
    store(pool, chain(1), 4)
    assert store(pool, chain(2), 3) == 3
    assert held_by_program(pool, 3) == [4, 1, 3]


def test_arc_keeps_what_was_used_twice() -> None:
    pool = ArcPool("dram", 12)
    for index in range(3):
        store(pool, chain(index), 4)
    read(pool, chain(0))
    assert store(pool, chain(0), 4) == 0
    store(pool, chain(3), 4)
    store(pool, chain(4), 4)
    store(pool, chain(5), 4)
    assert held_by_program(pool, 6) == [4, 0, 0, 0, 4, 4]


def test_arc_learns_from_what_it_evicted_too_early() -> None:
    """Once a recent block was missed, the frequent ones must give way as well."""
    pool = ArcPool("dram", 8)
    store(pool, chain(0), 4)
    store(pool, chain(0), 4)
    store(pool, chain(1), 4)
    store(pool, chain(2), 4)
    assert held_by_program(pool, 3) == [4, 0, 4]
    store(pool, chain(1), 4)
    assert held_by_program(pool, 3) == [1, 4, 3]


def test_a_gap_ends_what_arc_finds_unless_it_is_had_from_elsewhere() -> None:
    pool = ArcPool("dram", 8)
    program = chain(0, ("system", 3))
    store(pool, program, 3)
    pool.shorten("system", 2)
    assert pool.match(program, 9) == 2
    assert pool.match_beyond(program, 2, 9) == 2
    assert pool.match_beyond(program, 3, 9) == 6
    assert pool.match_beyond(program, 3, 5) == 5
    assert store(pool, program, 3) == 1
    assert pool.match(program, 9) == 6


def test_blocks_behind_a_gap_are_found_again_when_it_is_filled() -> None:
    pool = ArcPool("dram", 6)
    store(pool, chain(0), 2)
    assert store(pool, chain(0), 4) == 2
    pool._evict((0, 1, 0))
    assert pool.blocks_of(0) == 1
    assert pool.cached == 3
    assert store(pool, chain(0), 4) == 1
    assert pool.blocks_of(0) == 4


def test_arc_forgets_programs_in_the_end() -> None:
    pool = ArcPool("dram", 4)
    for index in range(50):
        store(pool, chain(index), 3)
        read(pool, chain(index))
    assert len(pool._parts) <= 2 * pool.capacity + 1


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["store", "begin", "end", "read", "abandon", "shorten"]),
        st.integers(0, 4),
        st.integers(0, 9),
    ),
    max_size=40,
)


@every_pool
@settings(max_examples=80, deadline=None, derandomize=True)
@given(moves=MOVES)
def test_accounts_agree_whatever_is_asked(
    make: Callable[[str, int], BlockPool], moves: list[tuple[str, int, int]]
) -> None:
    pool = make("dram", 16)
    programs = [chain(index, ("system", 2)) for index in range(5)]
    under_way: list[tuple[list[tuple[int | str, int]], int, bool]] = []
    for what, index, blocks in moves:
        program = programs[index]
        match what:
            case "store":
                store(pool, program, blocks)
            case "begin":
                sizes = [*program.prefix, (index, blocks)]
                taken = pool.make_room(sizes)
                if taken >= 0:
                    under_way.append((sizes, taken, False))
            case "end" if under_way:
                sizes, taken, stale = under_way.pop(0)
                pool.fill(sizes, taken, sizes[-1][0] if stale else None)
            case "read":
                read(pool, program)
            case "abandon" | "shorten":
                (pool.abandon if what == "abandon" else pool.shorten)(index, blocks)
                under_way = [
                    (sizes, taken, stale or sizes[-1][0] == index)
                    for sizes, taken, stale in under_way
                ]
        audit_tier(pool, sum(taken for _, taken, _ in under_way))
        audit_tier(copy.deepcopy(pool), sum(taken for _, taken, _ in under_way))
