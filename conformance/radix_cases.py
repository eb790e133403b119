"""Random conversations on a pool of KV pages: what caches and queues are asked on both sides.

Tokens are numbers; a text is written as runs of consecutive ones, ``(first, count)``. The part that
a program shares with nobody starts a run of its own, so two texts differ from there on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

Run = tuple[int, int]

_TURNS = 120
_NEW_PROGRAM = 0.3
_FIRST, _LATER, _OUTPUT = (50, 1500), (20, 400), (1, 150)
"""Least and most tokens of a program's first prompt, of what later ones add, and of outputs."""
_LONGEST_TOKENS = 4_000
"""A program whose context is longer has no further turn."""
_IN_A_ROW = 3
"""New programs of one kind, before those of the next come."""
_ASKED_LENGTH = 12
"""A queue of that length is put in order whenever a turn arrives."""
_MOST_RUNNING = 3
"""So many turns run at once, so that contexts of others stay cached."""
_POOL_TOKENS = (15_000, 25_000, 40_000)
_ROOMY_TOKENS = 2**30


class Turn(NamedTuple):
    """One turn of a program.

    Attributes:
        name: unique in its case. ``runs``: its prompt.
        kept_tokens: of the context before, how many the prompt begins with.
        output: what it generates; all but the last token are computed too.
    """

    name: int
    program: int
    runs: list[Run]
    kept_tokens: int
    output: Run

    @property
    def prompt_tokens(self) -> int:
        return sum(count for _, count in self.runs)

    @property
    def computed_tokens(self) -> int:
        """In the cache when it ends: its last token is never computed."""
        return self.prompt_tokens + self.output[1] - 1


Move = tuple[str, int]
"""``arrive`` (it waits), ``begin`` (it is looked up, and gets its pages), ``end``; which turn.
``order``: the waiting turns are put in order."""


class RadixCase(NamedTuple):
    """What is asked of a cache.

    Attributes:
        page_tokens: of a page. ``capacity_pages``: of the pool.
        levels: of each program's shared prefix, (key, tokens).
    """

    name: str
    page_tokens: int
    capacity_pages: int
    levels: list[list[tuple[str, int]]]
    turns: list[Turn]
    moves: list[Move]


@dataclass
class _Program:
    """A conversation as it stands: its text, and whether a turn of it waits or runs."""

    levels: list[tuple[str, int]]
    runs: list[Run]
    tokens: int
    turns: int = 0
    busy: bool = False

    @property
    def shared_tokens(self) -> int:
        return sum(tokens for _, tokens in self.levels)


class Group(NamedTuple):
    """Random cases that have something in common.

    Attributes:
        what: in words. ``prefixes``: tokens of the shared levels; the first is everybody's, the
            second that of every program of one kind.
        resets: chance that a context shrinks to half before a turn.
        roomy: whether nothing is ever evicted.
        waiting: how many turns wait at most before one begins.
        kinds: of programs; one kind shares the second level.
    """

    what: str
    prefixes: tuple[int, ...] = ()
    resets: float = 0.0
    roomy: bool = False
    waiting: int = 0
    kinds: int = 2

    def case(self, page_tokens: int, seed: int) -> RadixCase:
        """One of them."""
        return _Drawing(self, page_tokens, seed).case()


GROUPS = (
    Group("room for all", (300, 111), 0.2, roomy=True),
    Group("nothing shared"),
    Group("shared prefixes", (300, 111)),
    Group("contexts that shrink", (300, 111), 0.3),
)
QUEUES = (
    Group("queues", (300, 111), 0.2, roomy=True, waiting=12),
    Group("queues of turns that share", (16, 400), roomy=True, waiting=12, kinds=40),
    Group("long queues", (300, 111), roomy=True, waiting=140),
)


class _Drawing:
    """Draws one case."""

    def __init__(self, group: Group, page_tokens: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._group = group
        self._page = page_tokens
        self._seed = seed
        self._following = 0
        first = [self._run(tokens) for tokens in group.prefixes[:1]]
        self._shared = [
            [*first, *(self._run(tokens) for tokens in group.prefixes[1:])]
            for _ in range(group.kinds)
        ]
        self._programs: list[_Program] = []
        self._turns: list[Turn] = []
        self._waiting: list[int] = []
        self._running: list[int] = []
        self._moves: list[Move] = []
        tokens = _ROOMY_TOKENS if group.roomy else self._rng.choice(_POOL_TOKENS)
        self._capacity = tokens // page_tokens

    def case(self) -> RadixCase:
        count = max(_TURNS, 2 * self._group.waiting)
        while len(self._turns) < count or self._waiting or self._running:
            if len(self._turns) < count and self._rng.random() < 0.6:
                self._arrive()
                self._order()
            if len(self._waiting) > self._group.waiting or len(self._turns) == count:
                self._begin()
            if self._running and self._rng.random() < 0.4:
                self._end()
        name = f"{self._group.what}, pages of {self._page}, {self._seed}"
        levels = [program.levels for program in self._programs]
        return RadixCase(name, self._page, self._capacity, levels, self._turns, self._moves)

    def _run(self, tokens: int) -> Run:
        run = (self._following, tokens)
        self._following += tokens
        return run

    def _arrive(self) -> None:
        """The next turn of an idle program, or the first of a new one."""
        rng = self._rng
        idle = [
            number
            for number, program in enumerate(self._programs)
            if not program.busy and program.tokens < _LONGEST_TOKENS
        ]
        number = len(self._programs)
        if idle and rng.random() > _NEW_PROGRAM:
            number = rng.choice(idle)
        else:
            self._programs.append(self._new_program())
        program = self._programs[number]
        kept = program.tokens
        if rng.random() < self._group.resets:
            kept = max(kept // 2, program.shared_tokens)
        new = self._run(rng.randint(*(_LATER if program.turns else _FIRST)))
        output = self._run(rng.randint(*_OUTPUT))
        turn = Turn(len(self._turns), number, [*_first(program.runs, kept), new], kept, output)
        program.busy = True
        program.turns += 1
        program.runs = [*turn.runs, output]
        program.tokens = turn.prompt_tokens + output[1]
        self._turns.append(turn)
        self._waiting.append(turn.name)
        self._moves.append(("arrive", turn.name))

    def _order(self) -> None:
        """Ask for the queue's order, of long queues now and then."""
        if self._group.waiting and len(self._turns) % (self._group.waiting // _ASKED_LENGTH) == 0:
            self._moves.append(("order", -1))

    def _new_program(self) -> _Program:
        kind = len(self._programs) // _IN_A_ROW % self._group.kinds
        keys = ("all", f"kind{kind}")
        levels = list(zip(keys, self._group.prefixes, strict=False))
        return _Program(levels, list(self._shared[kind]), sum(self._group.prefixes))

    def _begin(self) -> None:
        """One that waits begins, as soon as what runs would fit even if it shared nothing."""
        if not self._waiting:
            return
        name = self._waiting.pop(self._rng.randrange(len(self._waiting)))
        while len(self._running) >= _MOST_RUNNING or not self._fits(name):
            self._end()
        self._running.append(name)
        self._moves.append(("begin", name))

    def _fits(self, name: int) -> bool:
        there = [self._turns[each] for each in (name, *self._running)]
        return sum(turn.computed_tokens // self._page + 1 for turn in there) <= self._capacity

    def _end(self) -> None:
        name = self._running.pop(self._rng.randrange(len(self._running)))
        self._programs[self._turns[name].program].busy = False
        self._moves.append(("end", name))


def _first(runs: list[Run], tokens: int) -> list[Run]:
    """The beginning of a text."""
    found: list[Run] = []
    for first, count in runs:
        if tokens <= 0:
            break
        found.append((first, min(count, tokens)))
        tokens -= count
    return found
