"""Data-parallel engines that step together: padded experts, the slowest decides."""

from __future__ import annotations

import pytest
from hardware_helpers import MOE, decode, later, prefill
from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.hardware import (
    BatchStep,
    latency_model,
    lockstep_decode_run,
    lockstep_step_s,
)

GRAPH = 256

GROUP = latency_model("rtx-pro-6000", MOE, expert_parallel=2, data_parallel=2)


def test_equal_batches_cost_what_one_says():
    step = decode(32, 32_000)
    assert lockstep_step_s(GROUP, [step, step], GRAPH) == pytest.approx(
        GROUP.step_s(step), rel=1e-12
    )


def test_experts_are_padded_to_the_largest_batch():
    small, large = decode(4, 40_000), decode(64, 6400)
    own = [GROUP.step_s(s) - GROUP.expert_s(s.decode_count) for s in (small, large)]
    expected = max(own) + GROUP.expert_s(64)
    assert lockstep_step_s(GROUP, [small, large], GRAPH) == pytest.approx(expected, rel=1e-12)


def test_an_idle_engine_is_padded_in_a_graph_and_not_in_a_larger_step():
    small, large = prefill(200), prefill(2000)
    padded = lockstep_step_s(GROUP, [small, BatchStep()], GRAPH)
    assert padded == pytest.approx(GROUP.step_s(small), rel=1e-12)
    saved = GROUP.step_s(large) - lockstep_step_s(GROUP, [large, BatchStep()], GRAPH)
    assert saved == pytest.approx(GROUP.expert_s(2000) - GROUP.expert_s(1000), rel=1e-9)


def test_the_exchange_between_engines_is_paid_only_in_a_group():
    alone = latency_model("rtx-pro-6000", MOE)
    assert GROUP.expert_s(2048) > alone.expert_s(2048)
    assert latency_model("rtx-pro-6000", "qwen3-32b", 2).expert_s(100) == 0.0


def test_sharing_experts_saves_their_reading():
    """On a fast link two engines read half the experts each."""
    alone, shared = (latency_model("h200", MOE, expert_parallel=n, data_parallel=n) for n in (1, 2))
    step = decode(64, 64_000)
    assert shared.step_s(step) < alone.step_s(step)


@given(
    batches=st.lists(
        st.tuples(st.integers(0, 200), st.integers(16, 9000), st.integers(0, 4000)),
        min_size=2,
        max_size=4,
    )
)
def test_a_group_run_is_what_stepping_gives(batches):
    steps = [
        decode(count, count * mean, mean + extra) if count else BatchStep()
        for count, mean, extra in batches
    ]
    run = lockstep_decode_run(GROUP, steps, GRAPH)
    if not any(step.decode_count for step in steps):
        assert run.first_step_s == 0.0
        return
    last = min(run.steps, 2000) - 1
    for ahead in {0, 1, last // 2, last}:
        if ahead < run.steps:
            exact = lockstep_step_s(
                GROUP, [later(s, ahead) if s.decode_count else s for s in steps], GRAPH
            )
            assert run.first_step_s + ahead * run.growth_s == pytest.approx(exact, rel=1e-12)
