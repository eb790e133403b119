"""A pool of KV blocks: what is cached in it, in which order it is reclaimed, and exact accounts.

A pool holds *entries*. An entry is a run of consecutive blocks of one chain: one level of a shared
prefix (keyed by its name) or a program's own part (keyed by the program's index). Blocks are only
ever cut from an entry's tail, so what an entry holds is always a prefix of its part. Where a
context shrinks, engines are not told: what was dropped is *stale*, found by nobody, and stays
cached until its turn to be reclaimed comes, just before the part that it was the tail of.

Every block is in exactly one state: free; cached (in an entry that nothing holds, ready to be
reclaimed in LRU order); or held (in an entry with holds on it, or private to a running turn). A
hold on a program's own part always comes with holds on its shared prefix, and releases go tail
first, so LRU order never evicts the head of a chain before its tail.

With sliding windows or linear attention an entry is of use with the window or state at its end
only: what is left of it after a reclaim is stale too (``whole_only``), and so are blocks that
windows passed over (``leave``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from math import inf

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.host import Watcher
from agentserve_gym.sim.kernel.programs import ProgramState

Key = int | str

NOBODY = -1
"""Key of stale blocks that no chain ever had."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Entry(Copyable):
    """Consecutive blocks of one chain part, and how many users keep them from being reclaimed.

    Attributes:
        stale: blocks beyond those that were dropped from the chain. Nothing can hold them.
        slot: its place among what nothing holds: the key of ``BlockPool.lru``.
    """

    __slots__ = ("blocks", "holds", "key", "rank", "slot", "stale")

    def __init__(self, key: Key, slot: int = 0) -> None:
        self.key = key
        self.blocks = 0
        self.stale = 0
        self.holds = 0
        self.rank = 0.0
        self.slot = slot


@mypyc_attr(allow_interpreted_subclasses=True)
class Pin(Copyable):
    """A hold on a program's chain until ``deadline_s``, or, with ``until_admitted``, once the
    program has returned, until its turn is admitted. Where pins must break, those with the highest
    ``yields`` do first."""

    __slots__ = ("deadline_s", "keys", "returned", "serial", "until_admitted", "yields")

    def __init__(
        self,
        deadline_s: float,
        keys: tuple[Key, ...],
        until_admitted: bool,
        serial: int,
        yields: float,
    ) -> None:
        self.deadline_s = deadline_s
        self.yields = yields
        self.keys = keys
        self.until_admitted = until_admitted
        self.serial = serial
        self.returned = False


@mypyc_attr(allow_interpreted_subclasses=True)
class BlockPool(Copyable):
    """Blocks of one memory: an instance's HBM, a node's DRAM or a CXL pool.

    Attributes:
        whole_only: what is left of an entry that is reclaimed from is stale.
        hard_pins: pins break by their programs' arrival, the last first; otherwise by deadline, the
            latest first. ``pins_broken``: how many did so far.
        capacity, free, cached: blocks; the rest is held.
        evicted: blocks reclaimed from cached entries so far.
        lru: what nothing holds, by slot, the least recently used first: entries, and stale blocks
            whose entry is held or gone.
    """

    __slots__ = (
        "_ranked",
        "_serial",
        "_slots",
        "cached",
        "capacity",
        "changing_at_s",
        "entries",
        "evicted",
        "free",
        "hard_pins",
        "lru",
        "name",
        "pins",
        "pins_broken",
        "watcher",
        "whole_only",
    )

    def __init__(
        self, name: str, capacity: int, *, whole_only: bool = False, hard_pins: bool = False
    ) -> None:
        self.name = name
        self.whole_only = whole_only
        self.hard_pins = hard_pins
        self.capacity = capacity
        self.free = capacity
        self.cached = 0
        self.evicted = 0
        self.entries: dict[Key, Entry] = {}
        self.lru: OrderedDict[int, Entry] = OrderedDict()
        self.pins: dict[int, Pin] = {}
        self.pins_broken = 0
        self.watcher: Watcher | None = None
        """Told of every change of an entry's length, where observers see the pool with a delay."""
        self.changing_at_s: float | None = None
        """When the changes that the watcher hears of happen, if not now."""
        self._serial = 0
        self._slots = 0
        self._ranked = False

    @property
    def held(self) -> int:
        return self.capacity - self.free - self.cached

    @property
    def pinned(self) -> int:
        """Blocks of pinned programs' own parts."""
        return sum(self.entries[index].blocks for index in self.pins if index in self.entries)

    def blocks_of(self, key: Key) -> int:
        entry = self.entries.get(key)
        return entry.blocks if entry is not None else 0

    def match(self, program: ProgramState, limit: int) -> int:
        """Leading blocks of the program's chain that lie here, at most ``limit``."""
        entries = self.entries
        found = 0
        for key, size in program.prefix:
            entry = entries.get(key)
            if entry is None:
                break
            found += entry.blocks
            if entry.blocks < size or found >= limit:
                break
        else:
            own = entries.get(program.index)
            if own is not None:
                found += own.blocks
        return found if found < limit else limit

    def match_beyond(
        self,
        program: ProgramState,
        known: int,  # noqa: ARG002
        limit: int,
    ) -> int:
        """The same where the first ``known`` blocks are had from elsewhere. In LRU order no chain
        loses its head first, so that they lie here too if any later ones do."""
        return self.match(program, limit)

    def matched_keys(self, program: ProgramState, matched: int) -> list[Key]:
        """Keys of the entries that hold the first ``matched`` blocks of the chain, head first."""
        keys: list[Key] = []
        covered = 0
        for key, size in program.prefix:
            if covered >= matched:
                return keys
            keys.append(key)
            covered += size
        if covered < matched:
            keys.append(program.index)
        return keys

    def reclaimable(self, keys: Iterable[Key]) -> int:
        """Cached blocks of these entries, which ``hold`` would take out of reclaim's reach."""
        entries = self.entries
        blocks = 0
        for key in keys:
            entry = entries.get(key)
            if entry is not None and entry.holds == 0:
                blocks += entry.blocks
        return blocks

    def hold(self, keys: Iterable[Key]) -> None:
        """Keep these entries (created empty where absent) from being reclaimed."""
        entries = self.entries
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = Entry(key)
            elif entry.holds == 0:
                if entry.stale:
                    self._leave_stale(entry)
                else:
                    del self.lru[entry.slot]
                self.cached -= entry.blocks
            entry.holds += 1

    def _leave_stale(self, entry: Entry) -> None:
        """Let stale blocks keep the place of an entry that leaves it."""
        left = self.lru[entry.slot] = Entry(entry.key, entry.slot)
        left.stale, entry.stale = entry.stale, 0
        left.rank = -inf

    def release(self, keys: Sequence[Key]) -> None:
        """End one hold on each entry, given head first; they become the most recently used."""
        for key in reversed(keys):
            entry = self.entries[key]
            entry.holds -= 1
            if entry.holds == 0:
                if entry.blocks:
                    self._slots += 1
                    entry.slot = self._slots
                    self.lru[entry.slot] = entry
                    self.cached += entry.blocks
                else:
                    del self.entries[key]

    def take(self, count: int, *, break_pins: bool) -> bool:
        """Turn ``count`` blocks from free or reclaimed to held; change nothing if that cannot be.

        Reclaim order: free, cached least recently used and tail first, then, if ``break_pins``,
        what unexpired pins hold.
        """
        if count > self.free + self.cached and not (
            break_pins and self._unpin_for(count - self.free - self.cached)
        ):
            return False
        if count > self.free:
            self._reclaim(count - self.free)
        self.free -= count
        return True

    def take_free(self, count: int) -> bool:
        """Turn ``count`` free blocks held; change nothing if there are fewer."""
        if count > self.free:
            return False
        self.free -= count
        return True

    def give(self, count: int) -> None:
        """Turn ``count`` private held blocks free."""
        self.free += count

    def leave(self, count: int) -> None:
        """Turn ``count`` blocks, free or reclaimed, into stale ones."""
        count = min(count, self.free + self.cached)
        if count <= 0:
            return
        if count > self.free:
            self._reclaim(count - self.free)
        self.free -= count
        self._strand(NOBODY, count)

    def make_room(self, sizes: Sequence[tuple[Key, int]]) -> int:
        """Hold a chain, given head first with the blocks of each part, and take what it lacks.

        Returns:
            How many blocks were taken; -1 if they cannot be had without ending pins: then nothing
            has changed.
        """
        keys = [key for key, _ in sizes]
        count = sum(max(size - self.blocks_of(key), 0) for key, size in sizes)
        self.hold(keys)
        if self.take(count, break_pins=False):
            return count
        self.release(keys)
        return -1

    def fill(self, sizes: Sequence[tuple[Key, int]], taken: int, stale: Key | None) -> None:
        """Make ``taken`` blocks, for which there was room, part of their entries as far as these
        lack them still, and end the hold. ``stale``: a part of which something was dropped
        meanwhile, so that what was to be its tail comes free."""
        for key, size in sizes:
            if key != stale:
                extra = min(max(size - self.blocks_of(key), 0), taken)
                self.extend(key, extra)
                taken -= extra
        self.give(taken)
        self.release([key for key, _ in sizes])

    def date_changes(self, at_s: float | None) -> None:
        """Let the watcher hear of what changes next as if it happened then, or (``None``) now."""
        self.changing_at_s = at_s

    def extend(self, key: Key, count: int) -> None:
        """Make ``count`` private held blocks part of a held entry."""
        entry = self.entries[key]
        entry.blocks += count
        if self.watcher is not None:
            self.watcher.entry_changed(key, entry.blocks)

    def shorten(self, key: Key, blocks: int) -> int:
        """Cut an entry to at most ``blocks``; returns how many blocks came free."""
        entry = self.entries.get(key)
        if entry is None or entry.blocks <= blocks:
            return 0
        cut = entry.blocks - blocks
        entry.blocks = blocks
        self.free += cut
        if self.watcher is not None:
            self.watcher.entry_changed(key, blocks)
        if entry.holds == 0:
            self.cached -= cut
            if blocks == 0 and entry.stale == 0:
                self._remove(entry)
        return cut

    def abandon(self, key: Key, blocks: int) -> int:
        """Make what an entry has beyond ``blocks`` stale; returns how many blocks can be reclaimed
        that could not before. Of a held entry they become the most recently used."""
        entry = self.entries.get(key)
        if entry is None or entry.blocks <= blocks:
            return 0
        cut = entry.blocks - blocks
        entry.blocks = blocks
        if self.watcher is not None:
            self.watcher.entry_changed(key, blocks)
        if entry.holds == 0:
            entry.stale += cut
            return 0
        self._strand(key, cut)
        return cut

    def _strand(self, key: Key, blocks: int) -> None:
        """Make blocks stale that were held until now."""
        if blocks:
            self._slots += 1
            left = self.lru[self._slots] = Entry(key, self._slots)
            left.stale = blocks
            left.rank = -inf
            self.cached += blocks

    def make_coldest(self, key: Key) -> None:
        """Make an entry that nothing holds the first to be reclaimed."""
        entry = self.entries.get(key)
        if entry is not None and entry.holds == 0:
            self.lru.move_to_end(entry.slot, last=False)
            entry.rank = -inf

    def set_rank(self, key: Key, rank: float) -> None:
        """Make an entry give way before all entries of higher rank, whatever its last use."""
        if rank == 0.0 and not self._ranked:
            return
        entry = self.entries.get(key)
        if entry is not None:
            entry.rank = rank
            self._ranked = True

    def forget_rank(self, key: Key) -> None:
        """Where ranks decide, let an entry be the first to go until it is given a rank again."""
        if self._ranked:
            self.set_rank(key, -inf)

    def pin(self, program: ProgramState, deadline_s: float, *, until_admitted: bool) -> Pin | None:
        """Hold the program's chain as far as it lies here; ``None`` if nothing of it does."""
        own = self.entries.get(program.index)
        if own is None or own.blocks == 0 or program.index in self.pins:
            return None
        self._serial += 1
        yields = program.arrival_s if self.hard_pins else deadline_s
        pin = Pin(deadline_s, program.chain_keys, until_admitted, self._serial, yields)
        self.hold(pin.keys)
        self.pins[program.index] = pin
        return pin

    def unpin(self, index: int) -> bool:
        """End a pin; its chain becomes the most recently used. False if there was none."""
        pin = self.pins.pop(index, None)
        if pin is None:
            return False
        self.release(pin.keys)
        return True

    def reclaimable_pinned(self, besides: ProgramState | None = None) -> int:
        """Blocks that ending pins would make reclaimable, but for one program's chain."""
        kept: tuple[Key, ...] = ()
        if besides is not None:
            kept = besides.chain_keys
        room = 0
        ended: dict[Key, int] = {}
        for index, pin in self.pins.items():
            if besides is None or index != besides.index:
                room += sum(
                    self.entries[key].blocks
                    for key in self._freed_by(pin, ended)
                    if key not in kept
                )
        return room

    def _freed_by(self, pin: Pin, ended: dict[Key, int]) -> list[Key]:
        """Entries that nothing would hold once this pin ends too; a shared prefix is held by the
        pins of all its programs. ``ended`` counts the pins assumed to have ended, by entry."""
        freed: list[Key] = []
        for key in pin.keys:
            ended[key] = ended.get(key, 0) + 1
            if ended[key] == self.entries[key].holds:
                freed.append(key)
        return freed

    def _reclaim(self, count: int) -> None:
        while count:
            entry = self._lowest() if self._ranked else self._coldest()
            if entry.stale:
                cut = min(entry.stale, count)
                entry.stale -= cut
            else:
                cut = min(entry.blocks, count)
                entry.blocks -= cut
                if self.whole_only:
                    entry.stale, entry.blocks = entry.blocks, 0
                if self.watcher is not None:
                    self.watcher.entry_changed(entry.key, entry.blocks)
            self.cached -= cut
            self.free += cut
            self.evicted += cut
            count -= cut
            if entry.blocks == 0 and entry.stale == 0 and entry.holds == 0:
                self._remove(entry)

    def _coldest(self) -> Entry:
        """The entry to cut next where nothing is ranked."""
        return next(iter(self.lru.values()))

    def _remove(self, entry: Entry) -> None:
        """Forget what nothing holds and nothing is left of."""
        del self.lru[entry.slot]
        if self.entries.get(entry.key) is entry:
            del self.entries[entry.key]

    def _lowest(self) -> Entry:
        """The entry to cut next where ranks decide. Shared prefixes have no rank of their own; they
        go last, so no chain loses its head first."""
        own = [entry for entry in self.lru.values() if isinstance(entry.key, int)]
        return min(own, key=lambda entry: entry.rank) if own else next(iter(self.lru.values()))

    def _unpin_for(self, missing: int) -> bool:
        """Break pins until ``missing`` blocks can be had; plan, then do."""
        order = sorted(self.pins.items(), key=lambda item: (-item[1].yields, -item[1].serial))
        victims: list[int] = []
        ended: dict[Key, int] = {}
        for index, pin in order:
            if missing <= 0:
                break
            missing -= sum(self.entries[key].blocks for key in self._freed_by(pin, ended))
            victims.append(index)
        if missing > 0:
            return False
        for index in victims:
            # All that is cached goes first, as if the blocks were taken one by one.
            self._reclaim(self.cached)
            self.unpin(index)
        self.pins_broken += len(victims)
        return True
