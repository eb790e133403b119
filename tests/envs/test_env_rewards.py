"""Returns telescope to the figures that they stand for."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from env_helpers import IDS, JOINT, OFFLOAD, ROUTING, base, crowded, play, random_chooser

from agentserve_gym.envs.rewards import JctReward
from agentserve_gym.sim import Scenario

OBJECTIVE = {"jct_unit_s": 7.0, "slowdown_unit": 3.0, "slo_ttft_s": 0.06, "slo_tpot_s": 0.02}


def _run(env_id: str, reward: Any, scenario: Scenario, seed: int = 0) -> tuple[float, Any, Any]:
    env = gym.make(env_id, scenario=scenario, reward=reward)
    env.reset(seed=seed)
    steps = list(play(env, random_chooser(seed)))
    return sum(step.reward for step in steps), steps[-1], base(env).simulation


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("seed", range(3))
def test_returns_are_the_figures(env_id: str, seed: int) -> None:
    scenario = crowded(objective=OBJECTIVE)
    total, last, _ = _run(env_id, "jct", scenario, seed)
    assert total == pytest.approx(-last.info["metrics"]["jct_s/mean"] / 7.0, rel=1e-9)
    total, last, _ = _run(env_id, "slowdown", scenario, seed)
    assert total == pytest.approx(-last.info["metrics"]["slowdown/mean"] / 3.0, rel=1e-9)
    total, last, _ = _run(env_id, "slo", scenario, seed)
    assert 0.0 < last.info["metrics"]["slo_goodput"] < 1.0
    assert total == pytest.approx(last.info["metrics"]["slo_goodput"] - 1.0, rel=1e-9)


@pytest.mark.parametrize("horizon_s", [None, 4.0, 2.0])
@pytest.mark.parametrize(("reward", "figure"), [("jct", "jct_s"), ("slowdown", "slowdown")])
def test_returns_are_means_over_all_programs(
    horizon_s: float | None, reward: str, figure: str
) -> None:
    scenario = crowded(objective=OBJECTIVE, horizon_s=horizon_s)
    unit = {"jct": 7.0, "slowdown": 3.0}[reward]
    total, last, _ = _run(JOINT, reward, scenario)
    metrics = last.info["metrics"]
    every, finished = metrics[f"mean_{figure}/all"], metrics[f"mean_{figure}/finished"]
    assert total == pytest.approx(-every / unit, rel=1e-9)
    assert finished == metrics[f"{figure}/mean"]
    if horizon_s is None:
        assert every == finished
    else:
        assert last.truncated
        assert abs(every / finished - 1.0) > 0.01 if finished else every > 0.0


def test_unfinished_programs_count_up_to_the_horizon() -> None:
    total, last, simulation = _run(JOINT, "jct", crowded(horizon_s=4.0))
    assert last.truncated
    finished_s = sum(simulation.metrics.jct_s)
    arrivals_s = [p.arrival_s for p in simulation.orchestrator.live.values()]
    waiting_s = sum(4.0 - arrival_s for arrival_s in arrivals_s)
    assert total == pytest.approx(-(finished_s + waiting_s) / (6 * 100.0), rel=1e-9)


def test_turns_that_the_horizon_cuts_off_miss_their_objective() -> None:
    total, last, simulation = _run(JOINT, "slo", crowded(horizon_s=4.0, objective=OBJECTIVE))
    assert last.truncated
    assert total == pytest.approx(simulation.metrics.slo_turns / 24 - 1.0, rel=1e-9)


def test_a_reward_object_may_be_given() -> None:
    class Halved(JctReward):
        def collect(self, simulation: Any) -> float:
            return 0.5 * super().collect(simulation)

    whole, _, _ = _run(JOINT, "jct", crowded())
    half, _, _ = _run(JOINT, Halved(), crowded())
    assert half == pytest.approx(0.5 * whole, rel=1e-12)


SINGLE_TURNS = {
    "kind": "inline",
    "programs": [
        {"arrival_s": float(n), "turns": [{"new_input_tokens": 100, "output_tokens": 9}]}
        for n in range(3)
    ],
}


def test_an_episode_without_any_decision_ends_at_its_first_step() -> None:
    """Programs of one turn have no tool gap, so the offload environment never asks."""
    scenario = crowded(workload=SINGLE_TURNS)
    env = gym.make(OFFLOAD, scenario=scenario)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert base(env).pending is None
    assert info["action_mask"].sum() == 1
    observation, reward, terminated, truncated, info = env.step(3)
    assert observation in env.observation_space
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(-info["metrics"]["jct_s/mean"] / 100.0, rel=1e-9)
    assert info["elapsed_s"] == info["metrics"]["simulated_s"]
    assert info["invalid_actions"] == 0


def test_a_joint_episode_equals_a_routing_one_with_the_same_answers() -> None:
    """Keep at every placement is what the baseline ``lru`` does."""
    joint = gym.make(JOINT, scenario=crowded())
    routing = gym.make(ROUTING, scenario=crowded(), baseline="affinity+lru")
    joint.reset(seed=0)
    routing.reset(seed=0)
    one = list(play(joint, lambda env: [base(env).simulation.metrics.holds % 2, 0]))
    other = list(play(routing, lambda env: base(env).simulation.metrics.holds % 2))
    assert dict(one[-1].info["metrics"]) == dict(other[-1].info["metrics"])
    assert sum(s.reward for s in one) == pytest.approx(sum(s.reward for s in other), rel=1e-12)
