"""Continuum as its paper has it: the TTL that maximises expected benefit less holding time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from math import sqrt

from agentserve_gym.baselines.estimates import called_kinds
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.residency.ski_rental import recompute_s
from agentserve_gym.sim import (
    KEEP,
    Phase,
    Place,
    PlacementDecision,
    PlacementKind,
    RouteDecision,
)
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics

_SWEEP_EVERY = 32


@register(
    "continuum_paper",
    "pin for the t that maximises P(gap <= t) x (queue delay of evicted turns x memoryfulness + "
    "recompute time) - t",
    "Continuum (arXiv 2511.02230), paper",
    ("chosen_ttl", "not_worth_it", "default_ttl"),
)
@dataclass
class ContinuumPaper(Residency):
    """Durations come from a tool's own history once it has ``enough`` calls, else from all tools
    together, else the default TTL of ``default_s`` applies.

    The queue delay is averaged over the last ``window`` turns that came back to an evicted
    context. Memoryfulness is -Corr(turns done, turns left) over completed programs.
    """

    enough: int = number(100, low=1)
    window: int = number(100, low=1)
    default_s: float = number(2.0, low=1e-3)

    order = "pinned_first"

    def reset(self) -> None:
        super().reset()
        self._delays_s: deque[float] = deque(maxlen=self.window)
        self._evicted: dict[int, float] = {}
        self._lengths = ProgramLengths()

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        turn, view = decision.turn, decision.cluster.instances[instance]
        reusable = turn.reuse_tokens // view.block_size_tokens * view.block_size_tokens
        if turn.number and view.cached_tokens(turn) < reusable:
            self._evicted[decision.program.index] = decision.program.phase_s[Phase.QUEUE]

    def gap_began(self, decision: PlacementDecision) -> None:
        program = decision.program
        before_s = self._evicted.pop(program.index, None)
        if before_s is not None:
            self._delays_s.append(program.phase_s[Phase.QUEUE] - before_s)
        self._lengths.note(decision)

    def place(self, decision: PlacementDecision) -> Place:
        histories = self._histories(decision)
        if histories is None:
            self.count("default_ttl")
            return Place(PlacementKind.PIN, ttl_s=self.default_s, until_admitted=True)
        delay_s = sum(self._delays_s) / max(len(self._delays_s), 1)
        benefit_s = delay_s * self._lengths.memoryfulness + recompute_s(decision)
        ttl_s = best_ttl_s(histories, benefit_s)
        if ttl_s <= 0.0:
            self.count("not_worth_it")
            return KEEP
        self.count("chosen_ttl")
        return Place(PlacementKind.PIN, ttl_s=ttl_s, until_admitted=True)

    def _histories(self, decision: PlacementDecision) -> list[KindStatistics] | None:
        """One history of durations per tool that is waited for."""
        tools = decision.cluster.tools
        if tools.overall.count < self.enough:
            return None
        kinds = [tools.kind(name) for name in called_kinds(decision)]
        return [
            kind if kind is not None and kind.count >= self.enough else tools.overall
            for kind in kinds
        ]


def best_ttl_s(histories: list[KindStatistics], benefit_s: float) -> float:
    """The t among 0 and the observed durations that maximises P(all done by t) x benefit - t."""
    durations = [sorted(history.recent) for history in histories]
    best_s, best_value = 0.0, 0.0
    done = [0] * len(durations)
    for candidate in sorted({value for values in durations for value in values}):
        if candidate >= benefit_s:
            break
        probability = 1.0
        for position, values in enumerate(durations):
            at = done[position]
            while at < len(values) and values[at] <= candidate:
                at += 1
            done[position] = at
            probability *= at / len(values)
        value = probability * benefit_s - candidate
        if value > best_value:
            best_s, best_value = candidate, value
    return best_s


class ProgramLengths:
    """Lengths of completed programs, and what turns done say of turns left."""

    def __init__(self) -> None:
        self._last_seen: dict[int, int] = {}
        self._noted = 0
        self._count = 0
        self._sum_done = self._sum_left = 0.0
        self._sum_done2 = self._sum_left2 = self._sum_both = 0.0

    @property
    def memoryfulness(self) -> float:
        """-Corr(turns done, turns left), at least 0; 1 (all programs equally long) at first."""
        count = self._count
        spread_done = count * self._sum_done2 - self._sum_done**2
        spread_left = count * self._sum_left2 - self._sum_left**2
        if spread_done <= 0.0 or spread_left <= 0.0:
            return 1.0
        covariance = count * self._sum_both - self._sum_done * self._sum_left
        return max(-covariance / sqrt(spread_done * spread_left), 0.0)

    def note(self, decision: PlacementDecision) -> None:
        """A program ended a turn that is not its last."""
        self._last_seen[decision.program.index] = decision.program.turns_done
        self._noted += 1
        if self._noted % _SWEEP_EVERY == 0:
            live = decision.cluster.programs
            for index in [index for index in self._last_seen if index not in live]:
                self._completed(self._last_seen.pop(index) + 1)

    def _completed(self, turns: int) -> None:
        for done in islice(range(1, turns), 1000):
            left = turns - done
            self._count += 1
            self._sum_done += done
            self._sum_left += left
            self._sum_done2 += done * done
            self._sum_left2 += left * left
            self._sum_both += done * left
