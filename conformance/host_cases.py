"""What is compared of the DRAM tier, and how."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from conformance import theirs
from conformance.cases import Case, Shape, peak_blocks, random_programs
from conformance.host_tier import Event, History, HostCase, Reply, Stored

SCRIPT = Path(__file__).parent / "run_vllm_offload.py"
_CASES = 24
_KEPT = (" 2", " 7", " 14", " 21")
_ROOMY_BLOCKS = 20_000


class Compared(NamedTuple):
    """One case: what vLLM's manager did in it, and where ours first differs, if it does."""

    name: str
    finds: int
    stored: int
    evicted: int
    difference: str


def _programs(seed: int, prefixes: Sequence[tuple[int, ...]]) -> tuple[Case, int]:
    """Programs on a small engine, and the blocks of the longest."""
    rng = random.Random(seed)
    shape = Shape(
        programs=rng.randint(8, 30),
        gap_s=rng.choice((0.05, 0.5)),
        turns=(2, 8),
        first=(100, 1500),
        new=(20, 400),
        output=(5, 100),
        prefixes=rng.choice(prefixes),
        resets=rng.choice((0.0, 0.0, 0.3)),
    )
    programs = random_programs(seed, shape)
    longest = max(peak_blocks(program) for program in programs)
    return Case(f"{seed}", programs, int(longest * rng.choice((1.2, 2.0, 4.0))), 16), longest


class Group(NamedTuple):
    """Random cases that have something in common.

    Attributes:
        what: in words; what their names begin with.
        alone, gbps: of every case. ``prefixes``: what programs may share.
        is_exact: whether no difference is known.
    """

    what: str
    alone: bool
    gbps: float
    prefixes: tuple[tuple[int, ...], ...]
    is_exact: bool = False

    def cases(self, eviction: str) -> list[HostCase]:
        """Under one rule of eviction."""
        return [self._case(eviction, seed) for seed in range(_CASES)]

    def _case(self, eviction: str, seed: int) -> HostCase:
        case, longest = _programs(seed, self.prefixes)
        host_blocks = int(longest * random.Random(-1 - seed).choice((1.5, 3.0, 8.0)))
        kv_blocks = _ROOMY_BLOCKS if self.alone else case.kv_blocks
        case = replace(case, name=f"{self.what}, {eviction}, {seed}", kv_blocks=kv_blocks)
        return HostCase(case, host_blocks, eviction, self.alone, self.gbps)


_AT_ONCE_GBPS = 1e9
_SHARED = ((300,), (500, 111))

GROUPS = (
    Group("the tier alone", True, _AT_ONCE_GBPS, ((),), True),
    Group("transfers that take time", True, 50.0, ((),)),
    Group("shared prefixes", True, _AT_ONCE_GBPS, _SHARED),
    Group("behind HBM", False, _AT_ONCE_GBPS, ((), *_SHARED)),
)


def ask(
    python: Path, cases: Sequence[HostCase], histories: Sequence[History]
) -> Iterator[list[Reply]]:
    """What vLLM's manager answers to histories, up to where it differs from ours.

    Raises:
        ValueError: vLLM failed, with the last line it said.
    """
    asked = [
        {
            "host_blocks": case.host_blocks, "eviction": case.eviction, "events": history.events,
            "answers": history.answers,
        }
        for case, history in zip(cases, histories, strict=True)
    ]  # fmt: skip
    for answers in theirs.ask(python, SCRIPT, asked):
        yield [Stored(*answer) if isinstance(answer, list) else answer for answer in answers]


def kept_cases() -> list[HostCase]:
    """Those whose answers are kept for the tests."""
    exact = [group for group in GROUPS if group.is_exact]
    return [
        case
        for group in exact
        for eviction in ("lru", "arc")
        for case in group.cases(eviction)
        if case.case.name.endswith(_KEPT)
    ]


def is_kept(case: HostCase) -> bool:
    """Whether the case's answers are kept."""
    return case.case.name in {kept.case.name for kept in kept_cases()}


def compare(case: HostCase, history: History, answers: Sequence[Reply]) -> Compared:
    """Where two runs part."""
    stores = [answer for answer in answers if isinstance(answer, Stored)]
    return Compared(
        case.case.name,
        sum(isinstance(answer, int) for answer in answers),
        sum(max(store.stored, 0) for store in stores),
        sum(store.evicted for store in stores),
        first_difference(history, answers),
    )


def first_difference(history: History, answers: Sequence[Reply]) -> str:
    """In words, where vLLM answered something else; empty if it did nowhere."""
    for event, mine, other in zip(history.events, history.answers, answers, strict=False):
        if mine != other:
            return f"{event['do']} for {_turn(event)}: ours {_words(mine)}, vLLM {_words(other)}"
    return ""


def _turn(event: Event) -> str:
    return "{}/{}".format(*event["turn"])


def _words(answer: Reply) -> str:
    if isinstance(answer, Stored):
        return (
            f"stores {answer.stored}, evicts {answer.evicted} and can find {answer.found} "
            f"(checksum {answer.which:08x})"
        )
    return f"finds {answer}"
