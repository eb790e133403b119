"""Metrics: what happened in a run, as plain numbers.

Per-turn and per-program figures are kept as packed doubles (8 bytes each), so percentiles are exact
and a million turns take tens of megabytes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.kernel.answers import Answer
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.programs import Phase, ProgramState
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.tiers import HBM

if TYPE_CHECKING:
    from agentserve_gym.sim.scenario import ObjectiveSpec


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(frozen=True)
class TurnRecord(Copyable):
    """One finished turn, for whoever wants every single one."""

    program_id: str
    turn: int
    instance: int
    ready_s: float
    first_token_s: float
    end_s: float
    prompt_tokens: int
    output_tokens: int
    preemptions: int


@mypyc_attr(allow_interpreted_subclasses=True)
class Metrics(Copyable):
    """Accumulates figures of finished turns and programs.

    Attributes:
        jct_s, slowdown: per finished root program, in order of completion.
        ttft_s, tpot_s, e2e_s: per finished turn; TPOT of turns with at least two tokens.
        phase_s: seconds by ``Phase`` over finished root programs.
        tiers: names of the cluster's memory tiers by number, HBM first.
        hit_tokens: prompt tokens found in HBM, or loaded from a lower tier, by its number;
            ``migrated_tokens``: loaded from another instance's HBM. ``prompt_tokens``: all prompt
            tokens admitted.
        recomputed_tokens: prefilled though the program had computed them before.
        holds, invalid_answers, preemptions: counts. ``first_invalid``: the first invalid answer, in
            words.
        last_turn_placements: placements asked after a program's last turn, where a person might
            have come back.
        slo_turns: turns within both the TTFT and TPOT objective.
    """

    def __init__(self, objective: ObjectiveSpec, tiers: list[str]) -> None:
        self._slo_ttft_s: float = objective.slo_ttft_s
        self._slo_tpot_s: float = objective.slo_tpot_s
        self.tiers = tiers
        self.jct_s = array("d")
        self.slowdown = array("d")
        self.ttft_s = array("d")
        self.tpot_s = array("d")
        self.e2e_s = array("d")
        self.phase_s = [0.0] * len(Phase)
        self.hit_tokens = [0] * len(tiers)
        self.migrated_tokens = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.recomputed_tokens = 0
        self.holds = 0
        self.invalid_answers = 0
        self.first_invalid: str | None = None
        self.last_turn_placements = 0
        self.slo_turns = 0
        self.subagents = 0
        self.last_completion_s = 0.0
        self.records: list[TurnRecord] | None = None

    def admitted(
        self,
        request: Request,
        known_tokens: int,
        hit_tokens: int,
        loaded_tokens: int,
        tier: int | None,
    ) -> None:
        """Book where the prompt of an admitted turn came from: HBM, a load from ``tier``, or, of
        the ``known_tokens`` that the program had computed before, nowhere."""
        if request.preemptions == 0:
            self.prompt_tokens += request.turn.prompt_tokens
            self.hit_tokens[HBM] += hit_tokens
            if tier is not None:
                if tier == HBM:
                    self.migrated_tokens += loaded_tokens
                else:
                    self.hit_tokens[tier] += loaded_tokens
        if request.preemptions or request.turn.number:
            self.recomputed_tokens += max(known_tokens - hit_tokens - loaded_tokens, 0)

    def turn_finished(self, request: Request, now_s: float) -> None:
        """Book a finished turn."""
        turn = request.turn
        ttft = request.first_token_s - turn.ready_s
        tokens = request.generated
        self.ttft_s.append(ttft)
        self.e2e_s.append(now_s - turn.ready_s)
        self.output_tokens += tokens
        within = ttft <= self._slo_ttft_s
        if tokens > 1:
            tpot = (now_s - request.first_token_s) / (tokens - 1)
            self.tpot_s.append(tpot)
            within = within and tpot <= self._slo_tpot_s
        self.slo_turns += within
        self.last_completion_s = now_s
        if self.records is not None:
            self.records.append(
                TurnRecord(
                    turn.program.program_id, turn.number, request.instance, turn.ready_s,
                    request.first_token_s, now_s, turn.prompt_tokens, tokens, request.preemptions,
                )
            )  # fmt: skip

    def answered_invalidly(self, decision: Decision, answer: object) -> None:
        """Count an answer that could not be carried out; the first is kept as an example."""
        self.invalid_answers += 1
        if self.first_invalid is None:
            kind = "" if isinstance(answer, Answer) else " (no Route, Hold or Place)"
            self.first_invalid = (
                f"{shorten(repr(answer), 160)} to a {type(decision).__name__}{kind}"
            )

    def program_finished(self, program: ProgramState, now_s: float, ideal_s: float) -> None:
        """Book a finished program; sub-agents count in their parent's gap only."""
        if program.is_subagent:
            self.subagents += 1
            return
        jct = now_s - program.arrival_s
        self.jct_s.append(jct)
        self.slowdown.append(jct / ideal_s)
        for phase, seconds in enumerate(program.phase_s):
            self.phase_s[phase] += seconds

    def hit_rate(self) -> dict[str, float]:
        """Share of prompt tokens found in HBM or loaded from a lower tier."""
        total = max(self.prompt_tokens, 1)
        return {
            name: tokens / total for name, tokens in zip(self.tiers, self.hit_tokens, strict=True)
        }
