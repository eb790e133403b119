"""SB3's view of the native batch: the same as ``DummyVecEnv`` over monitored environments."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from train_helpers import small_scenario

from agentserve_gym.train import AgentServeVecEnv
from agentserve_gym.train.learners import make_learner
from agentserve_gym.train.seeds import training_seed
from agentserve_gym.train.workers import make_env, make_workers

pytestmark = pytest.mark.no_cover

IDS = ("AgentServe-v0", "AgentServeRouting-v0", "AgentServeOffload-v0")
N = 3


class TrainingEpisodes(gym.Wrapper):
    """A single environment that meets the training workloads of one worker, one after the other."""

    def __init__(self, env, seed, worker):
        super().__init__(env)
        self.run_seed, self.worker, self.episode = seed, worker, -1

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        workload = training_seed(self.run_seed, self.worker, self.episode)
        return self.env.reset(options={"workload_seed": workload})

    def action_masks(self):
        return self.unwrapped.action_masks()


def dummy_workers(settings):
    """What ``make_workers`` stands for, of single environments."""

    def make(worker):
        return lambda: Monitor(TrainingEpisodes(make_env(settings), settings.seed, worker))

    return DummyVecEnv([make(worker) for worker in range(settings.workers)])


def make(env_id=IDS[0], programs=4, **options):
    scenario = small_scenario(programs=programs)
    envs = gym.make_vec(f"agentserve_gym:{env_id}", num_envs=N, scenario=scenario, **options)
    return AgentServeVecEnv(envs)


def dummy(env_id=IDS[0], programs=4, **options):
    scenario = small_scenario(programs=programs)

    def single():
        return Monitor(gym.make(f"agentserve_gym:{env_id}", scenario=scenario, **options))

    return DummyVecEnv([single] * N)


def draw(envs, rng):
    """A possible action for each environment."""
    joint = isinstance(envs.action_space, gym.spaces.MultiDiscrete)
    split = [int(envs.action_space.nvec[0])] if joint else []
    picks = [
        [int(rng.choice(np.flatnonzero(part))) for part in np.split(mask, split)]
        for mask in get_action_masks(envs)
    ]
    return np.array(picks) if joint else np.array(picks)[:, 0]


def assert_same_step(one, other):
    """Observations, rewards and ends; of the infos, what SB3 reads and what an episode gave."""
    for left, right in zip(one[:3], other[:3], strict=True):
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
    for left, right in zip(one[3], other[3], strict=True):
        for key in ("TimeLimit.truncated", "elapsed_s"):
            assert left[key] == right[key]
        assert ("episode" in left) == ("episode" in right)
        if "episode" not in right:
            continue
        assert set(left) == set(right)
        assert [left["episode"][key] for key in "rl"] == [right["episode"][key] for key in "rl"]
        assert left["episode"]["t"] >= 0.0
        assert np.array_equal(left["terminal_observation"], right["terminal_observation"])
        assert np.array_equal(left["action_mask"], right["action_mask"])
        assert np.array_equal(left["metrics"], right["metrics"])


def assert_same_steps(one, other, steps, seed=0):
    """Both show the same; returns how many episodes ended, and how many of them were cut."""
    rng = np.random.default_rng(seed)
    ends = cuts = 0
    for _ in range(steps):
        actions = draw(one, rng)
        left, right = one.step(actions), other.step(actions)
        assert_same_step(left, right)
        assert np.array_equal(get_action_masks(one), get_action_masks(other))
        ends += int(left[2].sum())
        cuts += sum(info["TimeLimit.truncated"] for info in left[3])
    return ends, cuts


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("options", [{}, {"max_episode_steps": 9}], ids=["whole", "cut"])
def test_the_same_as_monitored_single_environments(env_id, options):
    one, other = make(env_id, **options), dummy(env_id, **options)
    assert one.observation_space == other.observation_space
    assert one.action_space == other.action_space
    for envs in (one, other):
        envs.seed(5)
    assert np.array_equal(one.reset(), other.reset())
    assert [info["seed"] for info in one.reset_infos] == [5, 6, 7]
    ends, cuts = assert_same_steps(one, other, 120)
    assert ends > N
    assert (cuts > 0) == bool(options)
    for envs in (one, other):
        envs.set_options({"workload_seed": 11})
    assert np.array_equal(one.reset(), other.reset())
    assert [info["seed"] for info in one.reset_infos] == [11] * N


def test_workers_are_the_same_as_single_environments(small_run):
    settings = small_run(workers=N)
    one, other = make_workers(settings), dummy_workers(settings)
    assert np.array_equal(one.reset(), other.reset())
    assert assert_same_steps(one, other, 300)[0] > N
    seeds = [[info["seed"] for info in envs.reset_infos] for envs in (one, other)]
    assert seeds[0] == seeds[1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"env": "AgentServeOffload-v0"},
        {"algorithm": "dqn", "env": "AgentServeRouting-v0"},
    ],
    ids=["maskable-ppo", "offload", "dqn"],
)
def test_learning_ends_with_the_same_weights(changes, small_run):
    settings = small_run(**changes)
    weights, episodes = [], []
    for workers in (make_workers(settings), dummy_workers(settings)):
        learner = make_learner(settings, workers)
        learner.learn(320)
        weights.append(learner.policy.state_dict())
        episodes.append([(episode["r"], episode["l"]) for episode in learner.ep_info_buffer])
    assert episodes[0] == episodes[1]
    assert len(episodes[0]) > 0
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))],
    ids=["copy", "pickle"],
)
def test_a_stored_state_goes_on_as_if_nothing_had_happened(clone, small_run):
    settings = small_run()
    envs, again = make_workers(settings), make_workers(settings)
    envs.reset()
    rng = np.random.default_rng(0)
    for _ in range(25):
        envs.step(draw(envs, rng))
    again.resume(clone(envs.progress()))
    assert assert_same_steps(envs, again, 80)[0] > 1


def test_what_sb3_asks_for():
    envs = make()
    envs.reset()
    assert is_masking_supported(envs)
    masks = get_action_masks(envs)
    assert masks.dtype == np.bool_
    assert np.array_equal(masks, envs.action_masks())
    (one,) = envs.env_method("action_masks", indices=1)
    assert np.array_equal(one, masks[1])
    assert envs.get_attr("num_instances") == [4] * N
    envs.set_attr("note", 3, indices=[0, 2])
    assert envs.get_attr("note", indices=[0, 2]) == [3, 3]
    assert not hasattr(envs.envs[1], "note")
    assert envs.env_is_wrapped(Monitor) == [True] * N
    assert envs.env_is_wrapped(gym.wrappers.TimeLimit, indices=0) == [False]
    assert envs.render_mode is None
    envs.close()


def test_sb3_evaluates_on_it_and_wraps_it():
    envs = make(programs=2)
    model = MaskablePPO("MlpPolicy", envs, n_steps=16, batch_size=16, seed=0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # SB3 warns where nobody gives episode statistics
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=4)
    assert mean < 0.0
    wrapped = VecNormalize(make(programs=2), norm_obs=False)
    MaskablePPO("MlpPolicy", wrapped, n_steps=16, batch_size=16, device="cpu").learn(32)


def test_pictures_of_all_environments_in_one():
    envs = make(render_mode="rgb_array")
    envs.reset()
    picture = envs.render()
    single = envs.envs[0].render()
    assert picture.shape == (2 * single.shape[0], 2 * single.shape[1], 3)
    assert np.array_equal(picture[: single.shape[0], : single.shape[1]], single)


def test_other_vector_environments_are_refused():
    envs = gym.make_vec(f"agentserve_gym:{IDS[0]}", num_envs=2, vectorization_mode="sync")
    with pytest.raises(ValueError, match="a native vector environment is needed"):
        AgentServeVecEnv(envs)


def test_the_documented_snippet_runs():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "AgentServeVecEnv" in snippet]
    variables = {}
    exec(snippet, variables)
    assert variables["model"].num_timesteps == 1024
