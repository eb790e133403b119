"""Prefetch, and the placements that come up once more for it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import JOINT, OFFLOAD, ROUTING, base, play, thrashing

from agentserve_gym.envs import AgentServeBase
from agentserve_gym.envs.expected_return import FEWEST_CALLS, ask_again_s, expected_gap_s
from agentserve_gym.sim import PlacementDecision, RouteDecision


def naming(placement: str, again: str = "keep") -> Any:
    """Routes home, or in rotation, and places as named, first and when asked again."""

    def choose(env: gym.Env[Any, Any]) -> Any:
        unwrapped = base(env)
        decision, names = unwrapped.pending, unwrapped.placements.names
        if isinstance(decision, RouteDecision):
            home = decision.program.home
            return [unwrapped.routes.to(home if home >= 0 else decision.program.index % 2), 0]
        asked_again = decision is not None and decision.elapsed_s > 0.0
        action = names.index(again if asked_again else placement)
        return action if isinstance(env.action_space, gym.spaces.Discrete) else [0, action]

    return choose


def with_hbm(kv_blocks: int) -> dict[str, Any]:
    """The thrashing cluster with other pools."""
    cluster: dict[str, Any] = thrashing().cluster.model_dump(mode="json", exclude_none=True)
    cluster["nodes"][0]["instances"][0]["kv_blocks"] = kv_blocks
    return cluster


def pending_again(env: AgentServeBase) -> PlacementDecision | None:
    decision = env.pending
    if isinstance(decision, PlacementDecision) and decision.elapsed_s > 0.0:
        return decision
    return None


@pytest.mark.parametrize("env_id", [JOINT, OFFLOAD])
@pytest.mark.parametrize("tier", ["dram", "nvme"])
def test_a_move_is_asked_about_once_more_shortly_before_the_return(env_id: str, tier: str) -> None:
    env = gym.make(env_id, scenario=thrashing())
    unwrapped = base(env)
    env.reset(seed=0)
    gaps: list[tuple[int, int]] = []
    flag = unwrapped.observation_layout["decision.asked_again"]
    since = unwrapped.observation_layout["decision.since_gap_began_s"]
    prefetch = unwrapped.placements.names.index("prefetch") - unwrapped.placements.size
    for step in play(env, naming(f"move to {tier}")):
        decision = pending_again(unwrapped)
        assert step.observation[flag] == float(decision is not None)
        assert (step.observation[since] > 0.0) == (decision is not None)
        assert step.info["action_mask"][prefetch] == (decision is not None)
        if decision is not None:
            gaps.append((decision.program.index, decision.program.gaps))
            assert 1.0 < decision.elapsed_s < 2.5
            tokens = [
                decision.cluster.chain_tokens(decision.program, decision.instance, name)
                for name in (tier, "hbm")
            ]
            assert tokens[0] > tokens[1]
        assert step.info["asked_again"] == len(gaps)
    assert len(gaps) == len(set(gaps)) > 5
    assert step.info["invalid_actions"] == 0


def test_prefetched_contexts_are_there_when_the_program_returns() -> None:
    found = {}
    for again in ("keep", "prefetch"):
        env = gym.make(JOINT, scenario=thrashing(cluster=with_hbm(600)))
        env.reset(seed=0)
        *_, last = play(env, naming("move to dram", again))
        found[again] = last.info["metrics"]
        assert last.info["asked_again"] > 0
    assert found["keep"]["residency/prefetches"] == 0
    assert found["prefetch"]["residency/prefetches"] > 2
    assert found["prefetch"]["ttft_s/mean"] < found["keep"]["ttft_s/mean"]


@pytest.mark.parametrize("placement", ["keep", "pin until return", "pin 2 s", "drop"])
def test_what_stays_or_goes_for_good_is_not_asked_about_again(placement: str) -> None:
    env = gym.make(JOINT, scenario=thrashing())
    env.reset(seed=0)
    *_, last = play(env, naming(placement))
    assert last.info["asked_again"] == 0


def test_a_copy_that_is_still_in_hbm_is_not_asked_about_again() -> None:
    for blocks, roomy in ((420, False), (4000, True)):
        env = gym.make(JOINT, scenario=thrashing(cluster=with_hbm(blocks)))
        env.reset(seed=0)
        *_, last = play(env, naming("copy to dram"))
        assert (last.info["asked_again"] == 0) == roomy


def test_a_gap_is_expected_as_its_tools_have_shown() -> None:
    env = gym.make(JOINT, scenario=thrashing())
    unwrapped = base(env)
    env.reset(seed=0)
    known = 0
    for _ in play(env, naming("keep")):
        decision = unwrapped.pending
        if not isinstance(decision, PlacementDecision):
            continue
        kind = decision.cluster.tools.kind("shell")
        expected_s = expected_gap_s(decision)
        if kind is None or kind.count < FEWEST_CALLS:
            assert expected_s is None
            assert ask_again_s(decision, "dram") is None
            continue
        known += 1
        assert expected_s == pytest.approx(np.exp(kind.log_mean))
        again_s = ask_again_s(decision, "dram")
        load_s = decision.cluster.load_s(decision.instance, "dram", decision.program.context_tokens)
        assert again_s == pytest.approx(expected_s - load_s)
        assert ask_again_s(decision, "cxl") is None
    assert known > 10


def test_gaps_of_any_length_and_gaps_that_a_move_outlasts_are_not_foreseen() -> None:
    content = thrashing().workload.model_dump(mode="json")
    for program in content["programs"]:
        for number, turn in enumerate(program["turns"][:-1]):
            turn["tools"][0]["duration_s"] = (0.01, 9.0)[number % 2]
    for changes in (
        {"workload": content},
        {"tools": {"durations": {"shell": {"weights": [1.0], "mu": [-9.0], "sigma": [0.1]}}}},
    ):
        env = gym.make(JOINT, scenario=thrashing(**changes))
        env.reset(seed=0)
        *_, last = play(env, naming("move to dram"))
        assert last.info["asked_again"] == 0


def test_the_baseline_of_the_other_decision_asks_itself_again() -> None:
    env = gym.make(ROUTING, scenario=thrashing(), baseline="affinity+kvflow")
    env.reset(seed=0)
    *_, last = play(env, lambda env: base(env).routes.to(base(env).pending.program.index % 2))
    assert last.info["asked_again"] == 0
    assert last.info["metrics"]["residency/prefetches"] > 0


def test_a_prefetch_that_is_not_possible_keeps_and_is_counted() -> None:
    env = gym.make(JOINT, scenario=thrashing())
    env.reset(seed=0)
    *_, last = play(env, naming("prefetch"))
    placements = last.info["steps"] - last.info["metrics"]["turns"]
    assert last.info["invalid_actions"] == placements == 36
    env.reset(seed=0)
    *_, kept = play(env, naming("keep"))
    assert kept.info["metrics"]["jct_s/mean"] == last.info["metrics"]["jct_s/mean"]
