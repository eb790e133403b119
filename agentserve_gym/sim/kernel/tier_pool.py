"""A pool of a lower tier in LRU order.

There a use counts from the start of a transfer, as in vLLM's CPU offloading (0.33,
``vllm.v1.kv_offload``): what is held keeps its place in the order and is passed over. In HBM, as in
vLLM's block pool, what turns held becomes the most recently used when they end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.pools import BlockPool, Entry, Key


@mypyc_attr(allow_interpreted_subclasses=True)
class TierPool(BlockPool):
    """Its ``lru`` has held entries too; their stale blocks can be reclaimed."""

    __slots__ = ()

    def hold(self, keys: Iterable[Key]) -> None:
        """Make these entries (created empty where absent), given head first, the most recently used
        and keep them from being reclaimed."""
        for key in reversed(tuple(keys)):
            entry = self.entries.get(key)
            if entry is None:
                entry = self.entries[key] = Entry(key)
            else:
                if entry.stale:
                    self._leave_stale(entry)
                else:
                    del self.lru[entry.slot]
                if entry.holds == 0:
                    self.cached -= entry.blocks
            entry.holds += 1
            self._slots += 1
            entry.slot = self._slots
            self.lru[entry.slot] = entry

    def release(self, keys: Sequence[Key]) -> None:
        """End one hold on each entry."""
        for key in keys:
            entry = self.entries[key]
            entry.holds -= 1
            if entry.holds == 0:
                self.cached += entry.blocks
                if entry.blocks == 0 and entry.stale == 0:
                    self._remove(entry)

    def _strand(self, key: Key, blocks: int) -> None:
        self.entries[key].stale += blocks
        self.cached += blocks

    def _coldest(self) -> Entry:
        for entry in self.lru.values():
            if entry.holds == 0 or entry.stale:
                return entry
        raise RuntimeError(f"{self.name}: nothing is cached")
