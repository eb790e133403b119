"""A policy with a stopwatch."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

import numpy as np

from agentserve_gym.baselines import parse_policy
from agentserve_gym.sim import Answer, Decision

if TYPE_CHECKING:
    from agentserve_gym.sim import Simulation


class Timed:
    """Answers as another policy does; its counters are how long that took.

    It has a name that ``parse_policy`` reads (`timed`), so the benchmark runs it like any other.

    Attributes:
        policy: the other one.
    """

    def __init__(self, policy: str) -> None:
        """Build the policy.

        Raises:
            ValueError: as ``parse_policy``.
        """
        self.policy = parse_policy(policy)
        self._took_ns = array("q")
        self._began_ns = time.perf_counter_ns()

    @property
    def is_oracle(self) -> bool:
        """Whether the policy is one."""
        return self.policy.is_oracle

    def bind(self, simulation: Simulation) -> None:
        """Hand the simulation on."""
        self.policy.bind(simulation)
        self._began_ns = time.perf_counter_ns()

    def decide(self, decision: Decision) -> Answer:
        """The policy's answer."""
        began_ns = time.perf_counter_ns()
        answer = self.policy.decide(decision)
        self._took_ns.append(time.perf_counter_ns() - began_ns)
        return answer

    def counters(self) -> dict[str, int]:
        """Decisions, nanoseconds at their median and 99th percentile, and of the whole run."""
        wall_ns = time.perf_counter_ns() - self._began_ns
        took_ns = np.array(self._took_ns or [0])
        median_ns, p99_ns = (int(value) for value in np.percentile(took_ns, (50, 99)))
        return {
            "decisions": len(self._took_ns),
            "median_ns": median_ns,
            "p99_ns": p99_ns,
            "wall_ns": wall_ns,
        }


def timed(policy: str) -> str:
    """The name of a policy with a stopwatch."""
    return f"{__name__}:{Timed.__name__}(policy={policy})"
