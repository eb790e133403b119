"""Actions, masks, and what becomes of impossible ones."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import (
    IDS,
    JOINT,
    OFFLOAD,
    ROUTING,
    base,
    crowded,
    is_route,
    play,
    random_chooser,
    split_mask,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from agentserve_gym.baselines import list_policies, parse_policy
from agentserve_gym.sim import (
    KEEP,
    Hold,
    Place,
    PlacementKind,
    Route,
    RouteDecision,
    Simulation,
    offload,
    run,
)


def test_spaces() -> None:
    joint = gym.make(JOINT, max_instances=6, tiers=["dram", "cxl"])
    assert joint.action_space == gym.spaces.MultiDiscrete([7, 6])
    assert gym.make(ROUTING).action_space == gym.spaces.Discrete(5)
    assert gym.make(OFFLOAD, scenario=crowded(pin_ttls_s=[1.0])).action_space.n == 4
    assert base(joint).placements.names == ("keep", "pin 2 s", "pin 20 s", "dram", "cxl", "drop")
    assert base(joint).routes.names[-1] == "hold"


def test_instances_of_other_models_are_masked_and_change_no_space() -> None:
    env = gym.make(ROUTING, scenario="mixed-models")
    unwrapped = base(env)
    env.reset(seed=3)
    seen: set[tuple[int, ...]] = set()
    for step in play(env, random_chooser()):
        pending = unwrapped.pending
        if pending is None:
            break
        mask = tuple(step.info["action_mask"][:-1])
        served = [view.model == pending.program.model for view in pending.cluster.instances]
        assert mask == tuple(map(int, served))
        seen.add(mask)
    assert seen == {(1, 0, 0, 1, 0, 0), (0, 1, 1, 0, 1, 1)}
    assert step.info["invalid_actions"] == 0
    assert unwrapped.observation_space == base(gym.make(ROUTING, max_instances=6)).observation_space


def test_a_route_to_another_model_falls_back_and_is_counted() -> None:
    env = gym.make(ROUTING, scenario="mixed-models")
    env.reset(seed=3)
    program = base(env).pending.program
    wrong = int(np.flatnonzero(base(env).action_masks() == 0)[0])
    info = env.step(wrong)[-1]
    assert info["invalid_actions"] == 1
    sent = [view.sent_turns for view in base(env).simulation.cluster.serving(program)]
    assert sum(sent) == 1


def test_joint_masks_follow_the_decision() -> None:
    env = gym.make(JOINT, scenario=crowded(), max_instances=5, tiers=["dram", "cxl"])
    env.reset(seed=0)
    unwrapped = base(env)
    assert isinstance(unwrapped.pending, RouteDecision)
    kinds = {("route", unwrapped.pending.may_hold)}  # nothing runs yet, so holding is not allowed
    for _ in play(env, random_chooser(3)):
        pending = unwrapped.pending
        routes, placements = split_mask(unwrapped, unwrapped.action_masks())
        if isinstance(pending, RouteDecision):
            kinds.add(("route", pending.may_hold))
            assert routes.tolist() == [True, True, False, False, False, pending.may_hold]
            assert placements.tolist() == [True] + [False] * 5
        elif pending is not None:
            kinds.add(("placement", True))
            assert routes.tolist() == [False] * 5 + [True]
            assert placements.tolist() == [True, True, True, True, False, True]
    assert kinds == {("route", True), ("route", False), ("placement", True)}


def test_actions_mean_what_they_say() -> None:
    env = base(gym.make(JOINT, scenario=crowded(), tiers=["dram", "cxl"]))
    assert [env.routes.answer(action) for action in range(3)] == [Route(0), Route(1), Hold()]
    assert [env.placements.answer(action) for action in range(6)] == [
        KEEP,
        Place(PlacementKind.PIN, ttl_s=2.0),
        Place(PlacementKind.PIN, ttl_s=20.0),
        offload("dram"),
        offload("cxl"),
        Place(PlacementKind.DROP),
    ]


@pytest.mark.parametrize("ttl_s", [0.1, 6.0, 7.0, 1e4, float("inf")])
def test_pins_take_the_nearest_ttl(ttl_s: float) -> None:
    actions = base(gym.make(JOINT, scenario=crowded())).placements
    wanted = 1 if ttl_s < (2.0 * 20.0) ** 0.5 else 2
    assert actions.action(Place(PlacementKind.PIN, ttl_s=ttl_s)) == wanted


@pytest.mark.parametrize("policy", ["affinity+lru", "round_robin+dram"])
def test_encoding_a_heuristic_reproduces_its_run(policy: str) -> None:
    scenario = crowded()
    simulation = Simulation(scenario, 0)
    heuristic = parse_policy(policy)
    heuristic.bind(simulation)
    expected = run(simulation, heuristic)

    env = gym.make(JOINT, scenario=scenario)
    env.reset(seed=0)
    fresh = parse_policy(policy)
    fresh.bind(base(env).simulation)
    *_, last = play(env, lambda env: base(env).encode(fresh.decide(base(env).pending)))
    assert last.info["metrics"]["jct_s/mean"] == expected["jct_s"]["mean"]


@pytest.mark.parametrize("env_id", IDS[1:])
def test_encoding_in_single_decision_environments(env_id: str) -> None:
    env = gym.make(env_id, scenario=crowded(), baseline="round_robin+dram")
    env.reset(seed=0)
    policy = parse_policy("round_robin+dram")
    policy.bind(base(env).simulation)
    *_, last = play(env, lambda env: base(env).encode(policy.decide(base(env).pending)))

    simulation = Simulation(crowded(), 0)
    whole = parse_policy("round_robin+dram")
    whole.bind(simulation)
    assert last.info["metrics"]["jct_s/mean"] == run(simulation, whole)["jct_s"]["mean"]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("name", [policy.name for policy in list_policies()])
def test_every_answer_of_every_policy_has_an_action(name: str, env_id: str) -> None:
    env = gym.make(env_id, scenario=crowded())
    env.reset(seed=0)
    policy = parse_policy(name)
    policy.bind(base(env).simulation)

    def choose(env: gym.Env[Any, Any]) -> Any:
        action = base(env).encode(policy.decide(base(env).pending))
        assert action in env.action_space
        return action

    *_, last = play(env, choose)
    assert last.terminated
    assert last.info["invalid_actions"] == 0


@pytest.mark.parametrize("kind", list(PlacementKind))
def test_every_placement_has_an_action(kind: PlacementKind) -> None:
    actions = base(gym.make(JOINT, scenario=crowded())).placements
    answer = Place(kind, ttl_s=2.0, rank=3.0, ask_again_s=1.0, stay_warm=True, tier="dram")
    action = actions.action(answer)
    expected = PlacementKind.KEEP if kind is PlacementKind.PREFETCH else kind
    assert actions.answer(action).kind is expected


def test_answers_that_fit_no_action_have_one_nevertheless() -> None:
    env = base(gym.make(JOINT, scenario=crowded()))
    assert env.routes.action(Route(99)) == env.routes.action(Route(-1)) == env.routes.hold
    assert env.routes.action(KEEP) == env.routes.action(Hold(3.0, 2)) == env.routes.hold
    assert env.placements.action(Route(1)) == env.placements.action(Hold()) == 0
    none = base(gym.make(JOINT, scenario=crowded(pin_ttls_s=[])))
    assert none.placements.action(Place(PlacementKind.PIN, ttl_s=5.0)) == 0


WRONG = {
    JOINT: [
        [0], [0, 0, 0], 1, [0.5, 0], np.array([0.0, 0.0]), None, [-1, 0], [0, -1], [99, 0], [0, 5],
        [True, 0], np.array([True, False]), "00", {0: 0, 1: 0}, [[0], [0]], [None, 0],
    ],
    ROUTING: [[0, 1], 0.5, None, -1, 3, 99, True, np.True_, 1.0, np.float64(1), "1", [1]],
    OFFLOAD: [np.zeros(2, np.int64), "keep", -1, 5, np.array([True]), np.array(1.0), 2**70],
}  # fmt: skip


@pytest.mark.parametrize(
    ("env_id", "action"), [(env_id, action) for env_id in IDS for action in WRONG[env_id]]
)
def test_actions_outside_the_action_space_raise_and_nothing_runs(env_id: str, action: Any) -> None:
    env = base(gym.make(env_id, scenario=crowded()))
    env.reset(seed=0)
    pending = env.pending
    with pytest.raises(ValueError, match=r"^action is .*; allowed: .* from 0 to"):
        env.step(action)
    assert env.pending is pending
    assert env.simulation.metrics.invalid_answers == 0
    *_, info = env.step(env.action_space.sample())
    assert info["steps"] == 1


@pytest.mark.parametrize("action", [1, np.int64(1), np.array(1), np.array([1])])
def test_integers_of_any_kind_are_actions(action: Any) -> None:
    env = base(gym.make(ROUTING, scenario=crowded()))
    env.reset(seed=0)
    env.step(action)
    assert env.simulation.metrics.invalid_answers == 0


@pytest.mark.parametrize("env_id", IDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_masked_out_actions_fall_back_and_are_counted(env_id: str, seed: int) -> None:
    env = gym.make(env_id, scenario=crowded(), max_instances=4)
    env.reset(seed=0)
    unwrapped = base(env)
    generator = np.random.default_rng(seed)
    invalid = 0

    def choose(_: Any) -> Any:
        nonlocal invalid
        parts = split_mask(unwrapped, unwrapped.action_masks())
        picks = [int(generator.integers(part.size)) for part in parts]
        asked = int(len(parts) == 2 and not is_route(env))
        invalid += not parts[asked][picks[asked]]
        return np.array(picks) if len(parts) == 2 else picks[0]

    *_, last = play(env, choose)
    assert last.terminated
    assert last.info["invalid_actions"] == invalid


def test_a_masked_out_route_goes_home_and_a_masked_out_placement_keeps() -> None:
    env = gym.make(JOINT, scenario=crowded(), max_instances=4, tiers=["dram", "cxl"])
    env.reset(seed=0)
    # Two instances that are padding, and CXL, which the scenario lacks.
    *_, bad = play(env, lambda _: [3, 4])
    env.reset(seed=0)

    def safe(env: gym.Env[Any, Any]) -> Any:
        pending = base(env).pending
        assert pending is not None
        views = pending.cluster.instances
        fewest = min(range(len(views)), key=lambda i: (views[i].sent_turns, i))
        home = pending.program.home
        return [home if home >= 0 else fewest, 0]

    *_, good = play(env, safe)
    assert bad.info["metrics"]["jct_s/mean"] == good.info["metrics"]["jct_s/mean"]
    assert bad.info["invalid_actions"] == bad.info["steps"]
    assert good.info["invalid_actions"] == 0
