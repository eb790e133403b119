"""The mask inside the observation."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, JOINT, base, crowded, play, random_chooser
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from agentserve_gym.envs import MaskInObservation


@pytest.mark.parametrize("env_id", IDS)
def test_observations_hold_the_mask_of_now(env_id: str) -> None:
    env = MaskInObservation(gym.make(env_id, scenario=crowded()))
    plain = gym.make(env_id, scenario=crowded())
    first, info = env.reset(seed=0)
    assert np.array_equal(first["action_mask"], info["action_mask"])
    plain.reset(seed=0)
    masks = set()
    pairs = zip(play(env, random_chooser(1)), play(plain, random_chooser(1)), strict=True)
    for step, alone in pairs:
        assert step.observation in env.observation_space
        assert np.array_equal(step.observation["observation"], alone.observation)
        assert np.array_equal(step.observation["action_mask"], alone.info["action_mask"])
        masks.add(step.observation["action_mask"].tobytes())
    assert len(masks) > 1
    assert first["action_mask"].any(), "a copy, not the mask of the end"


@pytest.mark.parametrize("env_id", IDS)
def test_checkers_have_nothing_to_say(env_id: str) -> None:
    env = MaskInObservation(gym.make(env_id, scenario=crowded()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*different from the unwrapped version")
        check_env(env)
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(env)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vectors_of_wrapped_environments(mode: str) -> None:
    envs = gym.make_vec(
        JOINT,
        num_envs=2,
        vectorization_mode=mode,
        wrappers=[MaskInObservation],
        scenario=crowded(),
    )
    observations, infos = envs.reset(seed=0)
    size = base(gym.make(JOINT, scenario=crowded())).mask.size
    assert observations["action_mask"].shape == (2, size)
    for _ in range(20):
        observations, *_, infos = envs.step(np.array([[0, 0], [1, 3]]))
        assert np.array_equal(observations["action_mask"], infos["action_mask"])
    envs.close()


def test_its_specification_makes_it_again() -> None:
    env = MaskInObservation(gym.make(JOINT, scenario=crowded()))
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.observation_space == env.observation_space


def test_other_environments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^env is .*; allowed: an environment of agentserve_gym"):
        MaskInObservation(gym.make("CartPole-v1"))
