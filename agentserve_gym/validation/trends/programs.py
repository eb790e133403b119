"""Workloads whose programs are changed on the way: what a trend varies and no scenario can say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agentserve_gym.workloads import Program, Workload
from agentserve_gym.workloads.build import ProgramSource

Vary = Callable[[Workload], Workload]


@dataclass(frozen=True)
class _ChangedPrograms:
    """Programs of ``source``, each as ``change`` has it."""

    source: ProgramSource
    change: Callable[[Program], Program]

    def __len__(self) -> int:
        return len(self.source)

    def program(self, index: int) -> Program:
        return self.change(self.source.program(index))

    def classes_with_people(self) -> frozenset[str]:
        return self.source.classes_with_people()


def unchanged(workload: Workload) -> Workload:
    """The workload itself."""
    return workload


def without_shared_prefix(workload: Workload) -> Workload:
    """The same prompts, but no two programs begin alike."""
    return _changed(workload, _private)


def with_reuse(share: float) -> Vary:
    """Prompts of the same length of which a program had at most this share before; no two programs
    begin alike."""

    def reused(program: Program) -> Program:
        first, *later = program.turns
        turns = [first]
        for turn in later:
            kept = min(round(share * turn.input_tokens), turn.reuse_tokens)
            new = turn.input_tokens - kept
            turns.append(turn._replace(reuse_tokens=kept, new_input_tokens=new))
        return replace(_private(program), turns=tuple(turns))

    return lambda workload: _changed(workload, reused)


def _private(program: Program) -> Program:
    return replace(program, prefix=())


def _changed(workload: Workload, change: Callable[[Program], Program]) -> Workload:
    return replace(workload, source=_ChangedPrograms(workload.source, change))
