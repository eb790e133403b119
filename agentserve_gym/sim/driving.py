"""The loop: a policy answers a simulation, decision by decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.kernel.answers import Answer
from agentserve_gym.sim.simulation import Simulation


class Policy(Protocol):
    """Answers decisions. May keep state of its own; one policy object serves one simulation."""

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision."""
        ...


class _NoAnswer:
    """What a policy that returns ``None`` has said: the simulation counts it as invalid."""

    def __repr__(self) -> str:
        return "None"


_NO_ANSWER: Any = _NoAnswer()


def answers(simulation: Simulation, policy: Policy) -> Iterator[Answer]:
    """Let a policy answer a fresh simulation until it is done.

    Yields:
        Each answer, once it is carried out and the simulation stands at its next decision.
    """
    advance, decide = simulation.advance, policy.decide
    decision = advance()
    while decision is not None:
        answer = decide(decision)
        if answer is None:
            answer = _NO_ANSWER
        decision = advance(answer)
        yield answer


def run(simulation: Simulation, policy: Policy) -> dict[str, Any]:
    """Let a policy answer every decision; returns the report."""
    for _ in answers(simulation, policy):
        pass
    return simulation.report()
