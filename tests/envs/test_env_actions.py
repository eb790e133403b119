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

from agentserve_gym.envs.queue_classes import PriorityReader
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Hold,
    Place,
    PlacementDecision,
    PlacementKind,
    Route,
    RouteDecision,
    offload,
)


def test_spaces() -> None:
    joint = gym.make(JOINT, max_instances=6, tiers=["dram", "cxl"])
    assert joint.action_space == gym.spaces.MultiDiscrete([19, 10])
    assert gym.make(ROUTING).action_space == gym.spaces.Discrete(13)
    assert gym.make(OFFLOAD, scenario=crowded(pin_ttls_s=[1.0])).action_space.n == 7
    assert base(joint).placements.names == (
        "keep", "pin until return", "pin 2 s", "pin 20 s", "copy to dram", "copy to cxl",
        "move to dram", "move to cxl", "prefetch", "drop",
    )  # fmt: skip
    assert base(joint).routes.names[3:6] == (
        "instance 1, ahead",
        "instance 1, in order",
        "instance 1, behind",
    )
    assert base(joint).routes.names[-1] == "hold"


def test_without_lower_tiers_nothing_is_copied_moved_or_prefetched() -> None:
    content = crowded().cluster.model_dump(mode="json", exclude_none=True)
    del content["nodes"][0]["dram"]
    env = base(gym.make(OFFLOAD, scenario=crowded(cluster=content)))
    assert env.placements.names == ("keep", "pin until return", "pin 2 s", "pin 20 s", "drop")
    env.reset(seed=0)
    assert env.action_masks().all()


def test_instances_of_other_models_are_masked_and_change_no_space() -> None:
    env = gym.make(ROUTING, scenario="mixed-models")
    unwrapped = base(env)
    env.reset(seed=3)
    seen: set[tuple[int, ...]] = set()
    for step in play(env, random_chooser()):
        pending = unwrapped.pending
        if pending is None:
            break
        mask = tuple(step.info["action_mask"][:-1].reshape(-1, 3).min(1))
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
            assert routes.tolist() == [True] * 6 + [False] * 9 + [pending.may_hold]
            assert placements.tolist() == [True] + [False] * 9
        elif pending is not None:
            kinds.add(("placement", True))
            assert routes.tolist() == [False] * 15 + [True]
            possible = dict(zip(unwrapped.placements.names, placements.tolist(), strict=True))
            assert {name for name in possible if not possible[name]} == {
                "copy to cxl", "move to cxl", "prefetch",
            }  # fmt: skip
    assert kinds == {("route", True), ("route", False), ("placement", True)}


def test_actions_mean_what_they_say() -> None:
    env = base(gym.make(JOINT, scenario=crowded(), tiers=["dram", "cxl"]))
    assert [env.routes.answer(action) for action in range(7)] == [
        *(Route(0, priority) for priority in (-1.0, 0.0, 1.0)),
        *(Route(1, priority) for priority in (-1.0, 0.0, 1.0)),
        Hold(),
    ]
    assert env.placements.answers == (
        KEEP,
        Place(PlacementKind.PIN, ttl_s=120.0, until_admitted=True),
        Place(PlacementKind.PIN, ttl_s=2.0, until_admitted=True),
        Place(PlacementKind.PIN, ttl_s=20.0, until_admitted=True),
        offload("dram", stay_warm=True),
        offload("cxl", stay_warm=True),
        offload("dram"),
        offload("cxl"),
        Place(PlacementKind.PREFETCH),
        Place(PlacementKind.DROP),
    )


def placed(env: gym.Env[Any, Any]) -> PlacementDecision:
    """Step to the first placement of a new episode."""
    env.reset(seed=0)
    unwrapped = base(env)
    while isinstance(unwrapped.pending, RouteDecision):
        env.step([unwrapped.routes.to(0), 0])
    assert isinstance(unwrapped.pending, PlacementDecision)
    return unwrapped.pending


@pytest.mark.parametrize(
    ("ttl_s", "name"),
    [
        (0.1, "pin 2 s"),
        (2.0, "pin 2 s"),
        (6.0, "pin 2 s"),
        (7.0, "pin 20 s"),
        (40.0, "pin 20 s"),
        (60.0, "pin until return"),
        (120.0, "pin until return"),
        (float("inf"), "pin until return"),
    ],
)
def test_pins_take_the_nearest_time(ttl_s: float, name: str) -> None:
    env = gym.make(JOINT, scenario=crowded())
    actions, decision = base(env).placements, placed(env)
    for until_admitted in (False, True):
        pin = Place(PlacementKind.PIN, ttl_s=ttl_s, until_admitted=until_admitted)
        assert actions.names[actions.action(pin, decision)] == name


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (Place(PlacementKind.KEEP, rank=-5.0, ask_again_s=1.0), "keep"),
        (offload("dram", rank=3.0, ask_again_s=1.0), "move to dram"),
        (offload("dram", stay_warm=True), "copy to dram"),
        (offload("cxl"), "keep"),
        (Place(PlacementKind.PREFETCH, rank=1.0), "keep"),  # nothing can be brought back yet
        (Place(PlacementKind.DROP), "drop"),
        (Route(1), "keep"),
        (Hold(), "keep"),
    ],
)
def test_every_placement_has_an_action(place: Answer, name: str) -> None:
    env = gym.make(JOINT, scenario=crowded())
    actions, decision = base(env).placements, placed(env)
    assert actions.names[actions.action(place, decision)] == name


def test_routes_that_fit_no_action_are_held() -> None:
    routes, reader = base(gym.make(JOINT, scenario=crowded())).routes, PriorityReader()
    for answer in (Route(99), Route(-1), KEEP, Hold(3.0, 2)):
        assert routes.action(answer, reader) == routes.hold


WRONG = {
    JOINT: [
        [0], [0, 0, 0], 1, [0.5, 0], np.array([0.0, 0.0]), None, [-1, 0], [0, -1], [99, 0], [0, 8],
        [True, 0], np.array([True, False]), "00", {0: 0, 1: 0}, [[0], [0]], [None, 0],
    ],
    ROUTING: [[0, 1], 0.5, None, -1, 7, 99, True, np.True_, 1.0, np.float64(1), "1", [1]],
    OFFLOAD: [np.zeros(2, np.int64), "keep", -1, 8, np.array([True]), np.array(1.0), 2**70],
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
    # An instance that is padding, and CXL, which the scenario lacks.
    bad_route = base(env).routes.to(3)
    *_, bad = play(env, lambda _: [bad_route, base(env).placements.names.index("move to cxl")])
    env.reset(seed=0)

    def safe(env: gym.Env[Any, Any]) -> Any:
        pending = base(env).pending
        assert pending is not None
        views = pending.cluster.instances
        fewest = min(range(len(views)), key=lambda i: (views[i].sent_turns, i))
        home = pending.program.home
        return [base(env).routes.to(home if home >= 0 else fewest), 0]

    *_, good = play(env, safe)
    assert bad.info["metrics"]["jct_s/mean"] == good.info["metrics"]["jct_s/mean"]
    assert bad.info["invalid_actions"] == bad.info["steps"]
    assert good.info["invalid_actions"] == 0
