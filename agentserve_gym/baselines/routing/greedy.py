"""Greedy routing: the instance on which a turn costs everyone the least time."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.routing.cost import cheapest
from agentserve_gym.hardware import BatchStep, joined_decode
from agentserve_gym.sim import InstanceView, Load, PlacementDecision, RouteDecision

UNSEEN_OUTPUT_TOKENS = 200.0
_PROBE_TOKENS, _PROBE_HISTORY = 4096, 16384


@register(
    "greedy",
    "least predicted TTFT, restore included, + own decode in the joined batch + delay imposed on "
    "the turns there + recompute of what it evicts",
    "marginal-cost greedy",
    ("moved", "kept_home", "new"),
)
@dataclass
class Greedy(Routing):
    """Everything is in seconds, so instances of unequal speed compare.

    What does not fit into free blocks evicts other contexts, and they are computed again when their
    programs return: without this share (``eviction=0``) the rule pays for a shorter queue with
    everyone's cache. The wait is that for the prefill ahead; turns that also wait for memory wait
    longer, but much alike everywhere, and predicting that wait was found to change little.
    """

    eviction: float = number(1.0)

    def reset(self) -> None:
        super().reset()
        self._ended_turns = 0
        self._output_tokens = 0.0

    def gap_began(self, decision: PlacementDecision) -> None:
        program = decision.program
        self._ended_turns += 1
        self._output_tokens += program.generated_tokens / program.turns_done

    def choose(self, decision: RouteDecision) -> Choice:
        chosen = decision.instances[cheapest(self.prices(decision), decision)].index
        home = decision.program.home
        if home < 0:
            return Choice(chosen, "new")
        return Choice(chosen, "kept_home" if chosen == home else "moved")

    def prices(self, decision: RouteDecision) -> list[float]:
        return [self._cost_s(decision, view) for view in decision.instances]

    def _cost_s(self, decision: RouteDecision, view: InstanceView) -> float:
        turn, output = decision.turn, self._mean_output_tokens()
        cached, load = view.look(turn)
        first_token_s, compute_s = self._restore_s(decision, view)
        before_s, after_s = self._step_s(view, load, turn.prompt_tokens)
        imposed_s = (load.decoding_turns + load.prefilling_turns) * compute_s
        imposed_s += load.decoding_turns * output * (after_s - before_s)
        imposed_s += self._evicted_s(decision, view, load, turn.prompt_tokens - cached)
        wait_s = self._wait_s(decision, view, load)
        return wait_s + first_token_s + output * after_s + imposed_s

    def _mean_output_tokens(self) -> float:
        if not self._ended_turns:
            return UNSEEN_OUTPUT_TOKENS
        return self._output_tokens / self._ended_turns

    @staticmethod
    def _wait_s(decision: RouteDecision, view: InstanceView, load: Load) -> float:
        """The backlog belongs to many turns, whose histories are not known: a rate prices it."""
        probe_s = decision.cluster.prefill_s(view.index, _PROBE_TOKENS, _PROBE_HISTORY)
        return load.prefill_backlog_tokens * probe_s / _PROBE_TOKENS

    @staticmethod
    def _restore_s(decision: RouteDecision, view: InstanceView) -> tuple[float, float]:
        """Seconds to the first token on the idle instance by the fastest way, and how many of them
        its GPU computes."""
        cluster, turn = decision.cluster, decision.turn
        first_token_s = compute_s = cluster.first_token_s(turn, view.index, None)
        for copy in cluster.restorables(turn, view.index):
            loaded_s = cluster.first_token_s(turn, view.index, copy)
            if loaded_s < first_token_s:
                first_token_s = loaded_s
                compute_s = max(loaded_s - (copy.end_s - cluster.now_s), 0.0)
        return first_token_s, compute_s

    @staticmethod
    def _step_s(view: InstanceView, load: Load, context_tokens: int) -> tuple[float, float]:
        """A decode step of the present batch, and of the batch with this turn in it."""
        turns, contexts = load.decoding_turns, load.context_tokens
        before_s = 0.0
        if turns:
            present = BatchStep(turns, contexts, contexts // turns, sampled_count=turns)
            before_s = view.latency.step_s(present)
        return before_s, view.latency.step_s(joined_decode(turns, contexts, context_tokens))

    def _evicted_s(
        self, decision: RouteDecision, view: InstanceView, load: Load, new_tokens: int
    ) -> float:
        size = view.block_size_tokens
        evicted = min(max(new_tokens - load.free_blocks * size, 0), load.cached_blocks * size)
        return self.eviction * decision.cluster.prefill_s(view.index, evicted, 0)
