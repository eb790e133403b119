"""What a simulated future cost: time that programs spent in it, and what it leaves to be done.

Up to the horizon, every live root program costs its time. What is unfinished there costs the time
that its remaining turns would take at the rates seen so far (tokens, a wait before each turn, the
gaps between), and the prefill that the horizon leaves undone (prompts in queues, contexts that
left HBM) costs its duration once for every turn that waits beside it.
"""

from __future__ import annotations

from typing import NamedTuple

from agentserve_gym.sim import (
    Answer,
    ClusterView,
    Phase,
    Policy,
    ProgramState,
    ProgramStatus,
    Simulation,
)
from agentserve_gym.sim.kernel.tiers import HBM_NAME
from agentserve_gym.workloads.program import Program

_WAITS = (Phase.QUEUE, Phase.LOAD, Phase.PREFILL)


class Rates(NamedTuple):
    """What live programs saw so far.

    Attributes:
        token_s: seconds of decoding per token. ``wait_s``: from a turn's release to its first
            token. ``beside``: turns at an instance, on average.
    """

    token_s: float
    wait_s: float
    beside: float


def observed_rates(cluster: ClusterView) -> Rates:
    """The rates of the programs that are live."""
    decode_s = wait_s = 0.0
    tokens = turns = 0
    for program in cluster.programs.values():
        decode_s += program.phase_s[Phase.DECODE]
        wait_s += sum(program.phase_s[phase] for phase in _WAITS)
        tokens += program.generated_tokens
        turns += program.turns_done
    beside = sum(view.sent_turns for view in cluster.instances) / len(cluster.instances)
    return Rates(decode_s / max(tokens, 1), wait_s / max(turns, 1), beside)


class Outlook:
    """Prices rollouts that begin at one decision; keeps what is left of each plan, turn by turn."""

    def __init__(self, rates: Rates, start_s: float, horizon_s: float | None) -> None:
        """``horizon_s``: how far rollouts go; ``None``: to the end, where nothing is left."""
        self._rates = rates
        self._start_s = start_s
        self._horizon_s = horizon_s
        self._left_s: dict[int, tuple[Program, list[float]]] = {}

    def cost_s(self, world: Simulation, policy: Policy, answer: Answer) -> float:
        """Let ``policy`` go on in ``world`` after ``answer``; program-seconds, less is better."""
        before_s, _ = world.unfinished_time()
        if self._horizon_s is not None:
            world.cut_at(self._start_s + self._horizon_s)
        decision = world.advance(answer)
        while decision is not None:
            decision = world.advance(policy.decide(decision))
        after_s, _ = world.unfinished_time()
        left_s = 0.0 if self._horizon_s is None else self._left_behind_s(world)
        return after_s - before_s + left_s

    def _left_behind_s(self, world: Simulation) -> float:
        emitted: dict[int, int] = {}
        undone_s = total_s = 0.0
        for engine in world.engines:
            emitted.update(engine.emitted_tokens())
            tokens = engine.queue.uncached_tokens + engine.prefill_tokens_left()
            undone_s += engine.prefill_s(tokens, 0)
        for program in world.orchestrator.live.values():
            total_s += self._program_s(world, program, emitted.get(program.index, 0))
            if program.status in (ProgramStatus.TOOL_GAP, ProgramStatus.HELD) and program.home >= 0:
                undone_s += _recompute_s(world.cluster, program)
        return total_s + undone_s * self._rates.beside

    def _program_s(self, world: Simulation, program: ProgramState, emitted_tokens: int) -> float:
        """What is left of a program."""
        plan = world.orchestrator.plan_of(program)
        done = program.turns_done
        left_s = self._turns_s(plan)[done]
        if program.status is ProgramStatus.TOOL_GAP:
            end_s = program.gap_started_s + plan.turns[done - 1].gap_s
            left_s += max(end_s - world.now_s, 0.0)
        elif emitted_tokens:
            left_s -= self._rates.wait_s + self._rates.token_s * emitted_tokens
        return left_s

    def _turns_s(self, plan: Program) -> list[float]:
        """Of a plan, the time from each turn's release to the end."""
        known = self._left_s.get(id(plan))
        if known is None:
            token_s, wait_s, _ = self._rates
            total_s, left_s = 0.0, [0.0]
            for turn in reversed(plan.turns):
                total_s += wait_s + token_s * turn.output_tokens + turn.gap_s
                left_s.append(total_s)
            known = self._left_s[id(plan)] = (plan, left_s[::-1])
        return known[1]


def _recompute_s(cluster: ClusterView, program: ProgramState) -> float:
    """Prefill of what a program's home, and the tiers that it reaches, have lost of its context."""
    home = program.home
    tiers = (HBM_NAME, *cluster.reached_tiers(home))
    kept = max(cluster.chain_tokens(program, home, tier) for tier in tiers)
    lost = program.context_tokens - kept
    return cluster.prefill_s(home, lost, kept) if lost > 0 else 0.0
