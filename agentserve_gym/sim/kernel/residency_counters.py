"""What the residency model did, in numbers."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable


@mypyc_attr(allow_interpreted_subclasses=True)
class ResidencyCounters(Copyable):
    """What the residency model did so far; blocks unless said otherwise.

    Attributes:
        offloads, offloaded_blocks, loads, loaded_blocks: by number of the tier; loads from HBM come
            from another instance's. ``remote_loads``: how many of the loads crossed the network.
        offloaded_bytes, loaded_bytes: over all tiers, windows and states included;
            ``remote_loaded_bytes``: those that crossed the network.
        prefetches, prefetched_blocks: not counted among the loads. ``joined_prefetches``: those
            under way when their program returned, whose turn waited for the rest.
    """

    __slots__ = (
        "drops", "joined_prefetches", "loaded_blocks", "loaded_bytes", "loads", "offloaded_blocks",
        "offloaded_bytes", "offloads", "pins", "pins_expired", "pins_used", "prefetched_blocks",
        "prefetches", "refused_offloads", "refused_prefetches", "remote_loaded_bytes",
        "remote_loads",
    )  # fmt: skip

    def __init__(self, tiers: int) -> None:
        self.pins = 0
        self.pins_expired = 0
        self.pins_used = 0
        self.offloads = [0] * tiers
        self.offloaded_blocks = [0] * tiers
        self.offloaded_bytes = 0.0
        self.refused_offloads = 0
        self.loads = [0] * tiers
        self.loaded_blocks = [0] * tiers
        self.loaded_bytes = 0.0
        self.remote_loads = [0] * tiers
        self.remote_loaded_bytes = 0.0
        self.drops = 0
        self.prefetches = 0
        self.prefetched_blocks = 0
        self.refused_prefetches = 0
        self.joined_prefetches = 0
