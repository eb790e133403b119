"""The two policies that look ahead: ``Lookahead``, which could be deployed, and ``Clairvoyant``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import inf, sqrt
from random import Random
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from agentserve_gym.baselines.estimates import utilization
from agentserve_gym.baselines.lookahead.options import Option, options
from agentserve_gym.baselines.lookahead.outlook import Outlook, observed_rates
from agentserve_gym.baselines.lookahead.settings import (
    ClairvoyantSettings,
    LookaheadSettings,
    Settings,
)
from agentserve_gym.baselines.policy import ComposedPolicy, NamedPolicy
from agentserve_gym.sim import Answer, ClusterView, Decision
from agentserve_gym.sim.futures import Futures, add_luck, copied

if TYPE_CHECKING:
    from agentserve_gym.sim import Simulation


class Planner(ABC):
    """A base policy, some of whose answers are replaced by better ones.

    The base is asked at every decision and told which answer was given. At a share of the
    decisions, alternatives are simulated with the base deciding from then on.
    """

    is_oracle = False

    def __init__(self, base: NamedPolicy, settings: Settings, seed: int) -> None:
        """Plan on top of ``base``.

        Raises:
            ValueError: if the base is an oracle or looks ahead itself.
        """
        if base.is_oracle or isinstance(base, Planner):
            kind = "an oracle" if base.is_oracle else "a look-ahead"
            raise ValueError(
                f"{settings.name}: base is {base.name!r}, {kind}; allowed: policies that decide "
                "from what they see"
            )
        self.base = base
        self._settings = settings
        self._seed = seed
        self.reset()

    @property
    def name(self) -> str:
        given = [f"base={self.base.name}", *self._settings.given()]
        return f"{self._settings.name}({','.join(given)})"

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision.

        Raises:
            RuntimeError: if it was not bound to a simulation.
        """
        if not self._is_bound():
            kind = "is an oracle" if self.is_oracle else "plans for a simulation"
            raise RuntimeError(
                f"{self._settings.name} {kind}: call policy.bind(simulation) first, or use "
                "run_policy"
            )
        answer = propose(self.base, decision)
        if self._chosen.random() < self._settings.share and self._matters(decision):
            open_to = options(decision, answer, self._settings.lever, self._settings.alternatives)
            if len(open_to) > 1:
                self._counts["considered"] += 1
                best = self._best(decision, open_to)
                if best != open_to[0]:
                    self._counts["deviated"] += 1
                answer = best.answer
        learn(self.base, decision, answer)
        return answer

    @abstractmethod
    def _is_bound(self) -> bool:
        """Whether it has a simulation to plan for."""

    def _matters(self, decision: Decision) -> bool:  # noqa: ARG002
        """Whether alternatives are worth their simulation."""
        return True

    @abstractmethod
    def _best(self, decision: Decision, open_to: list[Option]) -> Option:
        """The option to take; the first is the base's."""

    def counters(self) -> dict[str, int]:
        """The base's, and how often alternatives were tried, taken, and simulated."""
        own = {f"{self._settings.name}.{event}": count for event, count in self._counts.items()}
        return {**self.base.counters(), **own}

    def reset(self) -> None:
        """Forget the run so far."""
        self.base.reset()
        self._chosen = Random(self._seed)
        self._counts = {"considered": 0, "deviated": 0, "simulated": 0}

    def bind(self, simulation: Simulation) -> None:
        """Plan for this simulation, before its first decision is answered."""
        self.base.bind(simulation)

    def _price(
        self, outlook: Outlook, world: Simulation, base: NamedPolicy, option: Option
    ) -> float:
        self._counts["simulated"] += 1
        pending = world.pending
        assert pending is not None
        if option.luck_tokens:
            add_luck(world, option.luck_tokens)
        learn(base, pending, option.answer)
        return outlook.cost_s(world, base, option.answer)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Lookahead(Planner):
    """Samples futures from what may be known, the same ones for every alternative, and leaves the
    base's answer only where another is better beyond what the samples' spread explains."""

    def __init__(self, base: NamedPolicy, settings: LookaheadSettings) -> None:
        self._parameters = settings
        self._futures: Futures | None = None
        super().__init__(base, settings, settings.seed)

    def bind(self, simulation: Simulation) -> None:
        """Plan for this simulation; only futures drawn anew are ever looked at."""
        super().bind(simulation)
        self._futures = Futures(simulation)

    def reset(self) -> None:
        """Forget the run so far; the simulation stays bound."""
        super().reset()
        self._drawn = Random(self._seed + 1)

    def _is_bound(self) -> bool:
        return self._futures is not None

    def _matters(self, decision: Decision) -> bool:
        return under_pressure(decision.cluster, self._parameters.pressure)

    def _best(self, decision: Decision, open_to: list[Option]) -> Option:
        futures = self._futures
        assert futures is not None
        left = dict(enumerate(open_to[1:]))
        differences: dict[int, list[float]] = {number: [] for number in left}
        rates, horizon_s = observed_rates(decision.cluster), self._parameters.horizon_s
        for sample in range(self._parameters.samples):
            found = futures.sample(self._drawn, horizon_s, self.base)
            if found is None:
                return open_to[0]
            outlook = Outlook(rates, decision.time_s, horizon_s)
            twins = [copied(*found) for _ in left]
            base_s = self._price(outlook, *found, open_to[0])
            for (number, option), twin in zip(left.items(), twins, strict=True):
                differences[number].append(self._price(outlook, *twin, option) - base_s)
            if sample:
                left = {
                    number: option
                    for number, option in left.items()
                    if fmean(differences[number]) < 0.0
                }
            if not left:
                return open_to[0]
        gains = {number: self._sure_gain_s(differences[number]) for number in left}
        best = max(gains, key=lambda number: gains[number])
        return left[best] if gains[best] > 0.0 else open_to[0]

    def _sure_gain_s(self, differences_s: list[float]) -> float:
        """By how much an alternative is better, less as many standard errors as asked for."""
        error_s = stdev(differences_s) / sqrt(len(differences_s))
        return -fmean(differences_s) - self._parameters.caution * error_s

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles must be bound anew."""
        return {**self.__dict__, "_futures": None}


class Clairvoyant(Planner):
    """Tries alternatives in the true future: what one better answer at a time could gain. Never
    ranked. As a placebo it changes luck instead of answers."""

    is_oracle = True

    def __init__(self, base: NamedPolicy, settings: ClairvoyantSettings) -> None:
        self._parameters = settings
        self._simulation: Simulation | None = None
        super().__init__(base, settings, settings.seed)

    def bind(self, simulation: Simulation) -> None:
        """Look into this simulation from now on."""
        super().bind(simulation)
        self._simulation = simulation

    def _is_bound(self) -> bool:
        return self._simulation is not None

    def _best(self, decision: Decision, open_to: list[Option]) -> Option:
        truth = self._simulation
        assert truth is not None
        if self._parameters.placebo:
            same = open_to[0].answer
            open_to = [Option(same, tokens) for tokens in range(len(open_to))]
        horizon_s = self._parameters.horizon_s or None
        outlook = Outlook(observed_rates(decision.cluster), decision.time_s, horizon_s)
        best, least_s = open_to[0], inf
        for option in open_to:
            cost_s = self._price(outlook, *copied(truth, self.base), option)
            if cost_s < least_s:
                best, least_s = option, cost_s
        if best.luck_tokens:
            add_luck(truth, best.luck_tokens)
        return best

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles must be bound anew."""
        return {**self.__dict__, "_simulation": None}


def under_pressure(cluster: ClusterView, share: float) -> bool:
    """Whether turns wait, or an instance's HBM is in use or pinned to at least ``share``."""
    return bool(cluster.held_turns) or any(_pressed(cluster, share))


def _pressed(cluster: ClusterView, share: float) -> Iterator[bool]:
    for view in cluster.instances:
        yield view.load().queued_turns > 0 or utilization(view) >= share


def propose(policy: NamedPolicy, decision: Decision) -> Answer:
    """A policy's answer; one of parts is told later which answer was given."""
    if isinstance(policy, ComposedPolicy):
        return policy.propose(decision)
    return policy.decide(decision)


def learn(policy: NamedPolicy, decision: Decision, answer: Answer) -> None:
    """Tell a policy of parts which answer was given; others think that it was theirs."""
    if isinstance(policy, ComposedPolicy):
        policy.learn(decision, answer)
