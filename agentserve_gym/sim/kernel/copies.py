"""Where else the KV of a turn's prompt lies: what an instance could load instead of computing it.

Nobody searches a whole cluster. A program's own part lies in the HBM of its home, and in the lower
tiers of nodes that it was copied down on; a shared prefix, too, where programs that share it ran
last. What lies there now is asked of the pools.
"""

from __future__ import annotations

from typing import NamedTuple

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.kernel.pools import Key
from agentserve_gym.sim.kernel.programs import ProgramState

NEAR = -1
"""The source of a copy in a lower tier that the instance reaches itself."""
UNDER_WAY = -2
"""The source of a copy that is on its way to the instance's HBM already, as a prefetch."""

MOST_USERS = 4
"""Instances that are remembered of each shared prefix."""


class Restorable(NamedTuple):
    """A copy outside an instance's HBM.

    Attributes:
        tier: where it lies. ``source``: in whose HBM or, if not ``NEAR`` or ``UNDER_WAY``, which
            instance of another node reaches it.
        blocks: how many leading blocks of the prompt. ``end_s``: when a load of those that the
            HBM lacks would end, as far as is known.
    """

    tier: int
    source: int
    blocks: int
    end_s: float


@mypyc_attr(allow_interpreted_subclasses=True)
class Holders(Copyable):
    """Which instances may have a copy, in their HBM or in the tiers that they reach."""

    __slots__ = ("_topology", "_users")

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._users: dict[Key, list[int]] = {}

    def ran(self, program: ProgramState, instance: int) -> None:
        """A turn was admitted there, so that its shared prefix lies in that HBM for a while."""
        for key, _ in program.prefix:
            users = self._users.get(key)
            if users is None:
                self._users[key] = [instance]
            elif users[0] != instance:
                if instance in users:
                    users.remove(instance)
                users.insert(0, instance)
                del users[MOST_USERS:]

    def copied_down(self, program: ProgramState, instance: int) -> None:
        """A copy of its KV is on its way to a tier that the instance reaches."""
        node_of, kinds = self._topology.node_of, self._topology.kv_kinds
        for other in program.copied_from:
            if node_of[other] == node_of[instance] and kinds[other] == kinds[instance]:
                return
        program.copied_from = (*program.copied_from, instance)

    def of_hbm(self, program: ProgramState, hit_blocks: int) -> list[int]:
        """Whose HBM may hold more of the program's chain than the given leading blocks."""
        found = [program.home] if program.home >= 0 else []
        return self._with_users(found, program, hit_blocks)

    def of_tiers(self, program: ProgramState, hit_blocks: int) -> list[int]:
        """Instances that reach tiers which may hold more of it."""
        return self._with_users(list(program.copied_from), program, hit_blocks)

    def _with_users(self, found: list[int], program: ProgramState, hit_blocks: int) -> list[int]:
        """These, and who ran others of its shared prefix if that is not among the blocks."""
        if hit_blocks < program.shared_blocks:
            for key, _ in reversed(program.prefix):
                found += [user for user in self._users.get(key, ()) if user not in found]
        return found
