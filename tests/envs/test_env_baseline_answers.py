"""What baselines answer, through the environments' actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from env_helpers import IDS, JOINT, OFFLOAD, ROUTING, base, crowded, play, thrashing

from agentserve_gym.baselines import NamedPolicy, list_policies, parse_policy
from agentserve_gym.envs.queue_classes import PriorityReader, QueueClass
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    run,
)

SCENARIOS = {"crowded": crowded(), "thrashing": thrashing()}
NAMES = [policy.name for policy in list_policies()]

EXPRESSED = [
    "affinity+lru",
    "least_loaded+evict",
    "lmetric+write_through",
    "round_robin+dram",
    "affinity+continuum+fcfs",
    "affinity+continuum(seconds=20)+fcfs",
    "lmetric+retain+fcfs",
    "affinity+write_through+router_queue(threshold=0)",
]
"""Policies all of whose answers are actions."""


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_answer_of_every_policy_has_an_action(scenario: str, name: str, env_id: str) -> None:
    env = gym.make(env_id, scenario=SCENARIOS[scenario])
    env.reset(seed=0)
    policy = bound(name, base(env).simulation)

    def choose(env: gym.Env[Any, Any]) -> Any:
        pending = base(env).pending
        assert pending is not None
        action = base(env).encode(policy.decide(pending))
        assert action in env.action_space
        return action

    *_, last = play(env, choose)
    assert last.terminated
    assert last.info["invalid_actions"] == 0


@pytest.mark.parametrize("scenario", list(SCENARIOS))
@pytest.mark.parametrize("policy", EXPRESSED)
def test_what_the_actions_express_is_the_run_itself(policy: str, scenario: str) -> None:
    """Turn by turn. The environment's own questions after copies and moves change nothing where
    they are answered by what leaves everything as it is."""
    content = SCENARIOS[scenario].model_copy(update={"pin_until_return_s": 1e9})
    simulation = recorded(content)
    run(simulation, bound(policy, simulation))

    env = base(gym.make(JOINT, scenario=content))
    env.reset(seed=0)
    env.simulation.metrics.records = []
    heuristic = bound(policy, env.simulation)

    def choose(env: gym.Env[Any, Any]) -> Any:
        pending = base(env).pending
        assert pending is not None
        if not isinstance(pending, RouteDecision) and pending.elapsed_s > 0.0:
            return [base(env).routes.hold, 0]
        return base(env).encode(heuristic.decide(pending))

    for _ in play(env, choose):
        pass
    assert len(simulation.metrics.records) > 20
    assert env.simulation.metrics.records == simulation.metrics.records
    assert env.simulation.metrics.holds == simulation.metrics.holds
    held = "router_queue" in policy and scenario == "thrashing"
    assert (simulation.metrics.holds > 0) == held


@pytest.mark.parametrize("env_id", [ROUTING, OFFLOAD])
@pytest.mark.parametrize("policy", ["round_robin+dram", "lmetric+write_through"])
def test_with_the_other_decision_left_to_the_same_baseline(env_id: str, policy: str) -> None:
    simulation = recorded(crowded())
    run(simulation, bound(policy, simulation))
    env = gym.make(env_id, scenario=crowded(), baseline=policy)
    env.reset(seed=0)
    base(env).simulation.metrics.records = []
    heuristic = bound(policy, base(env).simulation)
    for _ in play(env, lambda env: base(env).encode(heuristic.decide(base(env).pending))):
        pass
    expected = simulation.metrics.records
    if env_id == OFFLOAD:  # its first turn ended within the reset
        expected = expected[1:]
    assert base(env).simulation.metrics.records == expected


def recorded(scenario: Scenario) -> Simulation:
    return Simulation(scenario, 0, record_turns=True)


def bound(name: str, simulation: Simulation) -> NamedPolicy:
    policy = parse_policy(name)
    policy.bind(simulation)
    return policy


# --- priorities ----------------------------------------------------------------------------------


class ThreeLevels:
    """Everything to one instance, a third of the programs ahead and a third behind."""

    def decide(self, decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(0, float(decision.program.index % 3 - 1))
        return KEEP


def test_three_levels_of_priority_are_the_run_itself() -> None:
    simulation = recorded(thrashing())
    run(simulation, ThreeLevels())
    env = base(gym.make(ROUTING, scenario=thrashing()))
    env.reset(seed=0)
    env.simulation.metrics.records = []
    actions = set()

    def choose(env: gym.Env[Any, Any]) -> Any:
        pending = base(env).pending
        assert pending is not None
        actions.add(action := base(env).encode(ThreeLevels().decide(pending)))
        return action

    for _ in play(env, choose):
        pass
    assert actions == {0, 1, 2}
    assert env.simulation.metrics.records == simulation.metrics.records


def test_priorities_of_minus_one_to_one_are_the_classes_own() -> None:
    reader = PriorityReader()
    given = [0.0, -1.0, -1.0, 1.0, -1.0, 0.0, 1.0]
    assert [reader.read(0, priority).priority for priority in given] == given


def test_other_priorities_are_compared_with_the_last_ones_at_the_instance() -> None:
    reader = PriorityReader()
    first = [reader.read(0, priority) for priority in (5.0, 9.0, 7.0)]
    assert first == [QueueClass.IN_ORDER] * 3
    assert reader.read(0, 4.0) is QueueClass.AHEAD
    assert reader.read(0, 6.0) is QueueClass.IN_ORDER
    assert reader.read(0, 20.0) is QueueClass.BEHIND
    assert reader.read(0, 0.0) is QueueClass.AHEAD
    assert reader.read(1, 20.0) is QueueClass.IN_ORDER, "nothing was given there yet"


def test_of_a_long_queue_about_a_third_goes_to_each_class() -> None:
    reader = PriorityReader()
    found = [reader.read(0, float(number * 7919 % 100)) for number in range(400)][100:]
    for queue_class in QueueClass:
        assert found.count(queue_class) == pytest.approx(100, abs=20)
    reader = PriorityReader()
    assert {reader.read(0, 3.0) for _ in range(50)} == {QueueClass.IN_ORDER}


def test_only_the_last_32_priorities_count() -> None:
    reader = PriorityReader()
    for _ in range(100):
        reader.read(0, 1000.0)
    found = [reader.read(0, 2000.0 + number) for number in range(40)]
    assert found[:20] == [QueueClass.BEHIND] * 20
    assert reader.read(0, 1990.0) is QueueClass.AHEAD


def test_a_copied_environment_reads_on_from_where_it_was() -> None:
    env = base(gym.make(JOINT, scenario=crowded()))
    env.reset(seed=0)
    policy = bound("affinity+program_fcfs", env.simulation)
    for _ in play(env, lambda env: base(env).encode(policy.decide(base(env).pending)), limit=25):
        pass
    while not isinstance(env.pending, RouteDecision):
        env.step([env.routes.hold, 0])
    saved = env.snapshot()
    early = [env.encode(Route(0, -1e6)), env.encode(Route(0, 1e6))]
    assert [action[0] for action in early] == [0, 2]
    for _ in range(30):
        env.encode(Route(0, -1e9))
    assert env.encode(Route(0, -1e6))[0] == 2
    env.restore(saved)
    assert [env.encode(Route(0, -1e6))[0], env.encode(Route(0, 1e6))[0]] == [0, 2]
