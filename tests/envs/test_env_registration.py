"""Registration, light imports, and use through vector environments."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, JOINT, base, crowded
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

import agentserve_gym
from agentserve_gym.envs.rewards import JctReward


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_version_is_the_packages() -> None:
    project = tomllib.loads(
        (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert agentserve_gym.__version__ == project["project"]["version"]


def test_importing_registers_and_loads_nothing_heavy() -> None:
    loaded = _python(
        "import sys, agentserve_gym, gymnasium;"
        "assert all(i in gymnasium.registry for i in agentserve_gym.ENV_IDS);"
        "print(*(m for m in ('torch', 'simpy', 'pydantic', 'matplotlib', 'agentserve_gym.sim')"
        " if m in sys.modules))"
    )
    assert loaded == ""


@pytest.mark.parametrize("env_id", IDS)
def test_a_fresh_process_makes_environments_without_torch(env_id: str) -> None:
    loaded = _python(
        f"import sys, gymnasium; env = gymnasium.make({env_id!r}); env.reset(seed=0);"
        "env.step(env.action_space.sample());"
        "print(*(m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules))"
    )
    assert loaded == ""


def test_the_bare_id_works_after_import() -> None:
    assert gym.make("AgentServe-v0").spec is not None


def _steps(envs: gym.vector.VectorEnv) -> list[np.ndarray]:
    observations, infos = envs.reset(seed=[3, 4])
    assert infos["seed"].tolist() == [3, 4]
    assert infos["action_mask"].shape[0] == 2
    found = [observations.copy()]
    envs.action_space.seed(0)
    metrics = 0
    for _ in range(60):
        observations, _rewards, done, cut, infos = envs.step(envs.action_space.sample())
        assert np.array_equal(np.isfinite(infos["metrics"]).all(axis=1), done | cut)
        metrics += int((done | cut).sum())
        found.append(observations.copy())
    assert metrics >= 2, "an episode of each environment ends and starts anew within the steps"
    return found


@pytest.mark.parametrize("env_id", IDS)
def test_vector_environments_in_one_process(env_id: str) -> None:
    envs = gym.make_vec(env_id, num_envs=2, vectorization_mode="sync", scenario="toy")
    assert len(_steps(envs)) == 61
    envs.close()


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_vector_environments_in_worker_processes(context: str) -> None:
    workers = gym.make_vec(
        JOINT,
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"context": context},
        scenario=crowded(),
    )
    alone = gym.make_vec(JOINT, num_envs=2, vectorization_mode="sync", scenario=crowded())
    try:
        for one, other in zip(_steps(workers), _steps(alone), strict=True):
            assert np.array_equal(one, other)
    finally:
        workers.close()
        alone.close()


class NamedReward(JctReward):
    """A reward object, which has no JSON."""


@pytest.mark.parametrize("env_id", IDS)
def test_specifications_with_scenarios_survive_json(env_id: str, tmp_path: Path) -> None:
    file = tmp_path / "crowded.json"
    file.write_text(crowded().model_dump_json(), encoding="utf-8")
    given = (crowded(), crowded().model_dump(mode="json"), file, str(file), "default")
    for scenario in given:
        env = gym.make(
            env_id, scenario=scenario, max_instances=np.int64(6), reward="slo", max_episode_steps=9
        )
        again = gym.make(EnvSpec.from_json(env.spec.to_json()))
        assert again.spec == env.spec
        assert base(again).scenario == base(env).scenario
        assert again.observation_space == env.observation_space
        assert again.action_space == env.action_space
        assert np.array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])


def test_specifications_of_vectors_survive_json() -> None:
    envs = gym.make_vec(
        JOINT, num_envs=2, scenario=crowded(), autoreset_mode=AutoresetMode.SAME_STEP
    )
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert again.unwrapped.spec == envs.unwrapped.spec
    assert again.unwrapped.num_envs == 2
    assert again.unwrapped.autoreset_mode is AutoresetMode.SAME_STEP
    assert np.array_equal(again.reset(seed=1)[0], envs.reset(seed=1)[0])


def test_a_reward_object_stays_in_the_specification() -> None:
    reward = NamedReward()
    env = gym.make(JOINT, scenario=crowded(), reward=reward)
    assert isinstance(gym.make(env.spec).unwrapped._reward, NamedReward)
    with pytest.raises(TypeError, match="NamedReward is not JSON serializable"):
        env.spec.to_json()
