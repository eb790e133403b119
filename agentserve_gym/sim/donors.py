"""What a program may yet do, as other programs of its class tell it.

A *donor* is a program whose whole course may be known: one drawn from the class's own generator
with a seed of its own, or one that has completed. What follows the donor's turn ``k`` follows the
program's turn ``k``, moved to the length that its context has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from random import Random

from agentserve_gym.sim.kernel.programs import TOOL_GAP, ProgramState
from agentserve_gym.workloads.program import Program, Turn

_TRIED = 4
"""Donors that are looked at for one whose context is about as long."""

Kind = tuple[str, bool]
"""Class of an agent, and whether another started it."""


class Donors:
    """Programs by kind, with the outputs and the gaps of all their turns, sorted."""

    def __init__(self) -> None:
        self._roots: list[Program] = []
        self._by_kind: dict[Kind, list[Program]] = {}
        self._outputs: dict[Kind, list[int]] = {}
        self._gaps_s: dict[tuple[str, ...], list[float]] = {}
        self._peaks: dict[Kind, int] = {}

    def __len__(self) -> int:
        """How many root programs there are."""
        return len(self._roots)

    def add(self, programs: Iterable[Program]) -> None:
        """Learn root programs and their sub-agents."""
        for root in programs:
            self._roots.append(root)
            for program, is_child in _family(root):
                kind = (program.agent_class, is_child)
                self._by_kind.setdefault(kind, []).append(program)
                self._outputs.setdefault(kind, []).extend(
                    turn.output_tokens for turn in program.turns
                )
                self._peaks[kind] = max(self._peaks.get(kind, 0), program.peak_context_tokens)
                for turn in program.turns[:-1]:
                    self._gaps_s.setdefault(gap_key(turn), []).append(turn.gap_s)
        for outputs in self._outputs.values():
            outputs.sort()
        for gaps_s in self._gaps_s.values():
            gaps_s.sort()

    def root(self, random: Random) -> Program:
        """A program that might arrive."""
        return random.choice(self._roots)

    def continued(
        self,
        state: ProgramState,
        past: Program,
        emitted_tokens: int,
        gap_s: float,
        room_tokens: int,
        random: Random,
    ) -> Program:
        """A program with another future.

        Args:
            state: what is known of it.
            past: what it does; only turns that ended and the present prompt are read.
            emitted_tokens: what its present turn has emitted. ``gap_s``: how long its present gap
                lasts.
            room_tokens: context that fits every KV pool.
            random: where the draws come from.
        """
        kind = (state.agent_class, state.parent is not None)
        donor = self._donor(self._by_kind.get(kind) or self._roots, state, random)
        done = state.turns_done
        turns = list(past.turns[:done])
        # Where nobody went on for as long, what the donor did last follows.
        at = min(done, len(donor.turns) - 1)
        most_tokens = min(max(self._peaks.get(kind, 0), state.context_tokens), room_tokens)
        if state.status is TOOL_GAP:
            before = donor.turns[max(at - 1, 0)]
            turns[-1] = turns[-1]._replace(gap_s=gap_s, tools=(), children=())
            turns.append(_within(_following(turns[-1], before, donor.turns[at]), most_tokens))
        else:
            prompt, output = past.turns[done], donor.turns[at].output_tokens
            if output <= emitted_tokens:
                output = self._output_beyond(kind, emitted_tokens, random)
            output = max(min(output, room_tokens - prompt.input_tokens), emitted_tokens + 1)
            turns.append(_with_output(prompt, output, donor.turns[at]))
        for before, turn in pairwise(donor.turns[at:]):
            following = _following(turns[-1], before, turn)
            if chain_tokens(following) > most_tokens:
                break
            turns.append(following)
        turns[-1] = Turn(*turns[-1][:4])  # nothing comes after the last
        return _course(past, turns)

    def gap_beyond(
        self, key: tuple[str, ...], elapsed_s: float, seen_s: Sequence[float], random: Random
    ) -> float:
        """A gap of this kind that lasts longer than ``elapsed_s``, seconds.

        Args:
            key: as ``gap_key`` of a turn. ``seen_s``: durations that were observed of it; enough of
                them are preferred to the donors'.
        """
        known = sorted(seen_s) if len(seen_s) >= _ENOUGH else self._gaps_s.get(key, ())
        at = bisect_right(known, elapsed_s)
        if at < len(known):
            return known[random.randrange(at, len(known))]
        return elapsed_s * (1.0 + random.random()) + 1e-3  # a tail without a scale

    def _donor(self, donors: list[Program], state: ProgramState, random: Random) -> Program:
        """One with more turns than the program has had; of a few, the one whose context is
        nearest."""
        done = state.turns_done
        longer = [program for program in donors if len(program.turns) > done]
        if not longer:
            return max(donors, key=lambda program: len(program.turns))
        if done == 0:
            return random.choice(longer)
        tried = [random.choice(longer) for _ in range(_TRIED)]
        return min(
            tried,
            key=lambda program: abs(chain_tokens(program.turns[done - 1]) - state.context_tokens),
        )

    def _output_beyond(self, kind: Kind, emitted_tokens: int, random: Random) -> int:
        known = self._outputs.get(kind, ())
        at = bisect_right(known, emitted_tokens)
        if at < len(known):
            return known[random.randrange(at, len(known))]
        return emitted_tokens + 1 + int(emitted_tokens * random.random())


_ENOUGH = 20
"""Observed durations of a kind from which on they tell more than the donors'."""


def gap_key(turn: Turn) -> tuple[str, ...]:
    """What a gap waits for, as far as it is told when it begins."""
    return known_gap(turn.gap_kind, tuple(call.kind for call in turn.tools))


def known_gap(gap_kind: str, tool_kinds: tuple[str, ...]) -> tuple[str, ...]:
    """``gap_key`` of a gap that is on: who is waited for, and the first tool called."""
    return (gap_kind, *tool_kinds[:1])


def chain_tokens(turn: Turn) -> int:
    """The context that a turn leaves."""
    return turn.input_tokens + turn.output_tokens


def lengthened(plan: Program, at: int, tokens: int) -> Program:
    """The same program, whose turn ``at`` emits that many tokens more."""
    turns = list(plan.turns)
    turns[at] = turns[at]._replace(output_tokens=turns[at].output_tokens + tokens)
    for later in range(at + 1, len(turns)):
        before, turn = plan.turns[later - 1], turns[later]
        if turn.reuse_tokens < before.input_tokens:
            break  # the context begins anew: nothing of the output is left
        turns[later] = turn._replace(
            input_tokens=turn.input_tokens + tokens, reuse_tokens=turn.reuse_tokens + tokens
        )
    return _course(plan, turns)


def _course(plan: Program, turns: list[Turn]) -> Program:
    return Program(
        plan.program_id,
        plan.agent_class,
        tuple(turns),
        plan.prefix,
        plan.arrival_s,
        plan.source,
        plan.labels,
        plan.model,
    )


def _family(program: Program, is_child: bool = False) -> Iterator[tuple[Program, bool]]:
    yield program, is_child
    for turn in program.turns:
        for child in turn.children:
            yield from _family(child, True)


def _with_output(prompt: Turn, output_tokens: int, donor: Turn) -> Turn:
    """A prompt that is known, with the rest of a donor's turn."""
    return donor._replace(
        input_tokens=prompt.input_tokens,
        new_input_tokens=prompt.new_input_tokens,
        reuse_tokens=prompt.reuse_tokens,
        output_tokens=output_tokens,
    )


def _following(previous: Turn, before: Turn, donor: Turn) -> Turn:
    """The turn after ``previous`` that adds and drops what the donor did after ``before``."""
    chain = chain_tokens(previous)
    dropped = chain_tokens(before) - donor.reuse_tokens
    # A small cut takes the end of an output; a large one is a compaction to its own length.
    reuse = chain - dropped if 2 * dropped < chain else min(donor.reuse_tokens, chain)
    added = max(donor.input_tokens - donor.reuse_tokens, 1)
    return donor._replace(
        input_tokens=reuse + added,
        new_input_tokens=min(donor.new_input_tokens, added),
        reuse_tokens=reuse,
    )


def _within(turn: Turn, most_tokens: int) -> Turn:
    """A turn that is certain to come, cut to fit."""
    reuse = min(turn.reuse_tokens, most_tokens - 2)
    added = min(turn.input_tokens - turn.reuse_tokens, most_tokens - 1 - reuse)
    return turn._replace(
        input_tokens=reuse + added,
        new_input_tokens=min(turn.new_input_tokens, added),
        output_tokens=min(turn.output_tokens, most_tokens - reuse - added),
        reuse_tokens=reuse,
    )
