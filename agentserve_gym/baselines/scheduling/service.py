"""Queue orders by attained service: Autellix' PLAS and ATLAS."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import inf, log2

from agentserve_gym.baselines.parts import Scheduling, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import Phase, PlacementDecision, ProgramState, RouteDecision


@dataclass(slots=True)
class _Account:
    """A program's queueing and service at its last promotion and before its current turn, and the
    queueing of one turn at which it is promoted; seconds."""

    waited_then_s: float = 0.0
    served_then_s: float = 0.0
    waited_before_s: float = 0.0
    limit_s: float = inf


@dataclass
class LeastAttained(Scheduling):
    """Feedback queues by attained service, with promotion of those who starve.

    ``levels`` queues: the first takes service below ``quantum_s`` seconds, and each further one
    twice as much. A program that has waited ``beta`` times as long as it was served goes to the
    front, also while it waits; its counters then start anew. Autellix also preempts a running call
    whose program is demoted; no answer of a router does that, so these are its orders without
    preemption: of the running, only who a shortage of blocks preempts is by priority, where the
    scenario says so (``engine.preemption_victim = "lowest_priority"``).
    """

    levels: int = number(8, low=1)
    quantum_s: float = number(1.0, low=1e-3)
    beta: float = number(10.0, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._accounts: dict[int, _Account] = {}

    @abstractmethod
    def service_s(self, program: ProgramState) -> float:
        """The attained service that decides."""

    @abstractmethod
    def learn(self, program: ProgramState) -> None:
        """Note a program's attained service."""

    def level(self, service_s: float) -> int:
        """Which feedback queue: 0 is served first."""
        if service_s < self.quantum_s:
            return 0
        return min(int(log2(service_s / self.quantum_s)) + 1, self.levels - 1)

    def priority(self, decision: RouteDecision, instance: int) -> float:  # noqa: ARG002
        return float(self.level(self.service_s(decision.program)))

    def promote_after_s(self, decision: RouteDecision) -> float | None:
        limit_s = self._accounts[decision.program.index].limit_s
        if limit_s == inf:
            return None
        return max(limit_s - (decision.time_s - decision.turn.ready_s), 0.0)

    def turn_ready(self, decision: RouteDecision) -> None:
        program = decision.program
        self.learn(program)
        account = self._accounts.setdefault(program.index, _Account())
        account.waited_before_s = program.phase_s[Phase.QUEUE]
        waited = account.waited_before_s - account.waited_then_s
        served = program.attained_service_s - account.served_then_s
        account.limit_s = max(self.beta * served - waited, 0.0) if served > 0.0 else inf

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        demoted = self.level(self.service_s(decision.program)) > 0
        self.count("demoted" if demoted else "top")

    def gap_began(self, decision: PlacementDecision) -> None:
        program = decision.program
        self.learn(program)
        account = self._accounts.setdefault(program.index, _Account())
        waited = program.phase_s[Phase.QUEUE]
        if waited - account.waited_before_s >= account.limit_s:
            self.count("promoted")
            account.waited_then_s = waited
            account.served_then_s = program.attained_service_s


@register(
    "plas",
    "least attained service of the whole program, in feedback queues; starving programs first",
    "Autellix PLAS (arXiv 2502.13965)",
    ("demoted", "top", "promoted"),
)
@dataclass
class PLAS(LeastAttained):
    """All of a program's calls count, those of its sub-agents too, as far as they were seen."""

    def reset(self) -> None:
        super().reset()
        self._seen_s: dict[int, float] = {}
        self._family_s: dict[int, float] = {}

    def learn(self, program: ProgramState) -> None:
        root = _root(program)
        new = program.attained_service_s - self._seen_s.get(program.index, 0.0)
        self._seen_s[program.index] = program.attained_service_s
        self._family_s[root.index] = self._family_s.get(root.index, 0.0) + new

    def service_s(self, program: ProgramState) -> float:
        return self._family_s.get(_root(program).index, 0.0)


@register(
    "atlas",
    "least service along the critical path of the program's DAG, in feedback queues",
    "Autellix ATLAS (arXiv 2502.13965)",
    ("demoted", "top", "promoted"),
)
@dataclass
class ATLAS(LeastAttained):
    """p(root) = 0, p(call) = max over its parents of p + their service: parallel sub-agents count
    by the longest of them, not by their sum."""

    def reset(self) -> None:
        super().reset()
        self._base_s: dict[int, float] = {}
        self._longest_child_s: dict[int, float] = {}

    def learn(self, program: ProgramState) -> None:
        index, parent = program.index, program.parent
        if index not in self._base_s:
            self._base_s[index] = self.service_s(parent) if parent is not None else 0.0
        joined = self._longest_child_s.pop(index, 0.0)
        if joined > self.service_s(program):
            self._base_s[index] = joined - program.attained_service_s
        if parent is not None:
            path = self.service_s(program)
            known = self._longest_child_s.get(parent.index, 0.0)
            self._longest_child_s[parent.index] = max(known, path)

    def service_s(self, program: ProgramState) -> float:
        return self._base_s.get(program.index, 0.0) + program.attained_service_s


def _root(program: ProgramState) -> ProgramState:
    while program.parent is not None:
        program = program.parent
    return program
