"""InferCept: for each interception the least waste of memory, in token-seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from agentserve_gym.baselines.estimates import uncopied_tokens
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.hardware.pricing.timing import LatencyModel, lone_chunk
from agentserve_gym.sim import (
    KEEP,
    InstanceView,
    Load,
    Place,
    PlacementDecision,
    PlacementKind,
    ProgramStatus,
    RouteDecision,
    offload,
)

_KNEE_SHARE = 0.98


@dataclass(frozen=True, slots=True)
class ForwardTime:
    """T(x) = a x + c for a pass over x tokens up to the knee S, where throughput saturates."""

    per_token_s: float
    fixed_s: float
    knee_tokens: int

    def seconds(self, tokens: float) -> float:
        return self.per_token_s * tokens + self.fixed_s


def fit_forward(latency: LatencyModel, sizes: Sequence[int] = range(64, 8193, 64)) -> ForwardTime:
    """Fit T on x <= S, S the smallest size within 2 % of the best tokens per second."""
    x = np.array(sizes, dtype=float)
    seconds = np.array([latency.step_s(lone_chunk(size)) for size in sizes])
    rate = x / seconds
    knee = int(np.argmax(rate >= _KNEE_SHARE * rate.max()))
    last = max(knee + 1, 2)
    slope, fixed = np.polyfit(x[:last], seconds[:last], 1)
    return ForwardTime(float(max(slope, 1e-12)), float(max(fixed, 0.0)), int(sizes[knee]))


def waste_of_recompute(
    forward: ForwardTime, context: int, in_flight: int, running_context: int
) -> float:
    """Token-seconds wasted by discarding ``context`` tokens and recomputing them in chunks that
    fit beside ``in_flight`` tokens, while ``running_context`` tokens wait (InferCept, Eq. 4)."""
    chunk = max(forward.knee_tokens - in_flight, 1)
    chunks = max(ceil(context / chunk) - 1, 0)
    own = forward.seconds(forward.knee_tokens) * chunks * (chunks + 1) / 2 * chunk
    others = forward.per_token_s * running_context
    return own + others * chunk * chunks + others * (context - chunks * chunk)


@dataclass
class MinWaste(Residency):
    """Preserve while the gap so far has wasted less than recomputing would.

    The gap is estimated as the time elapsed so far, so preserving costs nothing at first. The rule
    is re-evaluated when, at the present load, the balance would tip, but no sooner than after
    ``soonest_s`` and no later than after ``latest_s``. A discarded context stays matchable until
    its blocks are taken: in an engine with a prefix cache, freeing is no more than that. A request
    that comes back from an interception queues with its original arrival time.
    """

    order = "program_fcfs"

    soonest_s: float = number(0.1, low=1e-3)
    latest_s: float = number(5.0, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._forward: dict[int, ForwardTime] = {}

    def forward(self, view: InstanceView) -> ForwardTime:
        """The instance's forward time, fitted once."""
        if view.index not in self._forward:
            self._forward[view.index] = fit_forward(view.latency)
        return self._forward[view.index]

    def tipping_s(self, decision: PlacementDecision) -> float:
        """After which gap preserving wastes more than recomputing would, at the present load."""
        view = decision.cluster.instances[decision.instance]
        load = view.load()
        context = max(decision.program.context_tokens, 1)
        waste = waste_of_recompute(
            self.forward(view), context, in_flight_tokens(view, load), load.context_tokens
        )
        return waste / context

    def preserve(self, decision: PlacementDecision, tipping_s: float) -> Place:
        """Pin until the next evaluation."""
        self.count("preserved")
        wait_s = min(max(tipping_s - decision.elapsed_s, self.soonest_s), self.latest_s)
        return Place(PlacementKind.PIN, ttl_s=wait_s + self.soonest_s, ask_again_s=wait_s)


def in_flight_tokens(view: InstanceView, load: Load) -> int:
    """Tokens of the current pass: a decode each, and the chunks of running prefills."""
    running_prefill = load.prefill_backlog_tokens - load.queued_tokens
    return min(load.decoding_turns + running_prefill, view.max_num_batched_tokens)


@register(
    "infercept_no_swap",
    "preserve, or discard once preserving has wasted more memory than recomputing would",
    "InferCept (arXiv 2402.01869), without swap",
    ("discarded", "preserved"),
)
@dataclass
class InferCeptWithoutSwap(MinWaste):
    """min(W_preserve, W_discard)."""

    def place(self, decision: PlacementDecision) -> Place:
        tipping_s = self.tipping_s(decision)
        if decision.elapsed_s < tipping_s:
            return self.preserve(decision, tipping_s)
        self.count("discarded")
        return KEEP


@register(
    "infercept",
    "swap to DRAM within the bytes that the link moves during a forward pass, largest waste "
    "first; the rest preserve or discard, whichever wastes less memory",
    "InferCept (arXiv 2402.01869)",
    ("swapped", "discarded", "preserved"),
)
@dataclass
class InferCept(MinWaste):
    """The free budget refills at the link's rate up to one forward pass; a swap may overdraw it,
    and the next waits until it is positive again. The waste is the smaller of the two others, so a
    gap that has only just begun wastes nothing and is not swapped."""

    def reset(self) -> None:
        super().reset()
        self._budgets: dict[int, _Budget] = {}
        self._preserved: dict[int, _Preserved] = {}

    def turn_ready(self, decision: RouteDecision) -> None:
        self._preserved.pop(decision.program.index, None)

    def place(self, decision: PlacementDecision) -> Place:
        tipping_s = self.tipping_s(decision)
        context = max(decision.program.context_tokens, 1)
        started_s = decision.time_s - decision.elapsed_s
        this = _Preserved(decision.instance, context, started_s, tipping_s)
        index = decision.program.index
        self._preserved.pop(index, None)
        if decision.cluster.reaches(decision.instance, "dram") and self._may_swap(decision, this):
            self._budgets[decision.instance].tokens -= uncopied_tokens(decision, "dram")
            self.count("swapped")
            return offload("dram")
        if decision.elapsed_s < tipping_s:
            self._preserved[index] = this
            return self.preserve(decision, tipping_s)
        self.count("discarded")
        return KEEP

    def preserve(self, decision: PlacementDecision, tipping_s: float) -> Place:
        """Ask again soon if a swap may then be free."""
        if decision.cluster.reaches(decision.instance, "dram"):
            tipping_s = min(tipping_s, decision.elapsed_s + 2 * self.soonest_s)
        return super().preserve(decision, tipping_s)

    def _may_swap(self, decision: PlacementDecision, this: _Preserved) -> bool:
        """Whether the budget is open and no other context on the instance wastes more."""
        now_s = decision.time_s
        waste = this.waste(now_s)
        if waste <= 0.0:
            return False
        budget = self._budgets.setdefault(this.instance, _Budget())
        budget.refill(decision, self._pass_s(decision))
        live = decision.cluster.programs
        return budget.tokens > 0.0 and not any(
            other.instance == this.instance and other.waste(now_s) > waste
            for index, other in self._preserved.items()
            if index in live and live[index].status is ProgramStatus.TOOL_GAP
        )

    def _pass_s(self, decision: PlacementDecision) -> float:
        view = decision.cluster.instances[decision.instance]
        return self.forward(view).seconds(in_flight_tokens(view, view.load()))


@dataclass(frozen=True, slots=True)
class _Preserved:
    """A context that waits in HBM, and the gap from which recomputing would waste less."""

    instance: int
    context_tokens: int
    started_s: float
    tipping_s: float

    def waste(self, now_s: float) -> float:
        """Token-seconds wasted so far by the better of preserving and discarding."""
        return min(now_s - self.started_s, self.tipping_s) * self.context_tokens


class _Budget:
    """Tokens that may still be swapped for free on one instance."""

    def __init__(self) -> None:
        self.tokens = 0.0
        self._since_s = -inf

    def refill(self, decision: PlacementDecision, pass_s: float) -> None:
        """Add what the link has moved since, up to what it moves in one pass."""
        probe = 16 * decision.cluster.instances[decision.instance].block_size_tokens
        cluster, program = decision.cluster, decision.program
        link_s = cluster.offload_s(program, "dram", 2 * probe)
        link_s -= cluster.offload_s(program, "dram", probe)
        rate = probe / max(link_s, 1e-12)
        elapsed_s = min(decision.time_s - self._since_s, 1e9)
        self.tokens = min(self.tokens + rate * elapsed_s, rate * pass_s)
        self._since_s = decision.time_s
