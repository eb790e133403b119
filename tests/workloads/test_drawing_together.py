"""Programs that are drawn together are the programs that are drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest

from agentserve_gym.workloads import GeneratedWorkload, PoissonArrivals, build_workload
from agentserve_gym.workloads.generators import (
    AGENT_CLASSES,
    DrawSettings,
    draw_program,
    draw_programs,
    load_parameters,
)
from agentserve_gym.workloads.generators.streams import stream_rng


@pytest.mark.parametrize("agent_class", AGENT_CLASSES)
@pytest.mark.parametrize(
    "settings", [DrawSettings(), DrawSettings(window_tokens=40_000, max_turns=9, token_scale=1.3)]
)
def test_together_and_alone(agent_class: str, settings: DrawSettings) -> None:
    parameters = load_parameters(agent_class)
    indices = [*range(40), 1000]
    together = draw_programs(parameters, 5, indices, settings)
    assert together == [draw_program(parameters, 5, index, settings) for index in indices]


def test_any_order_gives_the_same_programs() -> None:
    spec = GeneratedWorkload(mix={"coding_interactive": 1.0, "function_calling": 2.0}, programs=70)
    forwards = build_workload(spec, PoissonArrivals(rate_per_s=1.0), seed=2)
    backwards = build_workload(spec, PoissonArrivals(rate_per_s=1.0), seed=2)
    reverse = [backwards.program(index) for index in reversed(range(70))]
    assert [forwards.program(index) for index in range(70)] == reverse[::-1]
    with pytest.raises(LookupError):
        forwards.program(70)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**40 + 3])
def test_a_stream_is_that_of_its_three_numbers(seed: int) -> None:
    numbers = stream_rng(seed, 2, 5).random(4)
    expected = np.random.Generator(np.random.PCG64([seed, 2, 5])).random(4)
    assert numbers.tolist() == expected.tolist()
    assert numbers.tolist() != stream_rng(seed, 3, 5).random(4).tolist()
