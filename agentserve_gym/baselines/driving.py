"""Letting a policy drive a simulation, and saying so when its answers are of no use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentserve_gym.baselines.policy import NamedPolicy
from agentserve_gym.sim import Simulation


class _NoAnswer:
    """What a policy that returns ``None`` has said: the simulation counts it as invalid."""

    def __repr__(self) -> str:
        return "None"


_NO_ANSWER: Any = _NoAnswer()


def drive(simulation: Simulation, policy: NamedPolicy) -> Iterator[int]:
    """Start a policy anew and let it answer a fresh simulation, decision by decision.

    Yields:
        The number of answers so far, after each.
    """
    policy.reset()
    policy.bind(simulation)
    answers = 0
    decision = simulation.advance()
    while decision is not None:
        answer = policy.decide(decision)
        decision = simulation.advance(_NO_ANSWER if answer is None else answer)
        answers += 1
        yield answers


def run_policy(simulation: Simulation, policy: NamedPolicy) -> dict[str, Any]:
    """Run a fresh simulation under a policy.

    Returns:
        The simulation's report, and ``policy`` (its name), ``counters``, ``answers`` (how many it
        gave) and ``first_invalid`` (the first invalid one in words, or ``None``).

    Raises:
        ValueError: if every answer was invalid, so that the figures are not the policy's.
    """
    answers = sum(1 for _ in drive(simulation, policy))
    require_valid_answers(simulation, policy.name, answers)
    return {
        **simulation.report(),
        "policy": policy.name,
        "counters": policy.counters(),
        "answers": answers,
        "first_invalid": simulation.metrics.first_invalid,
    }


def require_valid_answers(simulation: Simulation, policy: str, answers: int) -> None:
    """Refuse figures that come from the safe fallback alone.

    Raises:
        ValueError: naming the policy and its first answer, if all ``answers`` were invalid.
    """
    metrics = simulation.metrics
    if answers and metrics.invalid_answers == answers:
        raise ValueError(
            f"policy {policy!r}: all {answers} answers are invalid; the first is "
            f"{metrics.first_invalid}"
        )
