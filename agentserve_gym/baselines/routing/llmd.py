"""The scorers of llm-d's inference scheduler, weighted as its benchmarks of routers have them.

Each scorer gives every instance a value in [0, 1]: the queue scorer 1 to the shortest queue, 0 to
the longest and 1 to all where they are equal; the KV scorer the share of blocks that no turn holds;
the prefix scorers below. The highest weighted sum wins, and of equals one at random. Rules, block
sizes and capacities are those of gateway-api-inference-extension (``prefix-cache-scorer``,
``queue-scorer``, ``kv-cache-utilization-scorer``) and llm-d-inference-scheduler
(``precise-prefix-cache-scorer``).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from agentserve_gym.baselines.estimates import utilization
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.routing.basic import draw
from agentserve_gym.baselines.routing.sent_prefixes import SentPrefixes
from agentserve_gym.sim import InstanceView, RouteDecision


def queue_scores(views: list[InstanceView]) -> list[float]:
    """1 for the shortest queue, 0 for the longest; 1 for all where they are equally long."""
    waiting = [view.load().queued_turns for view in views]
    longest, shortest = max(waiting), min(waiting)
    if longest == shortest:
        return [1.0] * len(waiting)
    return [(longest - queued) / (longest - shortest) for queued in waiting]


@dataclass
class _Scored(Routing):
    """The highest weighted sum of scores; of equals one at random."""

    queue: float = number(1.0)
    kv: float = number(1.0)
    seed: int = number(0)

    def scores(self, decision: RouteDecision) -> list[float]:
        """Weighted sum of the queue's and the pool's scores, of each of ``decision.instances``."""
        views = decision.instances
        return [
            self.queue * room + self.kv * (1.0 - utilization(view))
            for room, view in zip(queue_scores(views), views, strict=True)
        ]

    def best(self, scores: list[float], decision: RouteDecision) -> int:
        """The place of the highest score."""
        highest = max(scores)
        equals = [index for index, score in enumerate(scores) if score == highest]
        if len(equals) == 1:
            return equals[0]
        return equals[draw(self.seed, decision, 0, len(equals))]


@register(
    "llmd_load",
    "highest `queue` x share of queue room + `kv` x share of KV blocks not in use",
    "llm-d inference scheduler, load scorers",
    ("told_apart", "equal"),
)
@dataclass
class LLMDLoad(_Scored):
    """Looks at no cache."""

    def choose(self, decision: RouteDecision) -> Choice:
        scores = self.scores(decision)
        event = "told_apart" if max(scores) > min(scores) else "equal"
        return Choice(decision.instances[self.best(scores, decision)].index, event)


@dataclass
class _PrefixScored(_Scored):
    """Load scores and ``prefix`` x a prefix score."""

    prefix: float = number(2.0)

    @abstractmethod
    def prefix_scores(self, decision: RouteDecision) -> list[float]:
        """How much of the prompt each of ``decision.instances`` is believed to hold, 0 to 1."""

    def choose(self, decision: RouteDecision) -> Choice:
        matches = self.prefix_scores(decision)
        pairs = zip(self.scores(decision), matches, strict=True)
        chosen = self.best([load + self.prefix * match for load, match in pairs], decision)
        hit = matches[chosen] > 0.0 and matches[chosen] == max(matches)
        return Choice(decision.instances[chosen].index, "matched" if hit else "unmatched")


@register(
    "llmd_default",
    "llmd_load + `prefix` x matched share of the prompt's first `prompt_blocks` blocks, by the "
    "router's own LRU index of `capacity_blocks` per instance",
    "llm-d inference scheduler, approximate prefix cache scorer",
    ("matched", "unmatched"),
)
@dataclass
class LLMDDefault(_PrefixScored):
    """The router remembers what it sent where, and is not told what instances evict."""

    prompt_blocks: int = number(256, low=1)
    capacity_blocks: int = number(31_250, low=1)

    def reset(self) -> None:
        super().reset()
        self._sent: dict[int, SentPrefixes] = {}

    def prefix_scores(self, decision: RouteDecision) -> list[float]:
        return [
            self._to(view.index).matched_share(decision.turn, view.block_size_tokens)
            for view in decision.instances
        ]

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        size = decision.cluster.instances[instance].block_size_tokens
        self._to(instance).add(decision.turn, size)

    def _to(self, instance: int) -> SentPrefixes:
        sent = self._sent.get(instance)
        if sent is None:
            sent = self._sent[instance] = SentPrefixes(self.prompt_blocks, self.capacity_blocks)
        return sent


@register(
    "llmd_precise",
    "llmd_load + `prefix` x what each instance holds of the prompt, from 0 for the least among "
    "those that hold some to 1 for the most",
    "llm-d inference scheduler, precise prefix cache scorer",
    ("matched", "unmatched"),
)
@dataclass
class LLMDPrecise(_PrefixScored):
    """KV events tell the router what every instance holds."""

    def prefix_scores(self, decision: RouteDecision) -> list[float]:
        held = [view.cached_tokens(decision.turn) for view in decision.instances]
        most = max(held)
        least = min((tokens for tokens in held if tokens), default=0)
        if most == least:
            return [1.0 if tokens else 0.0 for tokens in held]
        return [(tokens - least) / (most - least) if tokens else 0.0 for tokens in held]
