"""A guard against creeping cost that no noise can trip: interpreter instructions and events.

The figures are those of CPython 3.11 on a fixed run, with a margin for other versions. Whoever
makes the simulation leaner lowers them; whoever must raise one says why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.compiled import running
from agentserve_gym.sim import Scenario, Simulation, load_scenario

pytestmark = pytest.mark.no_cover
interpreted = pytest.mark.skipif(
    running() is not None, reason="compiled code executes no instructions of the interpreter"
)

MARGIN = 1.15


def instructions(run: Callable[[], None]) -> int:
    """Bytecode instructions that ``run()`` executes, those in C functions not counted."""
    executed = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal executed
        executed += event == "opcode"
        return count

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return count

    tracer = sys.gettrace()  # a coverage measurement may be on
    sys.settrace(enter)
    try:
        run()
    finally:
        sys.settrace(tracer)
    return executed


def fixed() -> Scenario:
    """What the figures are of, whatever becomes of the default scenario: short programs, little
    pressure."""
    data = load_scenario("default").model_dump(mode="json")
    data["cluster"]["nodes"][0]["instances"][0]["kv_blocks"] = 8000
    data["engine"] |= {"max_num_seqs": 128, "max_num_batched_tokens": 2048}
    data["workload"] |= {
        "mix": {"coding_interactive": 0.5, "function_calling": 0.5},
        "programs": 32,
        "max_turns": 16,
        "max_context_tokens": 100_000,
    }
    return Scenario.model_validate(data)


def scaled(programs: int, instances: int, concurrency: int | None = None) -> Scenario:
    """The same with another number of programs and instances at the same load, or with so many
    programs at once."""
    data = fixed().model_dump(mode="json")
    data["horizon_s"] = None
    data["workload"]["programs"] = programs
    data["cluster"]["nodes"][0]["instances"][0]["count"] = instances
    data["arrivals"] = {"kind": "poisson", "rate_per_s": 0.1 * instances}
    if concurrency is not None:
        data["arrivals"] = {"kind": "closed_loop", "concurrency": concurrency}
    return Scenario.model_validate(data)


def instructions_per_turn(scenario: Scenario, policy: str) -> float:
    run_policy(Simulation(scenario, 0), parse_policy(policy))  # fills the tables that runs share
    simulation, parsed = Simulation(scenario, 0), parse_policy(policy)

    def run() -> None:
        run_policy(simulation, parsed)

    executed = instructions(run)
    return executed / simulation.report()["turns"]


# A sixth more than before KV was sought at peers for shared prefixes and placements were asked
# after last turns; MORI also ranks newcomers and counts a shared prefix once.
@interpreted
@pytest.mark.parametrize(
    ("policy", "usual"), [("affinity+lru", 10_400), ("lmetric+dram", 15_900), ("mori", 17_100)]
)
def test_instructions_per_turn(policy: str, usual: int) -> None:
    assert instructions_per_turn(fixed(), policy) < MARGIN * usual


def test_events_per_turn() -> None:
    simulation = Simulation(fixed(), 0)
    report = run_policy(simulation, parse_policy("affinity+lru"))
    assert simulation.clock.scheduled_events < 5.2 * report["turns"]


@interpreted
def test_instructions_per_environment_step() -> None:
    env = gym.make("agentserve_gym:AgentServe-v0", scenario=fixed())
    answer = np.array([0, 0])
    steps = 0

    def episode() -> None:
        nonlocal steps
        env.reset(seed=0)
        over = False
        while not over:
            answer[0] = steps % 4
            _, _, terminated, truncated, _ = env.step(answer)
            over = terminated or truncated
            steps += 1

    episode()
    steps = 0
    executed = instructions(episode)
    assert executed / steps < MARGIN * 9_900


@cache
def usual_instructions_per_turn(*size: int) -> float:
    return instructions_per_turn(scaled(*size), "affinity+lru")


@interpreted
@pytest.mark.parametrize(
    ("small", "large"),
    [
        ((60, 4), (240, 4)),
        ((60, 4), (240, 16)),
        ((120, 4, 30), (120, 4, 120)),
    ],
    ids=["longer", "wider", "crowded"],
)
def test_work_does_not_grow(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    """Four times the programs, the instances or the programs at once: a turn costs the same."""
    usual = usual_instructions_per_turn(*small)
    assert instructions_per_turn(scaled(*large), "affinity+lru") < 1.2 * usual


@interpreted
def test_looking_at_every_instance_is_the_only_thing_that_grows() -> None:
    near = [instructions_per_turn(scaled(40, count), "affinity+lru") for count in (4, 16)]
    far = [instructions_per_turn(scaled(40, count), "lmetric") for count in (4, 16)]
    looks = [everywhere - home for everywhere, home in zip(far, near, strict=True)]
    assert looks[1] < 1.3 * 4 * looks[0]
