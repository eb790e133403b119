"""A policy composed of four parts, answering the simulation's decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agentserve_gym.baselines.parts import Admission, Part, Residency, Routing, Scheduling
from agentserve_gym.baselines.scores import Scores
from agentserve_gym.sim import Answer, Decision, Hold, Route, RouteDecision

if TYPE_CHECKING:
    from agentserve_gym.sim import Simulation


class NamedPolicy(Protocol):
    """A policy as this package hands it out: it has a name, counters, and can start anew."""

    @property
    def name(self) -> str:
        """How ``parse_policy`` reads it."""
        ...

    @property
    def is_oracle(self) -> bool:
        """Whether it knows what no live system could; oracles are kept out of rankings."""
        ...

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision."""
        ...

    def counters(self) -> dict[str, int]:
        """How often each mechanism fired, by ``part.event``."""
        ...

    def reset(self) -> None:
        """Forget the run so far."""
        ...

    def bind(self, simulation: Simulation) -> None:
        """Give oracles their simulation, before its first decision is answered."""
        ...


class ComposedPolicy:
    """Routing, residency, admission and scheduling, asked in the order of events.

    When a turn is ready, parts first learn from it, routing names an instance, admission lets the
    turn go there or holds it, and scheduling stamps its priority. The simulation releases a pin
    only after that, so every part still sees whether the context is pinned.
    """

    def __init__(
        self,
        routing: Routing,
        residency: Residency,
        admission: Admission,
        scheduling: Scheduling,
    ) -> None:
        self.routing = routing
        self.residency = residency
        self.admission = admission
        self.scheduling = scheduling
        admission.join(residency, scheduling)
        self.parts: tuple[Part, ...] = (routing, residency, admission, scheduling)
        # Most parts learn from few events: those that do not are not told.
        self._at_ready = self._hooks("turn_ready")
        self._at_dispatch = self._hooks("dispatched")
        self._at_hold = self._hooks("turn_held")
        self._at_gap = self._hooks("gap_began")

    def _hooks(self, name: str) -> list[Callable[..., None]]:
        """The parts' own methods of this name, in order."""
        return [
            getattr(part, name)
            for part in self.parts
            if getattr(type(part), name) is not getattr(Part, name)
        ]

    @property
    def name(self) -> str:
        """The parts, leaving out what ``parse_policy`` adds by itself."""
        names = [str(self.routing), str(self.residency)]
        if str(self.admission) != "none":
            names.append(str(self.admission))
        if str(self.scheduling) != self.residency.order:
            names.append(str(self.scheduling))
        return "+".join(names)

    @property
    def is_oracle(self) -> bool:
        return any(part.is_oracle for part in self.parts)

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision.

        Raises:
            RuntimeError: if an oracle part was not bound to the simulation.
        """
        answer = self.propose(decision)
        self.learn(decision, answer)
        return answer

    def propose(self, decision: Decision) -> Answer:
        """The answer to a decision, before anybody knows whether it is the one that is given.

        Raises:
            RuntimeError: if an oracle part was not bound to the simulation.
        """
        if isinstance(decision, RouteDecision):
            return self._route(decision)
        if decision.elapsed_s == 0.0:
            for gap_began in self._at_gap:
                gap_began(decision)
        return self.residency.place(decision)

    def explain(self, decision: Decision) -> Scores | None:
        """What routing or residency thinks of the options; ``None`` for rules without scores."""
        if isinstance(decision, RouteDecision):
            prices = self.routing.prices(decision)
            names = [f"instance {view.index}" for view in decision.instances]
            return Scores(dict(zip(names, prices, strict=True)), True) if prices else None
        values = self.residency.values(decision)
        return Scores(values, False) if values else None

    def learn(self, decision: Decision, answer: Answer) -> None:
        """Tell the parts what became of a turn: ``answer`` is the one that is given."""
        if isinstance(decision, RouteDecision):
            if isinstance(answer, Route):
                for dispatched in self._at_dispatch:
                    dispatched(decision, answer.instance)
            else:
                for turn_held in self._at_hold:
                    turn_held(decision)

    def _route(self, decision: RouteDecision) -> Route | Hold:
        if decision.offers == 0:
            for turn_ready in self._at_ready:
                turn_ready(decision)
        choice = self.routing.choose(decision)
        if decision.may_hold and not self.admission.admits(decision, choice.instance):
            return self.admission.hold(decision, choice.instance)
        priority = self.scheduling.priority(decision, choice.instance)
        promote_after_s = self.scheduling.promote_after_s(decision)
        self.routing.count(choice.event)
        return Route(choice.instance, priority, self.residency.restore, promote_after_s)

    def counters(self) -> dict[str, int]:
        """How often each mechanism fired, by ``part.event``."""
        return {
            f"{part.name}.{event}": count
            for part in self.parts
            for event, count in part.counts.items()
        }

    def silent_parts(self) -> list[str]:
        """Parts whose defining event never fired: a result that they cannot have shaped."""
        return [part.name for part in self.parts if part.events and not part.counts[part.events[0]]]

    def reset(self) -> None:
        """Forget the run so far; oracles keep their simulation."""
        for part in self.parts:
            part.reset()

    def bind(self, simulation: Simulation) -> None:
        """Give oracle parts their simulation."""
        for part in self.parts:
            part.bind(simulation)

    def __repr__(self) -> str:
        return f"ComposedPolicy({self.name!r})"
