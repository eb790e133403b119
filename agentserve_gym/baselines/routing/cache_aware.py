"""Rules that follow the cached prefix where the load allows it."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import best_match, least_loaded
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.routing.basic import sample_two
from agentserve_gym.sim import RouteDecision


@register(
    "sglang",
    "shortest queue if loads are unbalanced, else the best prefix match above `match`, "
    "else the least loaded",
    "SGLang cache-aware router, defaults as published; 0.3.2 has 0.3, 64, 1.5",
    ("matched", "imbalanced", "unmatched"),
)
@dataclass
class SGLangCacheAware(Routing):
    """Loads are unbalanced if the largest exceeds the smallest by more than ``difference`` turns
    and by more than the factor ``ratio``."""

    match: float = number(0.5, high=1.0)
    difference: int = number(32)
    ratio: float = number(1.0001, low=1.0)

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.instances
        loads = [view.sent_turns for view in views]
        most, least = max(loads), min(loads)
        if most - least > self.difference and most > self.ratio * least:
            return Choice(least_loaded(views), "imbalanced")
        best, tokens = best_match(decision)
        if tokens > self.match * decision.turn.prompt_tokens:
            return Choice(best, "matched")
        return Choice(least_loaded(views), "unmatched")


@register(
    "ray",
    "if queues are balanced the best prefix match, or with less than `match` the emptiest cache; "
    "else the better of two",
    "Ray Serve prefix-aware router",
    ("matched", "unmatched", "imbalanced"),
)
@dataclass
class RayPrefixAware(Routing):
    """Queues are balanced while their lengths differ by less than ``imbalanced_threshold``."""

    imbalanced_threshold: int = number(10, low=1)
    match: float = number(0.1, high=1.0)
    seed: int = number(0)

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.instances
        loads = [view.sent_turns for view in views]
        if max(loads) - min(loads) >= self.imbalanced_threshold:
            first, second = sample_two(self.seed, decision)
            better = second if second.sent_turns < first.sent_turns else first
            return Choice(better.index, "imbalanced")
        best, tokens = best_match(decision)
        if tokens >= self.match * decision.turn.prompt_tokens:
            return Choice(best, "matched")
        emptiest = max(views, key=lambda view: (view.load().free_blocks, -view.index))
        return Choice(emptiest.index, "unmatched")


@register(
    "llmd",
    "highest `prefix` x matched share + `queue` x share of queue room",
    "llm-d / Gateway API Inference Extension",
    ("matched", "unmatched"),
)
@dataclass
class LLMDWeighted(Routing):
    """Scorers in [0, 1], weighted: the prefix score is the matched share of the prompt, the queue
    score 1 for the shortest queue and 0 for the longest. Ties go to the least loaded."""

    prefix: float = number(3.0)
    queue: float = number(2.0)

    def choose(self, decision: RouteDecision) -> Choice:
        views, turn = decision.instances, decision.turn
        waiting = [view.load().queued_turns for view in views]
        longest, shortest = max(waiting), min(waiting)
        span = max(longest - shortest, 1)
        best, best_key, most = views[0], (-1.0, 0, 0), 0
        for view, queued in zip(views, waiting, strict=True):
            matched = view.cached_tokens(turn)
            most = max(most, matched)
            room = (longest - queued) / span if longest > shortest else 1.0
            score = self.prefix * matched / turn.prompt_tokens + self.queue * room
            key = (score, -view.sent_turns, -view.index)
            if key > best_key:
                best, best_key = view, key
        hit = most > 0 and best.cached_tokens(turn) == most
        return Choice(best.index, "matched" if hit else "unmatched")
