"""Loads that overlap the prefill layer by layer, with their arithmetic (see ``residency_helpers``).

A block takes .1 s to load, a step 1 s and .01 s a token; the model has 32 layers.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from residency_helpers import DRAM, build, placing, records
from sim_helpers import audit, drive, program

from agentserve_gym.sim import Phase, Simulation
from agentserve_gym.sim.kernel.tiers import HBM

LAYERS = 32


def reloaded(
    loads: str, new_tokens: int = 16, blocks: int = 10, beside: list[dict[str, Any]] | None = None,
    **engine: Any,
) -> Simulation:  # fmt: skip
    """a's context is offloaded, evicted by b but for a few blocks, and loaded when a returns."""
    simulation = build(
        [
            program((16 * blocks, 1, 30.0), (new_tokens, 1), program_id="a"),
            program((16 * blocks + new_tokens + 16, 1), program_id="b", arrival_s=15.0),
            *(beside or []),
        ],
        kv_blocks=blocks + new_tokens // 16 + 4,
        engine={"loads": loads, **engine},
    )
    drive(simulation, placing(lambda _: DRAM), audit)
    assert simulation.residency.counters.loads[1] == 1
    return simulation


def returned(simulation: Simulation) -> tuple[float, float]:
    """When a's second turn was ready, and its first token came."""
    turn = records(simulation)["a", 1]
    return turn.ready_s, turn.first_token_s


def loaded_tokens(simulation: Simulation) -> int:
    assert simulation.metrics.hit_tokens[HBM] < 100
    return simulation.metrics.hit_tokens[1]


def test_a_load_hides_behind_the_compute_of_its_prefill() -> None:
    """The step takes 1 s + .01 s a token, the load .1 s a block: the last layer waits for it."""
    before, layerwise = reloaded("before"), reloaded("layerwise")
    load_s = 0.1 * (loaded_tokens(layerwise) / 16)
    compute_s = 1.0 + 0.01 * (177 - 160)
    ready_s, first_token_s = returned(before)
    assert first_token_s - ready_s == pytest.approx(load_s + compute_s)
    ready_s, first_token_s = returned(layerwise)
    expected_s = max(compute_s, load_s + compute_s / LAYERS)
    assert first_token_s - ready_s == pytest.approx(expected_s)


def test_where_the_load_takes_longer_the_step_ends_one_layer_after_it() -> None:
    simulation = reloaded("layerwise", blocks=40)
    load_s = 0.1 * (loaded_tokens(simulation) / 16)
    compute_s = 1.0 + 0.01 * 17
    assert load_s > 2 * compute_s
    ready_s, first_token_s = returned(simulation)
    assert first_token_s - ready_s == pytest.approx(load_s + compute_s / LAYERS)
    # The time until the KV is there counts as loading, what is left as prefill.
    assert simulation.metrics.phase_s[Phase.LOAD] == pytest.approx(load_s)


def test_only_the_first_chunk_waits() -> None:
    simulation = reloaded(
        "layerwise", new_tokens=111, blocks=40, max_num_batched_tokens=64, max_num_seqs=8
    )
    load_s = 0.1 * (loaded_tokens(simulation) / 16)
    ready_s, first_token_s = returned(simulation)
    waiting_s = load_s + (1.0 + 0.64) / LAYERS
    assert first_token_s - ready_s == pytest.approx(waiting_s + 1.0 + 0.01 * (112 - 64))


def test_who_shares_the_step_is_delayed_with_it() -> None:
    """c decodes eleven steps of a second, in one of which a prefills 17 tokens."""
    c = program((16, 12), program_id="c", arrival_s=33.0)
    total_s = {}
    for loads in ("before", "layerwise"):
        simulation = reloaded(loads, blocks=40, beside=[c])
        turn = records(simulation)["c", 0]
        total_s[loads] = turn.end_s - turn.first_token_s
    load_s = 0.1 * (loaded_tokens(simulation) / 16)
    assert total_s["before"] == pytest.approx(10 + 1.17)
    assert total_s["layerwise"] == pytest.approx(10 + load_s + 1.17 / LAYERS)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    new_tokens=st.integers(1, 300),
    blocks=st.integers(4, 60),
    budget=st.sampled_from([64, 256, 2048]),
    lags=st.booleans(),
)
def test_a_lone_turn_is_never_later_than_with_loads_before(
    new_tokens: int, blocks: int, budget: int, lags: bool
) -> None:
    engine = {"max_num_batched_tokens": budget, "max_num_seqs": 8, "async_scheduling": lags}
    times = []
    for loads in ("before", "layerwise"):
        ready_s, first_token_s = returned(
            reloaded(loads, new_tokens=new_tokens, blocks=blocks, **engine)
        )
        times.append(first_token_s - ready_s)
    assert times[1] <= times[0] + 1e-9
