"""One battery over every registered environment and every preset."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, JOINT, base, crowded, play, random_chooser, split_mask
from gymnasium.utils.env_checker import check_env

from agentserve_gym.sim import preset_names

PRESETS = preset_names()
every_id = pytest.mark.parametrize("env_id", IDS)
every_preset = pytest.mark.parametrize("preset", PRESETS)


@every_id
@every_preset
def test_gymnasiums_checker_has_nothing_to_say(env_id: str, preset: str) -> None:
    env = gym.make(env_id, scenario=preset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@every_id
@every_preset
def test_stable_baselines_checker_has_nothing_to_say(env_id: str, preset: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(env_id, scenario=preset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(env.unwrapped)


@every_id
@every_preset
def test_an_episode_keeps_its_promises(env_id: str, preset: str) -> None:
    env = gym.make(env_id, scenario=preset)
    unwrapped = base(env)
    observation, info = env.reset(seed=1)
    assert info["seed"] == 1
    assert set(info) == {"action_mask", "elapsed_s", "seed"}
    total, now_s, steps = 0.0, info["elapsed_s"], 0
    for step in play(env, random_chooser()):
        mask = step.info["action_mask"]
        assert step.observation in env.observation_space
        assert not np.shares_memory(step.observation, observation)
        assert mask.dtype == np.int8
        assert np.array_equal(mask.astype(bool), unwrapped.action_masks())
        assert all(part.any() for part in split_mask(unwrapped, mask))
        assert step.info["elapsed_s"] >= 0.0
        total += step.reward
        now_s += step.info["elapsed_s"]
        steps += 1
    assert step.terminated
    assert not step.truncated
    metrics = step.info["metrics"]
    assert all(type(value) is float for value in metrics.values())
    assert step.info["steps"] == steps
    assert step.info["invalid_actions"] == metrics["invalid_answers"] == 0
    assert now_s == pytest.approx(metrics["simulated_s"], rel=1e-9)
    unit_s = unwrapped.scenario.objective.jct_unit_s
    assert total == pytest.approx(-metrics["jct_s/mean"] / unit_s, rel=1e-9)
    assert metrics["programs"] == len(unwrapped.simulation.workload)


@every_id
def test_equal_seeds_give_equal_episodes_and_rendering_changes_nothing(env_id: str) -> None:
    plain = gym.make(env_id, scenario=crowded())
    watched = gym.make(env_id, scenario=crowded(), render_mode="rgb_array")
    plain.reset(seed=3)
    watched.reset(seed=3)
    pairs = zip(play(plain, random_chooser(1)), play(watched, random_chooser(1)), strict=True)
    for one, other in pairs:
        watched.render()
        assert np.array_equal(one.observation, other.observation)
        assert one.reward == other.reward
    assert one.info["metrics"] == other.info["metrics"]


@every_id
def test_snapshot_and_restore_repeat_the_rest_of_an_episode(env_id: str) -> None:
    env = gym.make(env_id, scenario=crowded())
    env.reset(seed=5)
    for _ in play(env, random_chooser(2), limit=12):
        pass
    unwrapped = base(env)
    saved = unwrapped.snapshot()
    first = list(play(env, random_chooser(7)))
    drawn = env.reset()[1]["seed"]
    for _ in range(2):
        observation = unwrapped.restore(saved)
        assert observation in env.observation_space
        again = list(play(env, random_chooser(7)))
        _assert_same(first, again)
        assert env.reset()[1]["seed"] == drawn


@every_id
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_copies_go_on_independently(env_id: str, clone: Any) -> None:
    env = gym.make(env_id, scenario=crowded())
    env.reset(seed=5)
    for _ in play(env, random_chooser(2), limit=10):
        pass
    twin = clone(env)
    rest = list(play(env, random_chooser(4)))
    _assert_same(rest, list(play(twin, random_chooser(4))))


def _assert_same(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert np.array_equal(left.observation, right.observation)
        assert np.array_equal(left.info["action_mask"], right.info["action_mask"])
        assert left.reward == right.reward
    assert one[-1].info["metrics"] == other[-1].info["metrics"]


@every_id
def test_workload_seeds(env_id: str) -> None:
    env = gym.make(env_id, scenario="default")
    assert env.reset(seed=11)[1]["seed"] == 11
    drawn = [env.reset()[1]["seed"] for _ in range(3)]
    assert len(set(drawn)) == 3
    assert min(drawn) >= 2**20
    env.reset(seed=11)
    assert [env.reset()[1]["seed"] for _ in range(3)] == drawn
    env.reset(seed=11)
    assert env.reset(options={"workload_seed": 4})[1]["seed"] == 4
    assert env.reset()[1]["seed"] == drawn[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workload": 3}, "unknown option 'workload'"),
        ({"workload_seed": -1}, "workload_seed is -1"),
        ({"workload_seed": 1.5}, "workload_seed is 1.5"),
    ],
)
def test_bad_reset_options(options: dict[str, Any], message: str) -> None:
    env = gym.make(JOINT, scenario="toy")
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "defualt"}, "did you mean 'default'"),
        ({"reward": "latency"}, "reward is 'latency'; the names are jct, slowdown, slo"),
        ({"max_instances": 3}, "max_instances is 3; the scenario has 4 instances"),
        ({"max_instances": 10**9}, "max_instances is 1000000000; allowed: at most 10000"),
    ],
)
def test_bad_constructor_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make(JOINT, **options)


@pytest.mark.parametrize("env_id", IDS[1:])
def test_unknown_baseline(env_id: str) -> None:
    with pytest.raises(ValueError, match="unknown policy part 'afinity'"):
        gym.make(env_id, baseline="afinity")


def test_unknown_render_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        base(gym.make(JOINT)).__class__(render_mode="human")


@every_id
def test_steps_outside_an_episode(env_id: str) -> None:
    env = base(gym.make(env_id, scenario="toy"))
    with pytest.raises(RuntimeError, match="has not begun"):
        env.step(env.action_space.sample())
    with pytest.raises(RuntimeError, match="has not begun"):
        env.snapshot()
    env.reset(seed=0)
    for _ in play(env, random_chooser()):
        pass
    with pytest.raises(RuntimeError, match="is over"):
        env.step(env.action_space.sample())


def test_the_horizon_truncates() -> None:
    env = gym.make(JOINT, scenario=crowded(horizon_s=4.0))
    env.reset(seed=0)
    *_, last = play(env, random_chooser())
    assert last.truncated
    assert not last.terminated
    assert last.info["metrics"]["simulated_s"] == 4.0
    assert last.info["metrics"]["unfinished_programs"] > 0


def test_a_thousand_instances_are_not_too_many() -> None:
    env = gym.make(JOINT, max_instances=1000)
    assert env.action_space.nvec[0] == 1001
