"""A pool that evicts by ARC, block by block, as vLLM's CPU offloading does with ``arc``.

Blocks that were stored once are *recent*, those that a later turn used again are *frequent*. What
was evicted is remembered for a while: if it is stored again, the pool has kept too few of its kind,
and the share of recent blocks moves. Unlike in LRU order, a chain may lose blocks before its tail:
what lies behind a gap is found again once the gap is filled.

Source: Megiddo and Modha, ARC: a self-tuning, low overhead replacement cache, FAST 2003, with the
changes of vLLM (0.33, ``vllm.v1.kv_offload``): what is stored again is recent, a turn counts as one
use of each of its blocks, and all that a turn lacks is stored at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.pools import BlockPool, Entry, Key
from agentserve_gym.sim.kernel.programs import ProgramState

Name = tuple[Key, int, int]
"""A block: its chain part, its place there, and how often that place was dropped before."""
Blocks = OrderedDict[Name, None]
"""The least recently used first."""


@mypyc_attr(allow_interpreted_subclasses=True)
class _Part(Copyable):
    """What lies here of one chain part.

    Attributes:
        places: of blocks that can be used. ``drops``: the lengths to which it was cut so far.
        read: leading blocks that were read since the part was stored last.
    """

    __slots__ = ("drops", "places", "read")

    def __init__(self) -> None:
        self.places: set[int] = set()
        self.drops: list[int] = []
        self.read = 0

    def version(self, place: int) -> int:
        """How often a place was dropped."""
        return sum([kept <= place for kept in self.drops]) if self.drops else 0


@mypyc_attr(allow_interpreted_subclasses=True)
class ArcPool(BlockPool):
    """A pool of a lower tier. Its entries count the leading blocks that can be found."""

    __slots__ = (
        "_arriving", "_frequent", "_frequent_ghosts", "_parts", "_recent", "_recent_ghosts",
        "_recent_target",
    )  # fmt: skip

    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(name, capacity)
        self._parts: dict[Key, _Part] = {}
        self._arriving: set[Name] = set()
        self._recent: Blocks = OrderedDict()
        self._frequent: Blocks = OrderedDict()
        self._recent_ghosts: Blocks = OrderedDict()
        self._frequent_ghosts: Blocks = OrderedDict()
        self._recent_target = 0.0

    def match_beyond(self, program: ProgramState, known: int, limit: int) -> int:
        """Leading blocks of the chain, at most ``limit``, of which the first ``known`` are had from
        elsewhere and the others lie here."""
        found = start = 0
        parts: list[tuple[Key, int]] = [*program.prefix, (program.index, limit)]
        for key, size in parts:
            part = self._parts.get(key)
            while found < limit and found - start < size:
                if found >= known and (part is None or found - start not in part.places):
                    return found
                found += 1
            start += size
        return found

    # --- holds -------------------------------------------------------------------------------

    def hold(self, keys: Iterable[Key]) -> None:
        """Keep these parts (created empty where absent) from being reclaimed."""
        for key in keys:
            entry = self.entries.get(key)
            if entry is None:
                entry = self.entries[key] = Entry(key)
            if entry.holds == 0:
                self.cached -= len(self._part(key).places)
            entry.holds += 1

    def release(self, keys: Sequence[Key]) -> None:
        """End one hold on each part, of which all that can be found was read."""
        for key in keys:
            part = self._part(key)
            part.read = max(part.read, self.entries[key].blocks)
        self._end_hold(keys)

    def _end_hold(self, keys: Sequence[Key]) -> None:
        for key in keys:
            entry = self.entries[key]
            entry.holds -= 1
            if entry.holds == 0:
                self.cached += len(self._part(key).places)
                self._forget_empty(key)

    def reclaimable(self, keys: Iterable[Key]) -> int:
        """Cached blocks of these parts, which ``hold`` would take out of reclaim's reach."""
        return sum(
            len(self._parts[key].places)
            for key in keys
            if key in self.entries and self.entries[key].holds == 0
        )

    # --- storing -----------------------------------------------------------------------------

    def make_room(self, sizes: Sequence[tuple[Key, int]]) -> int:
        """Hold a chain, given head first with the blocks of each part, and take what it lacks; all
        of it counts as used by the turn that stores it.

        Returns:
            How many blocks were taken; -1 if they cannot be had.
        """
        keys = [key for key, _ in sizes]
        self.hold(keys)
        chain = self._names(sizes)
        lacking = [name for name in chain if self._is_absent(name)]
        for name in reversed(lacking):
            self._learn(name)
        if not self.take(len(lacking), break_pins=False):
            self._end_hold(keys)
            return -1
        for name in lacking:
            self._recent[name] = None
            self._recent_ghosts.pop(name, None)
            self._frequent_ghosts.pop(name, None)
        self._arriving.update(lacking)
        new = {name for name in lacking if name[1] >= self._part(name[0]).read}
        self._use(chain, set(lacking), new)
        for key in keys:
            self._part(key).read = 0
        return len(lacking)

    def fill(
        self,
        sizes: Sequence[tuple[Key, int]],
        taken: int,  # noqa: ARG002
        stale: Key | None,
    ) -> None:
        """What there was room for has arrived, and the hold ends; see `BlockPool`."""
        most = dict(sizes)
        arrived = [name for name in self._arriving if name[1] < most.get(name[0], 0)]
        self._arriving.difference_update(arrived)
        for name in arrived:
            if name[0] == stale:
                self._recent.pop(name, None)
                self._frequent.pop(name, None)
                self.free += 1
            else:
                self._part(name[0]).places.add(name[1])
        for key, _ in sizes:
            self._set_leading(key, self.entries[key].blocks)
        self._end_hold([key for key, _ in sizes])

    def _names(self, sizes: Sequence[tuple[Key, int]]) -> list[Name]:
        names: list[Name] = []
        for key, size in sizes:
            part = self._part(key)
            names += [(key, place, part.version(place)) for place in range(size)]
        return names

    def _is_absent(self, name: Name) -> bool:
        return name[1] not in self._part(name[0]).places and name not in self._arriving

    def _use(self, chain: list[Name], lacking: set[Name], new: set[Name]) -> None:
        """Put blocks behind all others, tail first; what was here before becomes frequent, also if
        it was evicted since the turn read it."""
        for name in reversed(chain):
            if name in new:
                self._recent.move_to_end(name)
            elif name in self._frequent:
                self._frequent.move_to_end(name)
            elif name in lacking or name not in self._arriving:
                del self._recent[name]
                self._frequent[name] = None

    def _learn(self, name: Name) -> None:
        """Something is to be stored: if it was evicted before, its kind gets a larger share."""
        recent, frequent = self._recent_ghosts, self._frequent_ghosts
        if name in recent:
            share = self._recent_target + max(1.0, len(frequent) / len(recent))
            self._recent_target = min(share, float(self.capacity))
            recent.move_to_end(name)
        elif name in frequent:
            share = self._recent_target - max(1.0, len(recent) / len(frequent))
            self._recent_target = max(share, 0.0)
            frequent.move_to_end(name)

    # --- reclaiming --------------------------------------------------------------------------

    def _reclaim(self, count: int) -> None:
        """Evict cached blocks, of which there are enough."""
        recent, frequent = self._evictable(self._recent), self._evictable(self._frequent)
        left = len(self._recent)
        victims: list[Name] = []
        while len(victims) < count:
            name = next(recent, None) if left >= int(self._recent_target) else None
            if name is None:
                name = next(frequent, None) or next(recent)
            if name in self._recent:
                left -= 1
            victims.append(name)
        for name in victims:
            self._evict(name)
        for ghosts in (self._recent_ghosts, self._frequent_ghosts):
            while len(ghosts) > self.capacity:
                ghosts.popitem(last=False)

    def _evictable(self, names: Blocks) -> Iterator[Name]:
        for name in names:
            if name not in self._arriving:
                key, place, version = name
                stale = version != self._parts[key].version(place)
                if stale or self.entries[key].holds == 0:
                    yield name

    def _evict(self, name: Name) -> None:
        if name in self._recent:
            del self._recent[name]
            self._recent_ghosts[name] = None
        else:
            del self._frequent[name]
            self._frequent_ghosts[name] = None
        self.cached -= 1
        self.free += 1
        self.evicted += 1
        key, place, version = name
        part = self._parts[key]
        if version == part.version(place):
            part.places.remove(place)
            self._set_leading(key, min(self.entries[key].blocks, place))
            self._forget_empty(key)

    # --- dropping ----------------------------------------------------------------------------

    def shorten(self, key: Key, blocks: int) -> int:
        """Cut a part to at most ``blocks``; returns how many blocks came free."""
        cut = self._cut(key, blocks)
        part = self._part(key)
        for place in cut:
            name = (key, place, part.version(place))
            self._recent.pop(name, None)
            self._frequent.pop(name, None)
        self.free += len(cut)
        if cut and self.entries[key].holds == 0:
            self.cached -= len(cut)
            self._forget_empty(key)
        return len(cut)

    def abandon(self, key: Key, blocks: int) -> int:
        """Make what a part has beyond ``blocks`` stale: found by nobody, evicted in its turn.

        Returns:
            How many blocks can be reclaimed that could not before.
        """
        cut = self._cut(key, blocks)
        part = self._part(key)
        part.drops.append(blocks)
        part.read = min(part.read, blocks)
        if cut and self.entries[key].holds == 0:
            self._forget_empty(key)
            return 0
        self.cached += len(cut)
        return len(cut)

    def _cut(self, key: Key, blocks: int) -> list[int]:
        """Let nothing beyond ``blocks`` be used; returns the places where something was."""
        part = self._part(key)
        cut = [place for place in part.places if place >= blocks]
        if cut:
            part.places.difference_update(cut)
            self._set_leading(key, min(self.entries[key].blocks, blocks))
        return cut

    # --- accounts ----------------------------------------------------------------------------

    def _part(self, key: Key) -> _Part:
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = _Part()
        return part

    def accounts_agree(self) -> bool:
        """Whether its lists, its parts and its counts say the same, for tests."""
        entries = self.entries
        used = len(self._recent) + len(self._frequent)
        current = sum(len(part.places) for part in self._parts.values())
        stale = used - current - len(self._arriving)
        held = sum(len(self._parts[key].places) for key in entries if entries[key].holds)
        return used == self.capacity - self.free and self.cached == current - held + stale

    def _set_leading(self, key: Key, at_least: int) -> None:
        """Count what can be found of a part anew; its first ``at_least`` blocks are here."""
        places, entry = self._parts[key].places, self.entries[key]
        while at_least in places:
            at_least += 1
        if at_least != entry.blocks:
            entry.blocks = at_least
            if self.watcher is not None:
                self.watcher.entry_changed(key, at_least)

    def _forget_empty(self, key: Key) -> None:
        """Let a part of which nothing is here have no entry; what was read and dropped of it stays
        known for a while."""
        if not self._parts[key].places and self.entries[key].holds == 0:
            del self.entries[key]
            if len(self._parts) > 2 * self.capacity:
                self._forget_parts()

    def _forget_parts(self) -> None:
        """Forget the parts of which nothing is here, most of which belong to programs that are
        done."""
        here = {name[0] for name in (*self._recent, *self._frequent)}
        here.update(self.entries)
        self._parts = {key: part for key, part in self._parts.items() if key in here}
