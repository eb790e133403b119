"""What is compared: programs, limits of the engine, and the size of its KV pool."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from agentserve_gym.workloads import Program, read_programs


class _Level(TypedDict):
    key: str
    tokens: int


class _PlainTurn(TypedDict):
    new_input_tokens: int
    output_tokens: int
    gap_s: float
    reset_to_tokens: NotRequired[int]


class PlainProgram(TypedDict):
    """A program as both sides read it; the scenario's ``inline`` form."""

    program_id: str
    arrival_s: float
    prefix: list[_Level]
    turns: list[_PlainTurn]


@dataclass(frozen=True, slots=True)
class Case:
    """One run of an engine.

    Attributes:
        name: unique. ``programs``: their ids are their places.
        priorities: of each program, lowest first; empty: first come, first served.
        kv_blocks: the pool, blocks of 16 tokens.
    """

    name: str
    programs: list[PlainProgram]
    kv_blocks: int
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    async_scheduling: bool = False
    priorities: tuple[int, ...] = ()

    @property
    def resets(self) -> bool:
        """Whether the context of some program shrinks."""
        return any("reset_to_tokens" in turn for plan in self.programs for turn in plan["turns"])


@dataclass(frozen=True, slots=True)
class Shape:
    """Of random programs: ranges are (least, most).

    Attributes:
        gap_s: mean time between arrivals; 0: all at once. ``tool_s``: mean tool gap.
        prefixes: sizes of a shared prefix's levels, tokens: the first is everybody's, the second
            that of half the programs.
        resets: chance that a context shrinks to its first half before a turn.
    """

    programs: int
    gap_s: float
    turns: tuple[int, int] = (1, 1)
    first: tuple[int, int] = (200, 3000)
    new: tuple[int, int] = (20, 900)
    output: tuple[int, int] = (10, 300)
    tool_s: float = 2.0
    prefixes: tuple[int, ...] = ()
    resets: float = 0.0


def random_programs(seed: int, shape: Shape) -> list[PlainProgram]:
    """Programs of a shape; the same for the same seed."""
    rng = random.Random(seed)
    arrival_s = 0.0
    programs: list[PlainProgram] = []
    for number in range(shape.programs):
        arrival_s += rng.expovariate(1.0 / shape.gap_s) if shape.gap_s else 0.0
        count = rng.randint(*shape.turns)
        turns: list[_PlainTurn] = [
            {
                "new_input_tokens": rng.randint(*(shape.new if turn else shape.first)),
                "output_tokens": rng.randint(*shape.output),
                "gap_s": round(rng.expovariate(1.0 / shape.tool_s), 6) + 1e-4
                if turn < count - 1 else 0.0,
            }
            for turn in range(count)
        ]  # fmt: skip
        keys = ("all", f"half{number % 2}")
        prefix: list[_Level] = [
            {"key": key, "tokens": tokens}
            for key, tokens in zip(keys, shape.prefixes, strict=False)
        ]
        if shape.resets:
            _reset(turns, sum(shape.prefixes), rng, shape.resets)
        programs.append(
            {
                "program_id": str(number), "arrival_s": round(arrival_s, 6), "prefix": prefix,
                "turns": turns,
            }
        )  # fmt: skip
    return programs


def _reset(turns: list[_PlainTurn], shared: int, rng: random.Random, chance: float) -> None:
    """Let contexts, of which ``shared`` tokens are a prefix, shrink before some turns."""
    context = shared
    for number, turn in enumerate(turns):
        if number and rng.random() < chance:
            context = turn["reset_to_tokens"] = max(context // 2, shared)
        context += turn["new_input_tokens"] + turn["output_tokens"]


_BLOCK_TOKENS = 16

CONVERSATIONS = Shape(60, 0.5, turns=(3, 12))


def conversations() -> list[Case]:
    """Agents that call tools, under three pools, synchronously and asynchronously."""
    return [
        Case(
            f"conversations {seed}, {blocks} blocks, {_word(ahead)}",
            random_programs(seed, CONVERSATIONS), blocks, async_scheduling=ahead,
        )
        for ahead in (False, True)
        for seed in range(2, 9)
        for blocks in (1500, 2500, 4000)
    ]  # fmt: skip


def special() -> list[Case]:
    """One thing at a time: shared prefixes, long prompts, tiny pools, priorities."""
    shared = Shape(40, 0.3, turns=(1, 5), first=(20, 800), prefixes=(1000, 300))
    at_once = Shape(24, 0.0, first=(20, 800), prefixes=(1003, 300))
    long = Shape(12, 1.0, turns=(1, 3), first=(3000, 20000), output=(10, 60))
    tiny = Shape(20, 0.3, turns=(1, 4), first=(20, 400), new=(5, 100), output=(5, 120))
    crowd = Shape(60, 0.02, first=(20, 900))
    brief = Shape(24, 0.0, first=(5, 60), output=(8, 60))
    compacted = Shape(20, 0.3, turns=(3, 8), resets=0.3)
    cases = []
    for ahead in (False, True):
        for name, shape, blocks, slots, budget in (
            ("shared prefixes", shared, 4000, 64, 2048),
            ("shared prefixes, small pool", shared, 700, 64, 2048),
            ("shared prefixes at once", at_once, 4000, 64, 2048),
            ("shared prefixes at once, small chunks", at_once, 4000, 64, 512),
            ("long prompts", long, 3000, 64, 2048),
            ("long prompts, small chunks", long, 3000, 64, 512),
            ("tiny pool", tiny, 70, 64, 2048),
            ("victims about to end", brief, 23, 64, 2048),
            ("few slots", crowd, 4000, 8, 2048),
            ("crowd", crowd, 1200, 64, 2048),
            ("contexts that shrink", compacted, 6000, 64, 2048),
            ("contexts that shrink, small pool", compacted, 1200, 64, 2048),
        ):
            programs = random_programs(11, shape)
            cases.append(Case(f"{name}, {_word(ahead)}", programs, blocks, slots, budget, ahead))
        for name, blocks in (("priorities", 8000), ("priorities, small pool", 500)):
            priorities = tuple(number * 7 % 3 for number in range(crowd.programs))
            cases.append(
                Case(
                    f"{name}, {_word(ahead)}", random_programs(12, crowd), blocks, 16,
                    async_scheduling=ahead, priorities=priorities,
                )
            )  # fmt: skip
    return cases


def drawn() -> list[Case]:
    """Random shapes, pools and limits; every other one asynchronous."""
    cases = []
    for seed in range(100, 600):
        rng = random.Random(seed)
        longest = rng.choice((200, 1000, 4000))
        shape = Shape(
            programs=rng.randint(5, 40),
            gap_s=rng.choice((0.0, 0.05, 0.5)),
            turns=(1, rng.choice((1, 4, 8))),
            first=(5, longest),
            new=(5, longest // 4),
            output=(1, rng.choice((20, 200))),
            tool_s=rng.choice((0.2, 2.0)),
            prefixes=rng.choice(((), (300,), (500, 111))),
            resets=rng.choice((0.0, 0.0, 0.3)),
        )
        programs = random_programs(seed, shape)
        largest = max(peak_blocks(program) for program in programs)
        by_priority = shape.gap_s > 0.0 and rng.random() < 0.25
        cases.append(
            Case(
                f"random {seed}, {_word(bool(seed % 2))}",
                programs,
                kv_blocks=int(largest * rng.choice((1.0, 1.5, 3.0, 10.0))),
                max_num_seqs=rng.choice((4, 16, 64)),
                max_num_batched_tokens=rng.choice((256, 2048)),
                async_scheduling=bool(seed % 2),
                priorities=tuple(rng.randint(0, 3) for _ in programs) if by_priority else (),
            )
        )
    return cases


def requests_at_once(path: Path) -> list[Case]:
    """Measured requests of chats, all waiting at the start, under three pools."""
    programs = [_plain(number, program) for number, program in enumerate(read_programs(path))]
    return [
        Case(f"{len(programs)} chats at once, {blocks} blocks", programs, blocks, 256)
        for blocks in (1500, 2588, 8000)
    ]


def _plain(number: int, program: Program) -> PlainProgram:
    (turn,) = program.turns
    return {
        "program_id": str(number),
        "arrival_s": 0.0,
        "prefix": [{"key": level.key, "tokens": level.tokens} for level in program.prefix],
        "turns": [
            {
                "new_input_tokens": turn.input_tokens - program.shared_prefix_tokens,
                "output_tokens": turn.output_tokens,
                "gap_s": 0.0,
            }
        ],
    }


def peak_blocks(program: PlainProgram) -> int:
    """Blocks that a program needs at most."""
    shared = sum(level["tokens"] for level in program["prefix"])
    turns = program["turns"]
    tokens = shared + sum(turn["new_input_tokens"] + turn["output_tokens"] for turn in turns)
    return tokens // _BLOCK_TOKENS + 2


def _word(ahead: bool) -> str:
    return "asynchronous" if ahead else "synchronous"


GROUPS: dict[str, Callable[[], list[Case]]] = {
    "one thing at a time": special,
    "conversations": conversations,
    "random": drawn,
}
"""Cases that need no data, by what they have in common."""
