"""Our pool of KV blocks and our queue orders, asked what SGLang's radix cache is asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from agentserve_gym.sim import ProgramState
from agentserve_gym.sim.kernel.pools import BlockPool, Entry, Key
from agentserve_gym.workloads import PrefixSegment, Program
from conformance.radix_cases import RadixCase, Turn


class Answer(NamedTuple):
    """Pages of a prompt that were found, -1 where none are looked up, and pages evicted."""

    found: int
    evicted: int


class WholeNodes(BlockPool):
    """A pool that evicts as a radix tree does: pages that were cached at once leave at once, though
    a node is split where texts part that begin alike, or where a look-up ends."""

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(name, capacity)
        self._ends: dict[Key, list[int]] = {}
        """Where nodes end in entries."""
        self._dropped_ends: dict[int, list[int]] = {}
        """Where they end in what is stale, by its slot."""
        self._goes_on: dict[Key, Key] = {}
        """Entries whose last node goes on in another entry."""
        self._used_slots: dict[Key, int] = {}
        """Slots that the first nodes of entries have if it is later than the entry's."""
        self._newest: Key | None = None

    def hold(self, keys: Iterable[Key]) -> None:
        held = list(keys)
        for key in held:
            after = self._goes_on.get(key)
            if after is not None and after not in held:
                del self._goes_on[key]
                self._use_rest(after)
        super().hold(held)

    def _use_rest(self, key: Key) -> None:
        """A look-up ended inside a node, which counts as used: its rest begins this entry."""
        if key in self._goes_on:
            self._use_rest(self._goes_on[key])
        self._slots += 1
        self._used_slots[key] = self._slots

    def take(self, count: int, *, reclaim_pins: bool) -> bool:
        self._newest = None
        return super().take(count, reclaim_pins=reclaim_pins)

    def extend(self, key: Key, count: int) -> None:
        before = self.blocks_of(key)
        ends = [end for end in self._ends.get(key, ()) if end <= before]
        self._ends[key] = [*ends, before + count]
        if self._newest is not None:
            self._goes_on[self._newest] = key
        self._newest = key
        super().extend(key, count)

    def abandon(self, key: Key, blocks: int) -> int:
        entry, ends = self.entries.get(key), self._ends.get(key, [])
        if entry is None or entry.blocks <= blocks:
            return 0
        dropped = [end - blocks for end in ends if end > blocks]
        inside = blocks not in ends if blocks else self._part(key)
        super().abandon(key, blocks)
        self._dropped_ends[entry.slot] = dropped
        if inside:
            self._use(entry, min(dropped[0], entry.stale))
        self._ends[key] = [*(end for end in ends if end < blocks), blocks]
        return 0

    def _use(self, entry: Entry, count: int) -> None:
        """Make the first stale blocks of an entry the most recently used."""
        entry.stale -= count
        self.cached -= count
        self._dropped_ends[entry.slot] = [end - count for end in self._dropped_ends[entry.slot]]
        self._strand(entry.key, count)
        self._dropped_ends[self._slots] = []

    def _reclaim(self, count: int) -> None:
        enough = self.free + count
        begun = False
        while self.free < enough or begun:
            entry = self._coldest()
            size, ends = entry.blocks, self._ends.get(entry.key, [])
            if entry.stale:
                size, ends = entry.stale, self._dropped_ends[entry.slot]
            kept = max((end for end in ends if end < size), default=0)
            is_first = kept == 0 and entry.stale == 0
            if is_first and self._was_used_later(entry):
                continue
            begun = is_first and self._part(entry.key)
            super()._reclaim(size - kept)

    def _was_used_later(self, entry: Entry) -> bool:
        """Whether the first node of an entry was used after the rest; it gets its place then."""
        slot = self._used_slots.pop(entry.key, 0)
        if slot <= entry.slot:
            return False
        del self.lru[entry.slot]
        entry.slot = slot
        self.lru = OrderedDict(sorted([*self.lru.items(), (slot, entry)]))
        return True

    def _part(self, key: Key) -> bool:
        """Split the first node of an entry from where it began, if that was in another entry."""
        others = [before for before, after in self._goes_on.items() if after == key]
        for before in others:
            del self._goes_on[before]
        return bool(others)


class Pool:
    """One of our pools, asked one thing after the other."""

    def __init__(self, case: RadixCase, pool: BlockPool) -> None:
        self._pool = pool
        self._page = case.page_tokens
        self._turns = case.turns
        self._programs = [
            ProgramState(
                Program(f"{index}", "any", (), tuple(PrefixSegment(*level) for level in levels)),
                index, 0, case.page_tokens, None,
            )
            for index, levels in enumerate(case.levels)
        ]  # fmt: skip
        self._private: dict[int, int] = {}

    def arrive(self, name: int) -> None:
        """A turn is ready: what its context lost is found no more."""
        turn = self._turns[name]
        program = self._programs[turn.program]
        self._pool.abandon(program.index, self._own(program, turn.kept_tokens))

    def begin(self, name: int) -> Answer:
        """Look a turn up, and give it pages for its prompt."""
        self.arrive(name)
        turn = self._turns[name]
        program, pool = self._programs[turn.program], self._pool
        found = self.found(turn)
        pool.hold(program.chain_keys)
        pool.shorten(program.index, max(found - program.shared_blocks, 0))
        pages = -(-turn.prompt_tokens // self._page)
        evicted = self._take(pages - found)
        self._private[name] = pages - found
        self._cache(turn, turn.prompt_tokens)
        return Answer(found, evicted)

    def end(self, name: int) -> Answer:
        """Give a turn pages for its output and let it go."""
        turn = self._turns[name]
        program, pool = self._programs[turn.program], self._pool
        pages = -(-turn.computed_tokens // self._page)
        more = pages - -(-turn.prompt_tokens // self._page)
        evicted = self._take(more)
        self._private[name] += more
        self._cache(turn, turn.computed_tokens)
        pool.give(self._private.pop(name))
        pool.release(program.chain_keys)
        return Answer(-1, evicted)

    def found(self, turn: Turn) -> int:
        """Pages of a prompt that are cached."""
        limit = (turn.prompt_tokens - 1) // self._page
        return self._pool.match(self._programs[turn.program], limit)

    def found_tokens(self, turn: Turn) -> int:
        """Tokens of a prompt that are cached."""
        return self.found(turn) * self._page

    def _take(self, pages: int) -> int:
        before = self._pool.evicted
        if not self._pool.take(pages, reclaim_pins=False):
            raise RuntimeError("what was drawn does not fit")
        return self._pool.evicted - before

    def _cache(self, turn: Turn, tokens: int) -> None:
        """Make full pages of what is computed part of their entries."""
        program, pool = self._programs[turn.program], self._pool
        own: tuple[Key, int] = (program.index, self._own(program, tokens))
        levels: list[tuple[Key, int]] = [*program.prefix, own]
        for key, size in levels:
            missing = size - pool.blocks_of(key)
            if missing > 0:
                pool.extend(key, missing)
                self._private[turn.name] -= missing

    def _own(self, program: ProgramState, tokens: int) -> int:
        return tokens // self._page - program.shared_blocks


def answers(case: RadixCase, pool: BlockPool) -> list[Answer]:
    """What a pool of ours answers where a turn begins or ends."""
    asked = Pool(case, pool)
    do = {"begin": asked.begin, "end": asked.end}
    return [do[what](name) for what, name in case.moves if what in do]
