"""The preset ``toy``, worked out by hand: its turns never overlap, so each step runs alone."""

from __future__ import annotations

import pytest

from agentserve_gym.hardware import BatchStep, latency_model
from agentserve_gym.hardware.pricing.timing import lone_chunk
from agentserve_gym.sim import KEEP, Route, RouteDecision, Simulation, load_scenario

LATENCY = latency_model("rtx-pro-6000", "llama-3.1-8b")


def prefill_s(new_tokens: int, history_tokens: int) -> float:
    return LATENCY.step_s(lone_chunk(new_tokens, history_tokens))


def decode_s(first_context_tokens: int, steps: int) -> float:
    """Decode steps of one sequence that attends one more key each time."""
    contexts = range(first_context_tokens, first_context_tokens + steps)
    return sum(LATENCY.step_s(BatchStep(1, keys, keys, 0, 0, 0, 0.0, 1)) for keys in contexts)


def test_the_toy_takes_as_long_as_its_steps_and_gaps() -> None:
    simulation = Simulation(load_scenario("toy"), seed=0, record_turns=True)
    decision = simulation.advance()
    while decision is not None:
        decision = simulation.advance(Route(0) if isinstance(decision, RouteDecision) else KEEP)

    # "first": 320 tokens in, 33 out: one prefill emits token 1, then 32 decode steps, the first
    # over 321 keys. KV of 352 tokens stays: 22 whole blocks. After 2 s: 320 + 33 + 64 = 417 tokens
    # in, of which 352 are cached and 65 computed; 17 out.
    first = prefill_s(320, 0) + decode_s(321, 32) + 2.0 + prefill_s(65, 352) + decode_s(418, 16)
    # "second": 480 in, 49 out; 528 tokens of KV are 33 whole blocks. After 3 s: 480 + 49 + 32 = 561
    # in, 528 cached, 33 computed; one token out, which the prefill emits.
    second = prefill_s(480, 0) + decode_s(481, 48) + 3.0 + prefill_s(33, 528)

    assert list(simulation.metrics.jct_s) == pytest.approx([first, second], rel=1e-12)
    assert list(simulation.metrics.slowdown) == pytest.approx([1.0, 1.0], rel=1e-12)
    # Nothing waits for anything else: "first" is in its gap when "second" runs, and done before
    # "second" returns.
    ends = {(turn.program_id, turn.turn): turn.end_s for turn in simulation.metrics.records or []}
    starts = {
        (turn.program_id, turn.turn): turn.ready_s for turn in simulation.metrics.records or []
    }
    assert ends["first", 0] < starts["second", 0] < ends["second", 0] < starts["first", 1]
    assert ends["first", 1] < starts["second", 1]
    assert simulation.report()["hit_tokens"]["hbm"] == 352 + 528
