"""Random actions, possible or not, in any scenario: blocks, turns and returns add up."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, base, play, split_mask, thrashing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentserve_gym.envs import AgentServeBase
from agentserve_gym.sim import PlacementDecision, RouteDecision, Scenario
from tests.sim.sim_helpers import audit, jct_parts
from tests.sim.sim_strategies import scenarios

pytestmark = pytest.mark.no_cover

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class RandomActions:
    """Chooses among the possible actions, or now and then among all; counts what it answers.

    Attributes:
        taken: names of the actions of the components that were asked.
        impossible: answers that the mask excluded.
    """

    def __init__(self, seed: int, impossible_share: float) -> None:
        self.taken: set[str] = set()
        self.impossible = 0
        self._share = impossible_share
        self._generator = np.random.default_rng(seed)

    def __call__(self, env: gym.Env[Any, Any]) -> Any:
        unwrapped, generator = base(env), self._generator
        parts = split_mask(unwrapped, unwrapped.action_masks())
        free = generator.random() < self._share
        picks = [
            int(generator.integers(part.size) if free else generator.choice(np.flatnonzero(part)))
            for part in parts
        ]
        routing = isinstance(unwrapped.pending, RouteDecision)
        asked = 0 if routing or len(parts) == 1 else 1
        names = unwrapped.routes.names if routing else unwrapped.placements.names
        if unwrapped.pending is not None:
            self.taken.add(names[picks[asked]].split(",")[-1].strip())
            self.impossible += not parts[asked][picks[asked]]
        return picks if len(picks) == 2 else picks[0]


def played(env_id: str, scenario: Scenario, seed: int, impossible_share: float) -> RandomActions:
    """Play an episode, auditing at every step; returns who played it."""
    env = gym.make(env_id, scenario=scenario)
    unwrapped = base(env)
    env.reset(seed=seed)
    choose = RandomActions(seed, impossible_share)
    total, again = 0.0, 0
    for step in play(env, choose):
        total += step.reward
        again += _asked_again(unwrapped)
        audit(unwrapped.simulation)
        assert all(part.any() for part in split_mask(unwrapped, step.info["action_mask"]))
        assert step.info["asked_again"] == again
        assert step.info["invalid_actions"] == choose.impossible
    _check_end(unwrapped, total)
    return choose


def _asked_again(env: AgentServeBase) -> bool:
    return isinstance(env.pending, PlacementDecision) and env.pending.elapsed_s > 0.0


def _check_end(env: AgentServeBase, total: float) -> None:
    simulation = env.simulation
    report = simulation.report()
    unit_s = env.scenario.objective.jct_unit_s
    assert total == pytest.approx(-report["mean_jct_s"]["all"] / unit_s, rel=1e-9, abs=1e-12)
    if simulation.truncated:
        return
    assert report["programs"] == len(simulation.workload)
    assert not simulation.orchestrator.live
    assert not simulation.router.held
    jct_s = sum(simulation.metrics.jct_s)
    assert jct_parts(simulation) == pytest.approx(jct_s, rel=1e-9)
    assert not any(e.queue.turns or e.running or e.queue.loading for e in simulation.engines)


@pytest.mark.parametrize("env_id", IDS)
@SETTINGS
@given(
    scenario=scenarios(), seed=st.integers(0, 10_000), impossible=st.sampled_from([0.0, 0.0, 0.3])
)
def test_everything_is_accounted_for_in_any_scenario(
    env_id: str, scenario: Scenario, seed: int, impossible: float
) -> None:
    played(env_id, scenario, seed, impossible)


@pytest.mark.parametrize("impossible", [0.0, 0.3])
@pytest.mark.parametrize("env_id", IDS)
def test_every_action_is_played_and_accounted_for(env_id: str, impossible: float) -> None:
    taken: set[str] = set()
    for seed in range(12):
        taken |= played(env_id, thrashing(), seed, impossible).taken
    env = base(gym.make(env_id, scenario=thrashing()))
    names: set[str] = set()
    if "Offload" not in env_id:
        names |= {"ahead", "in order", "behind", "hold"}
    if "Routing" not in env_id:
        names |= set(env.placements.names)
    assert taken == names
