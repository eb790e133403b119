"""One battery over every registered environment and every preset."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import (
    IDS,
    JOINT,
    OFFLOAD,
    base,
    crowded,
    play,
    random_chooser,
    split_mask,
    structure,
)
from gymnasium.utils.env_checker import check_env

from agentserve_gym.envs import AgentServeEnv, metric_names
from agentserve_gym.envs.metrics import flat_metrics
from agentserve_gym.envs.rewards import JctReward
from agentserve_gym.sim import preset_names

pytestmark = pytest.mark.no_cover

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
    total, now_s, steps = 0.0, info["elapsed_s"], 0
    shape = structure(info)
    for step in play(env, random_chooser()):
        assert structure(step.info) == shape
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
    assert all(type(value) is float for value in dict(metrics).values())
    assert np.isfinite(metrics).all()
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
    assert np.array_equal(one.info["metrics"], other.info["metrics"])


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


@every_id
def test_metrics_are_unknown_until_the_end(env_id: str) -> None:
    env = gym.make(env_id, scenario=crowded())
    info = env.reset(seed=0)[1]
    assert dict(info["metrics"]).keys() == set(metric_names())
    steps = list(play(env, random_chooser()))
    early = [info, *(step.info for step in steps[:-1])]
    assert all(np.isinf(info["metrics"]).all() for info in early)
    assert [info["steps"] for info in early] == list(range(len(steps)))
    report = flat_metrics(base(env).simulation.report())
    assert dict(steps[-1].info["metrics"]).items() <= report.items()
    with pytest.raises(KeyError, match="jct"):
        info["metrics"]["jct"]
    limited = gym.make(env_id, scenario=crowded(), max_episode_steps=3)
    limited.reset(seed=0)
    *_, last = play(limited, random_chooser())
    assert last.truncated
    assert np.isinf(last.info["metrics"]).all()


def _assert_same(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert np.array_equal(left.observation, right.observation)
        assert np.array_equal(left.info["action_mask"], right.info["action_mask"])
        assert left.reward == right.reward
    assert np.array_equal(one[-1].info["metrics"], other[-1].info["metrics"])


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
        ({"workload_seed": True}, "workload_seed is True"),
        ({3: 4}, "unknown option 3"),
        (3, "options is 3; allowed: None or a mapping"),
        ([("workload_seed", 3)], "options is .*; allowed: None or a mapping"),
    ],
)
def test_bad_reset_options(options: Any, message: str) -> None:
    env = base(gym.make(JOINT, scenario="toy"))
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    with pytest.raises(RuntimeError, match="has not begun"):
        env.step([0, 0])


@pytest.mark.parametrize("seed", [-1, 1.5, True, "3", [3], np.float64(2)])
def test_bad_seeds(seed: Any) -> None:
    env = base(gym.make(JOINT, scenario="toy"))
    with pytest.raises(ValueError, match=r"^seed is .*; allowed: None or an integer of at least 0"):
        env.reset(seed=seed)


def test_seeds_of_numpy_are_seeds() -> None:
    env = base(gym.make(JOINT, scenario="toy"))
    assert env.reset(seed=np.int64(7))[1]["seed"] == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "defualt"}, "did you mean 'default'"),
        ({"reward": "latency"}, "reward is 'latency'; the names are jct, slowdown, slo"),
        ({"reward": None}, "reward is None; allowed: jct, slowdown, slo, or an object with"),
        ({"reward": 3}, "reward is 3; allowed: jct"),
        ({"reward": object()}, "reward is <object .*; allowed: jct"),
        ({"reward": JctReward}, "reward is <class .*; allowed: jct"),
        ({"max_instances": 3}, "max_instances is 3; the scenario has 4 instances"),
        ({"max_instances": 10**9}, "max_instances is 1000000000; allowed: at most 10000"),
        ({"max_instances": 0}, "max_instances is 0; allowed: None or an integer of at least 1"),
        ({"max_instances": "4"}, "max_instances is '4'; allowed: None or an integer"),
        ({"max_instances": True}, "max_instances is True; allowed: None or an integer"),
        ({"tiers": ["cxl"]}, r"tiers is \['cxl'\]; allowed: .* at least those of the scenario"),
        ({"tiers": ["dram", "dram"]}, "allowed: a list of different names"),
        ({"tiers": "dram,cxl"}, r"tiers is 'dram,cxl'; allowed"),
        ({"tiers": [["dram"], "dram"]}, "allowed: a list of different names"),
        ({"max_instances": 4.0}, "max_instances is 4.0; allowed: None or an integer"),
        ({"scenario": None}, "scenario is None; allowed: the name of a preset or cell, a .toml"),
        ({"scenario": 3}, "scenario is 3; allowed: the name of a preset or cell, a .toml"),
        ({"scenario": []}, r"scenario is \[\]; allowed: the name of a preset or cell, a .toml"),
    ],
)
def test_bad_constructor_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make(JOINT, **options)


@pytest.mark.parametrize("env_id", IDS[1:])
def test_unknown_baseline(env_id: str) -> None:
    with pytest.raises(ValueError, match="unknown policy part 'afinity'"):
        gym.make(env_id, baseline="afinity")
    for baseline in (3, None, ["lru"]):
        with pytest.raises(ValueError, match=r"^baseline is .*; allowed: the name of a policy"):
            gym.make(env_id, baseline=baseline)


@pytest.mark.parametrize("mode", ["human", 3, ["ansi"]])
def test_unknown_render_mode_is_refused(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"render_mode is .*; allowed: None, ansi, rgb_array"):
        AgentServeEnv(render_mode=mode)


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
    assert env.action_space.nvec[0] == 3001


@every_id
@pytest.mark.parametrize("experts", [1, 2], ids=["alone", "lockstep"])
def test_data_parallel_engines_are_instances(env_id: str, experts: int) -> None:
    content = crowded().cluster.model_dump(mode="json")
    content["model"] = "qwen3-30b-a3b-instruct-2507"
    content["nodes"][0]["instances"][0] |= {"data_parallel": 2, "expert_parallel": experts}
    options = {"baseline": "round_robin+lru"} if env_id == OFFLOAD else {}
    env = gym.make(env_id, scenario=crowded(cluster=content), **options)
    unwrapped = base(env)
    assert unwrapped.num_instances == unwrapped.max_instances == 4
    env.reset(seed=0)
    assert len(unwrapped.simulation.engines) == 4
    instances = set()
    for step in play(env, random_chooser()):
        assert step.observation in env.observation_space
        instances |= {program.home for program in unwrapped.simulation.cluster.programs.values()}
    assert step.terminated
    assert len(instances - {-1}) > 2
