"""The block pool: states of blocks, order of reclaiming, pins and ranks."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentserve_gym.sim.kernel.host import Watcher
from agentserve_gym.sim.kernel.pools import BlockPool, Key
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.workloads.program import PrefixSegment, Program, Turn

BLOCK = 16


def chain(index: int, *prefix: tuple[str, int]) -> ProgramState:
    """A program whose shared prefix has these levels, in blocks."""
    segments = tuple(PrefixSegment(key, blocks * BLOCK) for key, blocks in prefix)
    plan = Program(f"p{index}", "test", (Turn(10_000, 10_000, 1, 0),), segments)
    return ProgramState(plan, index, index, BLOCK, None)


def store(pool: BlockPool, program: ProgramState, own_blocks: int) -> None:
    """Leave the program's chain cached, as an engine does when a turn ends."""
    keys = program.chain_keys
    pool.hold(keys)
    sizes = (*(size for _, size in program.prefix), own_blocks)
    for key, size in zip(keys, sizes, strict=True):
        missing = size - pool.blocks_of(key)
        assert pool.take(missing, break_pins=False)
        pool.extend(key, missing)
    pool.release(keys)


def accounts(pool: BlockPool) -> tuple[int, int, int]:
    return pool.free, pool.cached, pool.held


def test_a_new_pool_is_free() -> None:
    pool = BlockPool("hbm", 10)
    assert accounts(pool) == (10, 0, 0)
    assert pool.match(chain(0), 5) == 0


def test_take_and_give_move_blocks_between_free_and_held() -> None:
    pool = BlockPool("hbm", 10)
    assert pool.take(4, break_pins=False)
    assert accounts(pool) == (6, 0, 4)
    pool.give(3)
    assert accounts(pool) == (9, 0, 1)


def test_a_take_that_cannot_be_changes_nothing() -> None:
    pool = BlockPool("hbm", 10)
    store(pool, chain(0), 4)
    assert pool.take(5, break_pins=False)
    before = copy.deepcopy(accounts(pool))
    assert not pool.take(6, break_pins=True)
    assert accounts(pool) == before == (1, 4, 5)
    assert pool.blocks_of(0) == 4
    assert pool.evicted == 0


def test_match_follows_the_chain_from_its_head() -> None:
    pool = BlockPool("hbm", 40)
    first = chain(0, ("tools", 3), ("system", 2))
    other = chain(1, ("tools", 3), ("else", 2))
    store(pool, first, 6)
    assert pool.match(first, 100) == 11
    assert pool.match(first, 4) == 4
    assert pool.match(other, 100) == 3
    assert pool.match(chain(2), 100) == 0
    assert pool.matched_keys(first, 11) == ["tools", "system", 0]
    assert pool.matched_keys(first, 5) == ["tools", "system"]
    assert pool.matched_keys(first, 1) == ["tools"]


def test_a_gap_in_the_chain_ends_the_match() -> None:
    pool = BlockPool("hbm", 40)
    program = chain(0, ("tools", 3), ("system", 2))
    store(pool, program, 6)
    pool.shorten("tools", 2)
    assert pool.match(program, 100) == 2


def test_prefix_levels_count_whole_blocks_of_the_running_total() -> None:
    """Levels of 20 and 20 tokens: block 0 is tools', block 1 straddles and is the system's."""
    plan = Program(
        "p", "test", (Turn(99, 99, 1, 0),), (PrefixSegment("t", 20), PrefixSegment("s", 20))
    )
    program = ProgramState(plan, 0, 0, BLOCK, None)
    assert program.prefix == (("t", 1), ("s", 1))
    short = Program("p", "test", (Turn(99, 99, 1, 0),), (PrefixSegment("t", 15),))
    assert ProgramState(short, 0, 0, BLOCK, None).prefix == ()


def test_reclaiming_takes_least_recently_used_tails_first() -> None:
    pool = BlockPool("hbm", 20)
    old, new = chain(0, ("system", 4)), chain(1, ("system", 4))
    store(pool, old, 5)
    store(pool, new, 5)
    assert pool.take(6 + 3, break_pins=False)
    assert [pool.blocks_of(key) for key in (0, 1, "system")] == [2, 5, 4]
    assert pool.take(2 + 5, break_pins=False)
    assert [pool.blocks_of(key) for key in (0, 1, "system")] == [0, 0, 4]
    assert pool.take(4, break_pins=False)
    assert accounts(pool) == (0, 0, 20)
    assert pool.evicted == 14
    assert not pool.entries
    assert not pool.lru


def test_where_only_whole_entries_match_a_cut_one_is_lost() -> None:
    pool = BlockPool("hbm", 20, whole_only=True)
    first, second = chain(0, ("tools", 3)), chain(1, ("tools", 3))
    store(pool, first, 5)
    store(pool, second, 6)
    assert pool.match(first, 99) == 8
    assert pool.take(8, break_pins=False)  # 6 are free: two of the first's tail go
    assert (pool.match(first, 99), pool.match(second, 99)) == (3, 9)
    assert accounts(pool) == (0, 12, 8)
    # What is left of it goes next, before anything that still matches.
    assert pool.take(3, break_pins=False)
    assert accounts(pool) == (0, 9, 11)
    assert pool.match(second, 99) == 9
    assert pool.evicted == 5
    # And the chain can be cached anew.
    pool.give(11)
    store(pool, first, 5)
    assert pool.match(first, 99) == 8


def test_blocks_that_are_left_match_nothing_and_push_out_what_is_older() -> None:
    pool = BlockPool("hbm", 10)
    store(pool, chain(0), 4)
    pool.leave(3)
    assert accounts(pool) == (3, 7, 0)
    assert pool.match(chain(0), 9) == 4
    pool.leave(5)  # three are free, and two of the chain's tail
    assert accounts(pool) == (0, 10, 0)
    assert pool.match(chain(0), 9) == 2
    assert pool.take(2, break_pins=False)
    assert pool.match(chain(0), 9) == 0
    pool.leave(99)
    assert accounts(pool) == (0, 8, 2)
    pool.leave(0)
    assert accounts(pool) == (0, 8, 2)


def test_a_watcher_hears_that_a_cut_entry_is_lost() -> None:
    pool = BlockPool("hbm", 4, whole_only=True)
    heard: list[tuple[Key, int]] = []

    class Log(Watcher):
        def load_changed(self) -> None:
            raise AssertionError

        def entry_changed(self, key: Key, blocks: int) -> None:
            heard.append((key, blocks))

    pool.watcher = Log()
    store(pool, chain(0), 4)
    assert pool.take(1, break_pins=False)
    assert heard == [(0, 4), (0, 0)]


def test_what_is_held_is_not_reclaimed_and_comes_back_most_recent() -> None:
    pool = BlockPool("hbm", 12)
    first, second = chain(0), chain(1)
    store(pool, first, 6)
    store(pool, second, 6)
    pool.hold([0])
    assert pool.reclaimable([0, 1]) == 6
    assert pool.take(6, break_pins=False)
    assert not pool.take(1, break_pins=False)
    pool.give(6)
    pool.release([0])
    store(pool, second, 6)
    assert [entry.key for entry in pool.lru.values()] == [0, 1]


def test_holds_are_counted() -> None:
    pool = BlockPool("hbm", 12)
    store(pool, chain(0), 6)
    pool.hold([0])
    pool.hold([0])
    pool.release([0])
    assert not pool.take(7, break_pins=False)
    pool.release([0])
    assert pool.take(7, break_pins=False)


def test_an_empty_entry_vanishes_when_nothing_holds_it() -> None:
    pool = BlockPool("hbm", 12)
    pool.hold(["system", 7])
    assert set(pool.entries) == {"system", 7}
    pool.release(["system", 7])
    assert not pool.entries
    assert accounts(pool) == (12, 0, 0)


def test_shorten_frees_the_tail_of_cached_and_of_held_entries() -> None:
    pool = BlockPool("hbm", 12)
    store(pool, chain(0), 6)
    assert pool.shorten(0, 9) == 0
    assert pool.shorten(0, 4) == 2
    assert accounts(pool) == (8, 4, 0)
    pool.hold([0])
    assert pool.shorten(0, 1) == 3
    assert accounts(pool) == (11, 0, 1)
    pool.release([0])
    assert pool.shorten(0, 0) == 1
    assert 0 not in pool.entries
    assert accounts(pool) == (12, 0, 0)


def test_what_is_abandoned_stays_cached_and_goes_in_its_turn() -> None:
    pool = BlockPool("hbm", 16)
    for index in range(3):
        store(pool, chain(index), 5)
    assert pool.abandon(1, 7) == 0
    assert pool.abandon(1, 2) == 0
    assert accounts(pool) == (1, 15, 0)
    assert pool.match(chain(1), 9) == 2
    assert pool.reclaimable([1]) == 2
    pool.take(1 + 5 + 1, break_pins=False)
    assert [pool.blocks_of(index) for index in range(3)] == [0, 2, 5]
    pool.take(2, break_pins=False)
    assert [pool.blocks_of(index) for index in range(3)] == [0, 2, 5]
    pool.take(1, break_pins=False)
    assert [pool.blocks_of(index) for index in range(3)] == [0, 1, 5]
    assert pool.evicted == 9


def test_stale_blocks_keep_their_place_when_their_entry_is_used_again() -> None:
    pool = BlockPool("hbm", 12)
    for index in range(2):
        store(pool, chain(index), 6)
    pool.abandon(0, 2)
    pool.hold([0])
    assert accounts(pool) == (0, 10, 2)
    assert pool.take(4, break_pins=False)
    pool.extend(0, 4)
    assert [pool.blocks_of(index) for index in range(2)] == [6, 6]
    pool.release([0])
    assert [entry.key for entry in pool.lru.values()] == [1, 0]


def test_of_a_held_entry_the_abandoned_can_be_reclaimed_last() -> None:
    pool = BlockPool("hbm", 12)
    store(pool, chain(0), 6)
    assert pool.pin(chain(0), 1.0, until_admitted=False) is not None
    store(pool, chain(1), 6)
    assert pool.abandon(0, 2) == 4
    assert accounts(pool) == (0, 10, 2)
    pool.take(7, break_pins=False)
    assert [pool.blocks_of(index) for index in range(2)] == [2, 0]
    assert accounts(pool) == (0, 3, 9)


def test_an_entry_of_which_all_is_stale_vanishes_with_it() -> None:
    pool = BlockPool("hbm", 6)
    store(pool, chain(0), 4)
    pool.abandon(0, 0)
    assert pool.shorten(0, 0) == 0
    assert accounts(pool) == (2, 4, 0)
    pool.take(6, break_pins=False)
    assert not pool.entries
    assert not pool.lru


def test_where_ranks_decide_what_no_program_has_goes_first() -> None:
    pool = BlockPool("hbm", 12)
    for index in range(2):
        store(pool, chain(index), 6)
        pool.set_rank(index, 1.0 + index)
    pool.abandon(1, 4)
    pool.hold([1])
    pool.release([1])
    pool.take(2, break_pins=False)
    assert [pool.blocks_of(index) for index in range(2)] == [6, 4]


def test_the_coldest_goes_first() -> None:
    pool = BlockPool("hbm", 12)
    for index in range(3):
        store(pool, chain(index), 4)
    pool.make_coldest(2)
    pool.take(4, break_pins=False)
    assert [pool.blocks_of(index) for index in range(3)] == [4, 4, 0]


def test_ranks_go_before_recency_and_prefixes_last() -> None:
    pool = BlockPool("hbm", 20)
    for index in range(3):
        store(pool, chain(index, ("system", 2)), 6)
    pool.set_rank(0, 2.0)
    pool.set_rank(1, -1.0)
    pool.take(6, break_pins=False)
    assert [pool.blocks_of(index) for index in range(3)] == [6, 0, 6]
    pool.take(6, break_pins=False)
    assert [pool.blocks_of(index) for index in range(3)] == [6, 0, 0]
    pool.take(6, break_pins=False)
    assert pool.blocks_of("system") == 2


# --- pins -----------------------------------------------------------------------------------------


def pinned_pool(*deadlines_s: float) -> BlockPool:
    """Programs 0, 1, ... of 4 blocks each, pinned, in a pool that they fill."""
    pool = BlockPool("hbm", 4 * len(deadlines_s))
    for index, deadline_s in enumerate(deadlines_s):
        program = chain(index)
        store(pool, program, 4)
        assert pool.pin(program, deadline_s, until_admitted=False) is not None
    return pool


def test_a_pin_keeps_a_chain_until_it_ends() -> None:
    pool = pinned_pool(5.0)
    assert pool.pinned == pool.reclaimable_pinned() == 4
    assert not pool.take(1, break_pins=False)
    assert pool.unpin(0)
    assert not pool.unpin(0)
    assert pool.take(1, break_pins=False)


def test_what_does_not_lie_here_cannot_be_pinned_nor_anything_twice() -> None:
    pool = BlockPool("hbm", 10)
    program = chain(0)
    assert pool.pin(program, 1.0, until_admitted=False) is None
    store(pool, program, 2)
    assert pool.pin(program, 1.0, until_admitted=False) is not None
    assert pool.pin(program, 9.0, until_admitted=False) is None
    assert pool.pins[0].deadline_s == 1.0


def test_soft_pins_give_way_latest_deadline_first() -> None:
    pool = pinned_pool(5.0, 9.0, 7.0)
    assert pool.take(5, break_pins=True)
    assert set(pool.pins) == {0}
    # The 7 s pin ended too, and only one of its blocks was needed.
    assert [pool.blocks_of(index) for index in range(3)] == [4, 0, 3]


def test_of_equal_deadlines_the_later_pin_gives_way_first() -> None:
    pool = pinned_pool(5.0, 5.0)
    assert pool.take(1, break_pins=True)
    assert set(pool.pins) == {0}


def test_a_pin_that_would_not_help_stays() -> None:
    pool = pinned_pool(5.0, 9.0)
    assert not pool.take(9, break_pins=True)
    assert set(pool.pins) == {0, 1}


def test_a_prefix_of_two_pins_counts_as_reclaimable_once() -> None:
    pool = BlockPool("hbm", 12)
    for index in range(2):
        program = chain(index, ("system", 4))
        store(pool, program, 4)
        pool.pin(program, 1.0 + index, until_admitted=False)
    assert accounts(pool) == (0, 0, 12)
    assert pool.reclaimable_pinned() == 12
    assert pool.reclaimable_pinned(besides=chain(0, ("system", 4))) == 4
    assert pool.take(12, break_pins=True)


# --- properties -----------------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> BlockPool:
    """A full pool of chains, some pinned, some ranked, some held."""
    levels: list[Sequence[tuple[str, int]]] = [(), (("t", 2),), (("t", 2), ("s", 3))]
    programs = [
        chain(index, *draw(st.sampled_from(levels))) for index in range(draw(st.integers(1, 6)))
    ]
    sizes = [draw(st.integers(1, 6)) for _ in programs]
    pool = BlockPool("hbm", sum(sizes) + 5 + draw(st.integers(0, 5)))
    for program, size in zip(programs, sizes, strict=True):
        store(pool, program, size)
    for program in programs:
        if draw(st.booleans()):
            pool.pin(program, draw(st.sampled_from([1.0, 2.0, 3.0])), until_admitted=False)
        if draw(st.integers(0, 3)) == 0:
            pool.set_rank(program.index, draw(st.sampled_from([-1.0, 0.0, 1.0])))
        if draw(st.booleans()):
            pool.abandon(program.index, draw(st.integers(0, 6)))
        if draw(st.integers(0, 3)) == 0:
            pool.hold(program.chain_keys)
    return pool


def picture(pool: BlockPool) -> tuple[object, ...]:
    entries: dict[Key, tuple[int, int]] = {
        key: (entry.blocks, entry.holds) for key, entry in pool.entries.items()
    }
    lru = [(entry.key, entry.blocks, entry.stale) for entry in pool.lru.values()]
    return entries, lru, set(pool.pins), accounts(pool), pool.evicted


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pool=pools(), count=st.integers(1, 30))
def test_taking_blocks_at_once_or_one_by_one_is_the_same(pool: BlockPool, count: int) -> None:
    """What lets an engine allocate lazily, for many steps at once."""
    other = copy.deepcopy(pool)
    if pool.take(count, break_pins=True):
        assert all(other.take(1, break_pins=True) for _ in range(count))
        assert picture(pool) == picture(other)
    else:
        room = other.free + other.cached + other.reclaimable_pinned()
        assert room < count


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pool=pools(), count=st.integers(0, 40), break_pins=st.booleans())
def test_a_take_keeps_the_accounts(pool: BlockPool, count: int, break_pins: bool) -> None:
    room = pool.free + pool.cached + (pool.reclaimable_pinned() if break_pins else 0)
    private = pool.held - sum(entry.blocks for entry in pool.entries.values() if entry.holds)
    taken = pool.take(count, break_pins=break_pins)
    assert taken == (count <= room)
    held_in_entries = sum(entry.blocks for entry in pool.entries.values() if entry.holds)
    assert pool.held == held_in_entries + private + (count if taken else 0)
    assert pool.cached == sum(entry.blocks + entry.stale for entry in pool.lru.values())
    assert min(accounts(pool)) >= 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pool=pools(), count=st.integers(0, 40))
def test_the_head_of_a_chain_outlives_its_tail(pool: BlockPool, count: int) -> None:
    """An own part never outlives its shared prefix, nor a level of that the level above."""
    sizes = {"t": 2, "s": 3}
    users = {index: pin.keys for index, pin in pool.pins.items()}
    pool.take(count, break_pins=True)
    for index, keys in users.items():
        if pool.blocks_of(index):
            assert all(pool.blocks_of(key) == sizes[str(key)] for key in keys[:-1])
    if pool.blocks_of("s"):
        assert pool.blocks_of("t") == 2


class Listener(Watcher):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[Key, int]] = []

    def load_changed(self) -> None:
        raise AssertionError("a pool has no load")

    def entry_changed(self, key: Key, blocks: int) -> None:
        self.heard.append((key, blocks))


def test_a_watcher_hears_of_every_change_of_length() -> None:
    pool = BlockPool("hbm", 10)
    pool.watcher = listener = Listener()
    store(pool, chain(0, ("system", 2)), 5)
    pool.take(5, break_pins=False)
    pool.shorten(0, 1)
    assert listener.heard == [("system", 2), (0, 5), (0, 3), (0, 1)]


@pytest.mark.parametrize("count", [0, 1, 10])
def test_a_deep_copy_is_independent(count: int) -> None:
    pool = pinned_pool(1.0, 2.0, 3.0)
    twin = copy.deepcopy(pool)
    pool.take(count, break_pins=True)
    assert picture(twin) == picture(pinned_pool(1.0, 2.0, 3.0))
