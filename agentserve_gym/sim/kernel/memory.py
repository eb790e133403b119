"""Memories below HBM, and the paths between memories."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.links import Link, Path
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.tiers import HBM, HBM_NAME, LowerTier

Links = tuple[Link, ...]


@mypyc_attr(allow_interpreted_subclasses=True)
class Topology(Copyable):
    """Lower tiers and the paths between memories.

    Attributes:
        block_size_tokens: of every pool. ``block_bytes``: KV bytes of one block of an instance
            over all its ranks, per instance.
        besides_bytes: of a context besides its blocks, in windows and states, per instance.
        kv_kinds: per instance; KV can move between those of one kind, which serve one model.
        tiers: below HBM, in the scenario's order; the first is number 1.
        links: every link by name, for reports.
        node_of: per instance.
        to_host, from_host: links between an instance's HBM and its host, per instance.
        peer: the link among a node's instances or ``None``, per node; ``network``: links out of
            and into a node, empty without a network.
    """

    __slots__ = (
        "_moves", "_numbers", "besides_bytes", "block_bytes", "block_size_tokens", "from_host",
        "kv_kinds", "links", "network", "node_of", "peer", "tiers", "to_host",
    )  # fmt: skip

    def __init__(self, block_size_tokens: int) -> None:
        self.block_size_tokens = block_size_tokens
        self.block_bytes: list[float] = []
        self.besides_bytes: list[float] = []
        self.kv_kinds: list[int] = []
        self.tiers: list[LowerTier] = []
        self.links: dict[str, Link] = {}
        self.node_of: list[int] = []
        self.to_host: list[Links] = []
        self.from_host: list[Links] = []
        self.peer: list[Link | None] = []
        self.network: list[tuple[Links, Links]] = []
        self._moves: dict[tuple[int, int, int], Path] = {}
        self._numbers = {HBM_NAME: HBM}

    def copy_bytes(self, instance: int, blocks: int) -> float:
        """What a copy of so many blocks of an instance's context moves; its windows and states go
        with it."""
        return blocks * self.block_bytes[instance] + self.besides_bytes[instance]

    def add_tier(self, name: str) -> LowerTier:
        """A further tier, below those there are."""
        tier = LowerTier(name)
        self.tiers.append(tier)
        self._numbers[name] = len(self.tiers)
        return tier

    def number_of(self, name: str) -> int:
        """A tier's number by name, -1 if there is none."""
        return self._numbers.get(name, -1)

    @property
    def tier_names(self) -> list[str]:
        """Of all tiers by number, HBM first."""
        return list(self._numbers)

    def pool(self, tier: int, instance: int) -> BlockPool | None:
        """The pool of a lower tier that an instance reaches, if any."""
        return self.tiers[tier - 1].pool_of[instance]

    def offload_path(self, instance: int, tier: int) -> Path:
        """HBM of an instance to a lower tier that it reaches."""
        path = self.tiers[tier - 1].offload_paths[instance]
        assert path is not None
        return path

    def load_path(self, tier: int, source: int, instance: int) -> Path:
        """To an instance's HBM: from the HBM of instance ``source``, or from a lower tier, which
        ``source`` reaches on another node or, if it is negative, the instance itself."""
        if tier != HBM and (source < 0 or self.node_of[source] == self.node_of[instance]):
            path = self.tiers[tier - 1].load_paths[instance]
            assert path is not None
            return path
        key = (tier, source, instance)
        move = self._moves.get(key)
        if move is None:
            move = self._moves[key] = self._move_path(tier, source, instance)
        return move

    def _move_path(self, tier: int, source: int, instance: int) -> Path:
        node, origin = self.node_of[instance], self.node_of[source]
        start = self.to_host[source] if tier == HBM else self.tiers[tier - 1].reads[source]
        if origin != node:
            start += self.network[origin][0] + self.network[node][1]
        else:
            peer = self.peer[node]
            if peer is not None:
                return Path((peer,))
        return Path(start + self.from_host[instance])

    def can_migrate(self, source: int, instance: int) -> bool:
        """Whether KV can move between two instances: of one kind, over their node's peer link or
        over a network. Without either no engine asks another for KV."""
        if self.kv_kinds[source] != self.kv_kinds[instance]:
            return False
        origin = self.node_of[source]
        if origin == self.node_of[instance] and self.peer[origin] is not None:
            return True
        return bool(self.network[origin][0])

    def are_distant(self, source: int, instance: int) -> bool:
        """Whether KV can move between two instances, and has to cross the network."""
        return self.node_of[source] != self.node_of[instance] and self.can_migrate(source, instance)

    @property
    def is_networked(self) -> bool:
        """Whether KV can move between nodes."""
        return any(out for out, _ in self.network)

    @property
    def is_joined(self) -> bool:
        """Whether KV can move between any two instances at all."""
        return self.is_networked or any(peer is not None for peer in self.peer)
