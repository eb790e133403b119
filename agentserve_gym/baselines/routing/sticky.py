"""Rules that keep a program where it ran before, and when they give that up."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import least_loaded
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision


@register(
    "affinity",
    "the program's home instance; new programs to the least loaded",
    "session affinity, folklore",
    ("kept_home", "new"),
)
@dataclass
class SessionAffinity(Routing):
    """A program stays where its first turn ran."""

    def choose(self, decision: RouteDecision) -> Choice:
        home = decision.program.home
        if home >= 0:
            return Choice(home, "kept_home")
        return Choice(least_loaded(decision.instances), "new")


@register(
    "affinity_cap",
    "home unless `cap` turns are in flight there, then the least loaded becomes home",
    "SAGA (arXiv 2605.00528)",
    ("moved", "kept_home", "new"),
)
@dataclass
class AffinityWithCap(Routing):
    """Session affinity with a cap on the home's in-flight turns."""

    cap: int = number(16, low=1)

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.cluster.instances
        home = decision.program.home
        if home < 0:
            return Choice(least_loaded(decision.instances), "new")
        if views[home].sent_turns < self.cap:
            return Choice(home, "kept_home")
        return Choice(least_loaded(decision.instances), "moved")


@register(
    "sticky_saturated",
    "home unless its prefill backlog exceeds `tokens`, then the least backlog",
    "llm-d, sticky until saturated (2026)",
    ("moved", "kept_home", "new"),
)
@dataclass
class StickyUntilSaturated(Routing):
    """Session affinity until the home has more than about 14 s of prefill waiting."""

    tokens: int = number(286_720)

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.cluster.instances
        home = decision.program.home
        if home < 0:
            return Choice(least_loaded(decision.instances), "new")
        if views[home].load().prefill_backlog_tokens <= self.tokens:
            return Choice(home, "kept_home")
        best = min(
            decision.instances, key=lambda view: (view.load().prefill_backlog_tokens, view.index)
        )
        return Choice(best.index, "kept_home" if best.index == home else "moved")


@register(
    "autellix",
    "prompts of at most `tokens` to the least loaded, longer ones home",
    "Autellix (arXiv 2502.13965)",
    ("short", "kept_home", "new"),
)
@dataclass
class Autellix(Routing):
    """Short calls hit anywhere, so only long ones are worth keeping home."""

    tokens: int = number(2048)

    def choose(self, decision: RouteDecision) -> Choice:
        home = decision.program.home
        if decision.turn.prompt_tokens > self.tokens and home >= 0:
            return Choice(home, "kept_home")
        event = "short" if decision.turn.prompt_tokens <= self.tokens else "new"
        return Choice(least_loaded(decision.instances), event)
