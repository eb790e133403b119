"""The native vector environments: the same numbers as single environments, bit by bit."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, JOINT, OFFLOAD, ROUTING, base, crowded, structure
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv

from agentserve_gym.envs import AgentServeVectorEnv, metric_names
from agentserve_gym.sim import Scenario

pytestmark = pytest.mark.no_cover

N = 3
MODES = [mode.value for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)]


def short(**changes: Any) -> Scenario:
    """Two programs of the crowded scenario: an episode is over after a few dozen steps."""
    content = crowded().model_dump(mode="json")
    content["workload"]["programs"] = content["workload"]["programs"][:2]
    return crowded(workload=content["workload"], **changes)


def native(env_id: str, mode: str = "NextStep", number: int = N, **options: Any) -> VectorEnv:
    return gym.make_vec(
        env_id,
        num_envs=number,
        vectorization_mode="vector_entry_point",
        autoreset_mode=mode,
        **options,
    )


def sync(env_id: str, mode: str = "NextStep", number: int = N, **options: Any) -> VectorEnv:
    return gym.make_vec(
        env_id,
        num_envs=number,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **options,
    )


def masked_actions(masks: np.ndarray, envs: VectorEnv, rng: np.random.Generator) -> np.ndarray:
    """A possible action for every environment, drawn from the masks."""
    joint = isinstance(envs.single_action_space, gym.spaces.MultiDiscrete)
    split = [int(envs.single_action_space.nvec[0])] if joint else []
    picks = [
        [int(rng.choice(np.flatnonzero(part))) for part in np.split(mask, split)] for mask in masks
    ]
    return np.array(picks) if joint else np.array(picks)[:, 0]


def assert_same(one: Any, other: Any) -> None:
    """Results of a step or a reset are equal in values, types and dtypes."""
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert data_equivalence(left, right, exact=True), (left, right)


def assert_same_runs(one: VectorEnv, other: VectorEnv, steps: int, **reset: Any) -> int:
    """Both give the same at every step; returns how many episodes ended."""
    rng = np.random.default_rng(4)
    left, right = one.reset(**reset), other.reset(**reset)
    assert_same(left, right)
    ends = 0
    for _ in range(steps):
        actions = masked_actions(left[-1]["action_mask"], one, rng)
        left, right = one.step(actions), other.step(actions)
        assert_same(left, right)
        ends += int((left[2] | left[3]).sum())
    return ends


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", MODES)
def test_the_same_as_gymnasiums_vector_of_single_environments(env_id: str, mode: str) -> None:
    options: dict[str, Any] = {"scenario": short(), "max_instances": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = native(env_id, mode, **options)
    ends = assert_same_runs(one, sync(env_id, mode, **options), 150, seed=7)
    assert ends > 2 * N


@pytest.mark.parametrize("preset", ["default", "cxl-shared", "heterogeneous"])
def test_the_same_on_presets(preset: str) -> None:
    assert_same_runs(native(JOINT, scenario=preset), sync(JOINT, scenario=preset), 200, seed=1)


@pytest.mark.parametrize("reset", [{}, {"seed": [5, None, 6]}, {"options": {"workload_seed": 9}}])
def test_seeds_and_options_of_reset(reset: dict[str, Any]) -> None:
    one, other = native(JOINT, scenario=short()), sync(JOINT, scenario=short())
    for envs in (one, other):  # what is drawn without a seed follows from the seed before
        envs.reset(seed=3)
    assert assert_same_runs(one, other, 60, **reset) > N
    assert one.np_random_seed == other.np_random_seed
    drawn = [[generator.integers(1000) for generator in envs.np_random] for envs in (one, other)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options",
    [
        {"max_episode_steps": 7},
        {"reward": "slo"},
        {"reward": "slowdown"},
        {"scenario": short(horizon_s=2.5)},
        {"scenario": short(router={"signal_delay_s": 0.2})},
    ],
    ids=["limit", "slo", "slowdown", "horizon", "late signals"],
)
def test_the_same_with_options(mode: str, options: dict[str, Any]) -> None:
    options = {"scenario": short(), **options}
    one, other = native(JOINT, mode, **options), sync(JOINT, mode, **options)
    assert assert_same_runs(one, other, 90, seed=0) > N


@pytest.mark.parametrize("env_id", [ROUTING, OFFLOAD])
def test_baselines_by_name(env_id: str) -> None:
    options: dict[str, Any] = {"scenario": short(), "baseline": "round_robin+dram"}
    assert_same_runs(native(env_id, **options), sync(env_id, **options), 40, seed=0)
    with pytest.raises(ValueError, match="unknown policy part"):
        native(env_id, baseline="afinity")


def test_disabled_autoreset_resets_whom_the_mask_names() -> None:
    one, other = (
        native(JOINT, "Disabled", scenario=short()),
        sync(JOINT, "Disabled", scenario=short()),
    )
    rng = np.random.default_rng(0)
    left, right = one.reset(seed=0), other.reset(seed=0)
    resets = 0
    masks = left[1]["action_mask"]
    for _ in range(120):
        actions = masked_actions(masks, one, rng)
        left, right = one.step(actions), other.step(actions)
        assert_same(left, right)
        masks = left[-1]["action_mask"]
        ended = left[2] | left[3]
        if ended.any():
            with pytest.raises(RuntimeError, match="are over; call reset"):
                one.step(actions)
            again = one.reset(options={"reset_mask": ended})
            assert_same(again, other.reset(options={"reset_mask": ended.copy()}))
            assert np.array_equal(again[0][~ended], left[0][~ended])
            masks = one.unwrapped.batch.masks()
            resets += 1
    assert resets > 2


@pytest.mark.parametrize("mode", MODES)
def test_infos_have_the_same_structure_at_every_step(mode: str) -> None:
    envs = native(ROUTING, mode, scenario=short())
    _, infos = envs.reset(seed=0)
    shape = structure(infos)
    assert infos["metrics"].shape == (N, len(metric_names()))
    jct_s = metric_names().index("mean_jct_s/all")
    ends = 0
    for _ in range(90):
        actions = masked_actions(infos["action_mask"], envs, np.random.default_rng(1))
        _, _, terminations, _, infos = envs.step(actions)
        old = infos["final_info"]["metrics"] if "final_info" in infos else infos["metrics"]
        assert np.isfinite(old[terminations, jct_s]).all()
        if mode == "NextStep":
            assert np.isinf(infos["metrics"][~terminations]).all()
        assert shape.items() <= structure(infos).items()
        ends += terminations.sum()
    assert ends > N


def test_data_parallel_engines_are_instances() -> None:
    cluster = short().cluster.model_dump(mode="json")
    cluster["nodes"][0]["instances"][0]["data_parallel"] = 2
    options: dict[str, Any] = {"scenario": short(cluster=cluster)}
    for env_id in IDS:
        assert assert_same_runs(native(env_id, **options), sync(env_id, **options), 60, seed=2) > N


def test_masks_and_spaces() -> None:
    for env_id in IDS:
        envs = native(env_id, scenario=short())
        assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        observations, infos = envs.reset(seed=0)
        assert observations.dtype == np.float32
        assert observations in envs.observation_space
        assert infos["action_mask"].dtype == np.int8
        masks = envs.unwrapped.action_masks()
        assert masks.dtype == np.bool_
        assert np.array_equal(masks, infos["action_mask"])
        kept = observations.copy()
        envs.action_space.seed(0)
        later, *_ = envs.step(envs.action_space.sample())
        assert not np.shares_memory(observations, later)
        assert np.array_equal(observations, kept)


def test_make_vec_prefers_it_and_gymnasiums_wrappers_take_it() -> None:
    envs = gym.make_vec(JOINT, num_envs=2, scenario="toy")
    assert isinstance(envs.unwrapped, AgentServeVectorEnv)
    again = gym.make_vec(envs.unwrapped.spec)
    assert again.unwrapped.num_envs == 2
    assert again.unwrapped.batch.envs[0].scenario.name == "toy"
    counted = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    counted.reset(seed=0)
    counted.action_space.seed(0)
    episodes = 0
    for _ in range(60):
        *_, infos = counted.step(counted.action_space.sample())
        if "episode" in infos:
            episodes += 1
            ended = infos["_episode"]
            assert np.array_equal(infos["episode"]["l"][ended], infos["steps"][ended])
    assert episodes > 1
    counted.close()


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda envs: pickle.loads(pickle.dumps(envs))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("mode", [*MODES, "Disabled"])
def test_copies_go_on_independently(mode: str, clone: Any) -> None:
    envs = native(JOINT, mode, scenario=short())
    rng = np.random.default_rng(1)
    masks = envs.reset(seed=2)[1]["action_mask"]
    for _ in range(11):
        masks = envs.step(masked_actions(masks, envs, rng))[-1]["action_mask"]
    twin = clone(envs)
    if mode == "Disabled":  # those not reset are observed from what was packed before the copy
        mask = np.array([True, False, False])
        assert_same(
            envs.reset(seed=1, options={"reset_mask": mask}),
            twin.reset(seed=1, options={"reset_mask": mask}),
        )
        return
    for _ in range(40):
        actions = masked_actions(masks, envs, rng)
        left = envs.step(actions)
        assert_same(left, twin.step(actions))
        masks = left[-1]["action_mask"]


class CountingReward:
    """Pays one for the first step of an episode: it has a state."""

    def begin(self, simulation: Any) -> None:
        self.paid = 0.0

    def collect(self, simulation: Any) -> float:
        reward, self.paid = 1.0 - self.paid, 1.0
        return reward


def test_each_environment_has_a_reward_object_of_its_own() -> None:
    envs = native(JOINT, scenario=short(), reward=CountingReward())
    envs.reset(seed=0)
    envs.action_space.seed(0)
    first, second = (envs.step(envs.action_space.sample())[1].tolist() for _ in range(2))
    assert (first, second) == ([1.0] * N, [0.0] * N)


def test_rendering_and_calls() -> None:
    envs = native(JOINT, scenario=short(), render_mode="ansi")
    envs.reset(seed=0)
    texts = envs.render()
    alone = gym.make(JOINT, scenario=short(), render_mode="ansi")
    alone.reset(seed=0)
    assert len(texts) == N
    assert texts[0] == alone.render()
    assert envs.unwrapped.get_attr("num_instances") == (2,) * N
    masks = envs.unwrapped.call("action_masks")
    assert np.array_equal(masks[0], base(alone).action_masks())


@pytest.mark.parametrize(
    ("env_id", "actions"),
    [
        (JOINT, [[0, 0]]),
        (JOINT, np.zeros((N, 3), np.int64)),
        (JOINT, np.zeros(N, np.int64)),
        (JOINT, np.zeros((N, 2))),
        (ROUTING, np.zeros((N, 1), np.int64)),
        (ROUTING, [0] * (N + 1)),
        (OFFLOAD, [None] * N),
        (OFFLOAD, [True, 1, 0]),
        (OFFLOAD, np.ones(N, np.bool_)),
        (OFFLOAD, [0, -1, 0]),
        (OFFLOAD, [0, 8, 0]),
        (ROUTING, np.array([0, 99, 0], np.uint8)),
        (ROUTING, np.zeros(N)),
        (ROUTING, None),
        (JOINT, [[0, 0], [0, 8], [0, 0]]),
        (JOINT, [[0, 0], [7, 0], [0, 0]]),
        (JOINT, [[0, 0], [0], [0, 0]]),
        (JOINT, [[0, 0], [0, True], [0, 0]]),
    ],
)
def test_wrong_actions_are_refused_before_anything_runs(env_id: str, actions: Any) -> None:
    envs = native(env_id, scenario=short())
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="allowed: integers"):
        envs.step(actions)
    assert [env.simulation.metrics.invalid_answers for env in envs.unwrapped.envs] == [0] * N
    assert envs.unwrapped.batch.lengths == [0] * N


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1]}, "seed lists 1 seeds; 3 are needed"),
        ({"options": {"reset_mask": np.zeros(N, np.bool_)}}, "reset_mask is"),
        ({"options": {"reset_mask": [1, 0, 0]}}, "reset_mask is"),
        ({"options": {"workload": 1}}, "unknown option 'workload'"),
        ({"options": 3}, "options is 3; allowed: None or a mapping"),
        ({"options": [1]}, "options is .1.; allowed: None or a mapping"),
        ({"seed": 1.5}, "seed is 1.5; allowed: None, a list of 3 or an integer of at least 0"),
        ({"seed": -1}, "seed is -1; allowed"),
        ({"seed": True}, "seed is True; allowed"),
        ({"seed": "3"}, "seed is '3'; allowed"),
        ({"seed": [0, 1, 2.5]}, r"seed\[2\] is 2.5; allowed: None or an integer of at least 0"),
        ({"seed": [0, True, 2]}, r"seed\[1\] is True; allowed"),
        ({"seed": [-4, 1, 2]}, r"seed\[0\] is -4; allowed"),
        ({"seed": [[0], [1], [2]]}, r"seed\[0\] is \[0\]; allowed"),
        ({"seed": np.zeros((N, 1), np.int64)}, r"seed\[0\] is array.*; allowed"),
    ],
)
def test_bad_arguments_of_reset(arguments: dict[str, Any], message: str) -> None:
    envs = native(JOINT, scenario="toy")
    with pytest.raises(ValueError, match=message):
        envs.reset(**arguments)
    with pytest.raises(RuntimeError, match="has not begun"):
        envs.step(np.zeros((N, 2), np.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": 0}, "num_envs is 0; allowed: an integer of at least 1"),
        ({"number": "2"}, "num_envs is '2'; allowed: an integer of at least 1"),
        ({"number": True}, "num_envs is True; allowed"),
        ({"number": 2.0}, "num_envs is 2.0; allowed"),
        ({"number": 10**9, "scenario": "toy"}, "num_envs is 1000000000; .* at most 10000"),
        ({"number": 101, "max_instances": 1000}, "num_envs is 101; .* at most 100"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0; allowed: None or an integer"),
        ({"max_episode_steps": 1.5}, "max_episode_steps is 1.5; allowed"),
        ({"max_episode_steps": True}, "max_episode_steps is True; allowed"),
        ({"mode": "Never"}, "autoreset_mode is 'Never'; allowed: NextStep, SameStep, Disabled"),
        ({"mode": 3}, "autoreset_mode is 3; allowed: NextStep, SameStep, Disabled"),
        ({"mode": None}, "autoreset_mode is None; allowed: NextStep, SameStep, Disabled"),
        ({"render_mode": "human"}, "render_mode is 'human'; allowed: None, ansi, rgb_array"),
        ({"reward": None}, "reward is None; allowed"),
        ({"scenario": None}, "scenario is None; allowed"),
        ({"max_instances": "4"}, "max_instances is '4'; allowed"),
        ({"scenario": "defualt"}, "did you mean 'default'"),
        ({"reward": "latency"}, "reward is 'latency'"),
        ({"max_instances": 3}, "max_instances is 3"),
    ],
)
def test_bad_arguments_of_the_constructor(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native(JOINT, **arguments)


def test_a_step_needs_a_reset() -> None:
    envs = native(JOINT, scenario="toy")
    with pytest.raises(RuntimeError, match="has not begun"):
        envs.step(np.zeros((N, 2), np.int64))
