"""What a program would take on an idle cluster that reuses everything: the base of slowdown."""

from __future__ import annotations

from collections.abc import Sequence

from mypy_extensions import mypyc_attr

from agentserve_gym.hardware.pricing.timing import BatchStep
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.workloads.program import Program, Turn


@mypyc_attr(allow_interpreted_subclasses=True)
class IdealTimes(Copyable):
    """Lower bounds per program: no queueing, no loads, full reuse, the fastest instance."""

    def __init__(self, engines: Sequence[Engine], models: Sequence[str], default: str) -> None:
        """``models``: what each engine serves. ``default``: for programs that name no model."""
        found: dict[str, dict[int, Engine]] = {}
        for engine, model in zip(reversed(engines), reversed(models), strict=True):
            found.setdefault(model, {})[id(engine.latency)] = engine
        self._engines = {model: list(alike.values()) for model, alike in found.items()}
        self._default = default

    def jct_s(self, program: Program) -> float:
        """Seconds from arrival to last token, on the instance that is fastest for the program;
        sub-agents of its model run there too, others where they are fastest."""
        return self._fastest_s(program, program.model or self._default)

    def _fastest_s(self, program: Program, model: str) -> float:
        return min([self._jct_on(engine, program, model) for engine in self._engines[model]])

    def _jct_on(self, engine: Engine, program: Program, model: str) -> float:
        total = 0.0
        known = program.shared_prefix_tokens
        last = program.turns[-1]
        for turn in program.turns:
            total += turn_service_s(engine, turn, known or turn.reuse_tokens)
            known = 0
            if turn is not last:
                total += self._gap_s(engine, turn, model) if turn.children else turn.gap_s
        return total

    def _gap_s(self, engine: Engine, turn: Turn, model: str) -> float:
        children = [
            (child.arrival_s or 0.0) + self._child_s(engine, child, model)
            for child in turn.children
        ]
        return max(turn.gap_s, *children)

    def _child_s(self, engine: Engine, child: Program, parents: str) -> float:
        model = child.model or parents
        if model == parents:
            return self._jct_on(engine, child, model)
        return self._fastest_s(child, model)


def turn_service_s(engine: Engine, turn: Turn, known_tokens: int) -> float:
    """Prefill and decode time of a turn alone, with ``known_tokens`` of the prompt in HBM."""
    size = engine.limits.block_size_tokens
    known = min(known_tokens, turn.input_tokens - 1) // size * size
    total = engine.prefill_s(turn.input_tokens - known, known)
    left, context = turn.output_tokens - 1, turn.input_tokens + 1
    while left > 0:
        run = engine.latency.decode_run(BatchStep(1, context, context, 0, 0, 0, 0.0, 1))
        steps = run.steps if run.steps < left else left
        total += steps * run.first_step_s + run.growth_s * (0.5 * steps * (steps - 1))
        left -= steps
        context += steps
    return total
