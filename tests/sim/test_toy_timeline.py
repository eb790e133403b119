"""Timelines worked out by hand, with step times that can be added in the head.

Two programs, two instances, two turns each. The stub latency makes a step with a prefill chunk
cost 1 s + 0.01 s per prompt token, and a decode-only step 1 s + 0.001 s per context token.
"""

from __future__ import annotations

from typing import Any

import pytest
from sim_helpers import drive, on_instances, program, scenario, simulate

from agentserve_gym.hardware import BatchStep, DecodeRun, LatencyModel
from agentserve_gym.sim import Phase, Simulation


class HandLatency(LatencyModel):
    """Prefill steps 1 s + 0.01 s per chunk token; decode-only steps 1 s + 0.001 s per token."""

    def step_s(self, step: BatchStep) -> float:
        if step.prefill_count:
            return 1.0 + 0.01 * step.prefill_tokens
        return 1.0 + 0.001 * step.decode_context_tokens if step.decode_count else 0.0

    def decode_run(self, step: BatchStep) -> DecodeRun:
        return DecodeRun(self.step_s(step), 0.001 * step.decode_count, 1 << 60)


def turns(simulation: Simulation) -> dict[tuple[str, int], tuple[float, float, float]]:
    assert simulation.metrics.records is not None
    return {
        (record.program_id, record.turn): (record.ready_s, record.first_token_s, record.end_s)
        for record in simulation.metrics.records
    }


def toy(**engine: Any) -> Any:
    """a: 100 in, 3 out; gap 2 s; 20 in, 2 out. b: 200 in, 2 out; gap 5 s; 10 in, 1 out."""
    return scenario(
        [
            program((100, 3, 2.0), (20, 2), program_id="a"),
            program((200, 2, 5.0), (10, 1), program_id="b", arrival_s=0.5),
        ],
        instances=2,
        engine=engine,
    )


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("async_scheduling", [True, False])
def test_two_programs_each_on_its_own_instance(fused: bool, async_scheduling: bool) -> None:
    # Program a on instance 0:
    #   t = 0        arrives, engine idle: starts at once.
    #   0 .. 2       prefill of 100 tokens: 1 + 100 * 0.01 = 2.      First token at 2.
    #   2 .. 3.101   decode, the 101st token attends 101 keys: 1 + 0.101.
    #   3.101 .. 4.203  decode with 102 keys: 1 + 0.102.             Third token: turn 0 ends.
    #   gap 2 s      turn 1 is ready at 6.203.
    #   Its prompt is 100 + 3 + 20 = 123 tokens. Computed before: 100 + 3 - 1 = 102 (the last token
    #   was emitted, not fed back), so 102 // 16 = 6 full blocks = 96 tokens are cached and
    #   123 - 96 = 27 are prefilled: 1 + 0.27.                       First token at 7.473.
    #   decode with 124 keys: 1.124.                                 Ends at 8.597.
    # Program b on instance 1:
    #   0.5 .. 3.5   prefill of 200: 1 + 2. decode with 201 keys: 1.201, ends at 4.701.
    #   gap 5 s      ready at 9.701; prompt 200 + 2 + 10 = 212, computed 201 -> 12 blocks = 192
    #   cached, 20 prefilled: 1.2; its only token comes with it: ends at 10.901.
    simulation = simulate(toy(async_scheduling=async_scheduling), HandLatency(), fused=fused)
    drive(simulation, on_instances(lambda decision: int(decision.program.program_id == "b")))
    expected = {
        ("a", 0): (0.0, 2.0, 4.203),
        ("a", 1): (6.203, 7.473, 8.597),
        ("b", 0): (0.5, 3.5, 4.701),
        ("b", 1): (9.701, 10.901, 10.901),
    }
    actual = turns(simulation)
    assert set(actual) == set(expected)
    for key, times in expected.items():
        assert actual[key] == pytest.approx(times, abs=1e-12), key
    report = simulation.report()
    # JCT: a 8.597, b 10.901 - 0.5 = 10.401.
    assert sorted(simulation.metrics.jct_s) == pytest.approx([8.597, 10.401])
    assert report["makespan_s"] == pytest.approx(10.901)
    assert report["hit_rate"]["hbm"] == pytest.approx((96 + 192) / (100 + 123 + 200 + 212))
    # Seconds by phase: nothing queues or loads; gaps 2 + 5; prefill 2 + 1.27 + 3 + 1.2;
    # decode 2.203 + 1.124 + 1.201.
    phases = simulation.metrics.phase_s
    assert phases[Phase.QUEUE] == pytest.approx(0.0, abs=1e-12)
    assert phases[Phase.LOAD] == 0.0
    assert phases[Phase.PREFILL] == pytest.approx(7.47)
    assert phases[Phase.DECODE] == pytest.approx(4.528)
    assert phases[Phase.GAP] == pytest.approx(7.0)
    # Busy: a 4.203 + 2.394, b 4.201 + 1.2. Steps: a 1 + 2 + 1 + 1, b 1 + 1 + 1.
    assert report["busy_s"] == pytest.approx([6.597, 5.401])
    assert report["steps"] == 8


@pytest.mark.parametrize("fused", [True, False])
def test_two_programs_on_one_instance_without_async_scheduling(fused: bool) -> None:
    # Everything on instance 0.
    #   0 .. 2          a prefills 100.
    #   b arrived at 0.5 and joins at the next boundary:
    #   2 .. 5          a decodes and b prefills 200: 1 + 200 * 0.01 = 3 (a step with a chunk).
    #                   a has 2 tokens, b's first comes at 5.
    #   5 .. 6.303      decode: a attends 102 keys, b 201: 1 + 0.303. Both end at 6.303.
    #   a's turn 1 is ready at 8.303 and starts at once: 27 new tokens: 1.27 -> 9.573;
    #   decode with 124 keys: 10.697.
    #   b's turn 1 is ready at 11.303: 20 new tokens: 1.2 -> 12.503.
    simulation = simulate(toy(async_scheduling=False), HandLatency(), fused=fused)
    drive(simulation)
    expected = {
        ("a", 0): (0.0, 2.0, 6.303),
        ("b", 0): (0.5, 5.0, 6.303),
        ("a", 1): (8.303, 9.573, 10.697),
        ("b", 1): (11.303, 12.503, 12.503),
    }
    actual = turns(simulation)
    for key, times in expected.items():
        assert actual[key] == pytest.approx(times, abs=1e-12), key
    # b queued from 0.5 to 2; its prefill lasted from 2 to 5.
    assert simulation.metrics.phase_s[Phase.QUEUE] == pytest.approx(1.5)


@pytest.mark.parametrize("fused", [True, False])
def test_two_programs_on_one_instance_with_async_scheduling(fused: bool) -> None:
    #   0 .. 2          a prefills 100. The step from 2 on is planned at 0: b (0.5) is not seen.
    #   2 .. 3.101      a decodes alone (101 keys).
    #   3.101 .. 6.101  planned at 2: a decodes its last token (102 keys), b prefills 200: 3 s.
    #                   a ends at 6.101, b's first token comes.
    #   6.101 .. 7.302  b decodes with 201 keys: 1.201. Ends.
    #   a's turn 1 is ready at 8.101: 1.27 + 1.124 -> 9.371, 10.495.
    #   b's turn 1 is ready at 12.302: 1.2 -> 13.502.
    simulation = simulate(toy(async_scheduling=True), HandLatency(), fused=fused)
    drive(simulation)
    expected = {
        ("a", 0): (0.0, 2.0, 6.101),
        ("b", 0): (0.5, 6.101, 7.302),
        ("a", 1): (8.101, 9.371, 10.495),
        ("b", 1): (12.302, 13.502, 13.502),
    }
    actual = turns(simulation)
    for key, times in expected.items():
        assert actual[key] == pytest.approx(times, abs=1e-12), key
    assert simulation.metrics.phase_s[Phase.QUEUE] == pytest.approx(3.101 - 0.5)
