"""States in which routing rules and the routers that they are named after choose.

A router is driven through requests that begin, end their prefill and end. The state in which it
chose is written down, and our rule is asked what it would have chosen; the router's choice then
holds for both. Where several instances cost the same, each is a right choice.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

BLOCK_TOKENS = 16
_MOVES = 120

Move = tuple[str, int, list[int]]
"""``begin``, ``prefilled`` or ``end``; which request; its tokens if it begins."""


class RouterCase(NamedTuple):
    """Requests of conversations, of which at most one is active at a time."""

    workers: int
    moves: list[Move]


@dataclass
class Active:
    """A request that has begun and not ended, and where it is."""

    conversation: int
    tokens: list[int]
    instance: int = -1
    prefilled: bool = False


def drawn(seed: int, shared_tokens: int) -> RouterCase:
    """Random conversations that begin with ``shared_tokens`` tokens in common."""
    rng = random.Random(seed)
    following = iter(range(10**9))
    common = [next(following) for _ in range(shared_tokens)]
    conversations: list[list[int]] = []
    live: dict[int, Active] = {}
    moves: list[Move] = []
    while len(moves) < _MOVES:
        busy = {request.conversation for request in live.values()}
        idle = [number for number in range(len(conversations)) if number not in busy]
        what = rng.choice(("begin", "begin", "prefilled", "end"))
        if what == "begin":
            if idle and rng.random() < 0.7:
                number = rng.choice(idle)
                longer = rng.randint(5, 300)
            else:
                number = len(conversations)
                conversations.append(list(common))
                longer = rng.randint(50, 1500)
            conversations[number] += [next(following) for _ in range(longer)]
            name = len(moves)
            live[name] = Active(number, list(conversations[number]))
            moves.append(("begin", name, live[name].tokens))
            continue
        names = [name for name, each in live.items() if each.prefilled == (what == "end")]
        if not names:
            continue
        name = rng.choice(names)
        if what == "end":
            del live[name]
        else:
            live[name].prefilled = True
        moves.append((what, name, []))
    return RouterCase(rng.randint(2, 6), moves)


class Load(NamedTuple):
    """What `sim.signals.Load` tells the rules that are compared."""

    prefill_backlog_tokens: int
    context_tokens: int


@dataclass
class View:
    """What `sim.views.InstanceView` tells them."""

    index: int
    sent_turns: int
    cached: int
    state: Load
    block_size_tokens: int = BLOCK_TOKENS

    def look(self, turn: object) -> tuple[int, Load]:  # noqa: ARG002
        return self.cached, self.state

    def cached_tokens(self, turn: object) -> int:  # noqa: ARG002
        return self.cached


@dataclass
class Turn:
    prompt_tokens: int


@dataclass
class Cluster:
    instances: list[View]
    tiers: tuple[str, ...] = ()


class Program(NamedTuple):
    """What `sim.ProgramState` tells them: where its last turn ran, -1 before the first."""

    home: int


_NEW = Program(-1)


@dataclass
class Decision:
    """A state in which a turn is to be sent somewhere."""

    turn: Turn
    cluster: Cluster
    program: Program = _NEW

    @property
    def instances(self) -> list[View]:
        """All: they serve one model."""
        return self.cluster.instances
