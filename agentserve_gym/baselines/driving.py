"""Letting a policy drive a simulation, and saying so when its answers are of no use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentserve_gym.baselines.policy import NamedPolicy
from agentserve_gym.sim import Answer, Simulation, answers


def drive(simulation: Simulation, policy: NamedPolicy) -> Iterator[Answer]:
    """Start a policy anew and let it answer a fresh simulation; yields as ``sim.answers``."""
    policy.reset()
    policy.bind(simulation)
    return answers(simulation, policy)


def run_policy(simulation: Simulation, policy: NamedPolicy) -> dict[str, Any]:
    """Run a fresh simulation under a policy.

    Returns:
        The simulation's report, and ``policy`` (its name), ``counters``, ``answers`` (how many it
        gave) and ``first_invalid`` (the first invalid one in words, or ``None``).

    Raises:
        ValueError: if every answer was invalid, so that the figures are not the policy's.
    """
    count = sum(1 for _ in drive(simulation, policy))
    require_valid_answers(simulation, policy.name, count)
    return {
        **simulation.report(),
        "policy": policy.name,
        "counters": policy.counters(),
        "answers": count,
        "first_invalid": simulation.metrics.first_invalid,
    }


def require_valid_answers(simulation: Simulation, policy: str, count: int) -> None:
    """Refuse figures that come from the safe fallback alone.

    Raises:
        ValueError: naming the policy and its first answer, if all ``count`` answers were invalid.
    """
    metrics = simulation.metrics
    if count and metrics.invalid_answers == count:
        raise ValueError(
            f"policy {policy!r}: all {count} answers are invalid; the first is "
            f"{metrics.first_invalid}"
        )
