"""Scores that policies tell are those by which they decide."""

from __future__ import annotations

import pytest

from agentserve_gym.baselines import ScoreKeeper, Scores, parse_policy, run_policy
from agentserve_gym.sim import (
    Place,
    PlacementDecision,
    PlacementKind,
    Route,
    Simulation,
    answers,
    load_scenario,
)


class Whimsical:
    """A user's policy that explains itself."""

    def __init__(self) -> None:
        self._policy = parse_policy("lru")

    def decide(self, decision):
        return self._policy.decide(decision)

    def explain(self, decision):
        return Scores({"whim": 1.0}, False)


@pytest.mark.parametrize("policy", ["learned", "lmetric+gate", "greedy+write_through", "lru"])
def test_asking_for_scores_changes_nothing(policy: str) -> None:
    scenario = load_scenario("cxl-shared")
    plain, asked = Simulation(scenario, 1), Simulation(scenario, 1)
    expected = run_policy(plain, parse_policy(policy))
    keeper = ScoreKeeper(parse_policy(policy))
    count = sum(1 for _ in answers(asked, keeper))
    assert count == expected["answers"] == len(keeper.routes) + len(keeper.placements)
    report = asked.report()
    assert {name: expected[name] for name in report} == report


@pytest.mark.parametrize("policy", ["learned", "lmetric", "greedy"])
def test_turns_go_where_the_price_is_least(policy: str) -> None:
    simulation = Simulation(load_scenario("mixed-models"), 0)
    keeper = ScoreKeeper(parse_policy(policy))
    sent = 0
    decision = simulation.advance()
    while decision is not None:
        serving = [] if isinstance(decision, PlacementDecision) else decision.instances
        answer = keeper.decide(decision)
        if isinstance(answer, Route):
            scores = keeper.routes[-1]
            assert scores is not None
            assert scores.least_wins
            assert list(scores.of) == [f"instance {view.index}" for view in serving]
            assert scores.of[f"instance {answer.instance}"] == min(scores.of.values())
            sent += 1
        decision = simulation.advance(answer)
    assert sent == simulation.report()["turns"]


def test_kv_waits_where_its_value_is_highest() -> None:
    keeper = ScoreKeeper(parse_policy("learned"))
    given = list(answers(Simulation(load_scenario("cxl-shared"), 0), keeper))
    places = [each for each in given if isinstance(each, Place)]
    kinds = {"keep": PlacementKind.KEEP, "pin": PlacementKind.PIN}
    assert len(places) == len(keeper.placements)
    for place, scores in zip(places, keeper.placements, strict=True):
        assert scores is not None
        assert not scores.least_wins
        best = max(scores.of, key=lambda name: scores.of[name])
        assert place.kind is kinds.get(best, PlacementKind.OFFLOAD)


def test_rules_without_scores_have_none_and_users_may_have_some() -> None:
    simulation = Simulation(load_scenario("toy"), 0)
    decision = simulation.advance()
    assert decision is not None
    for policy, expected in (
        ("lru", None),
        (f"{__name__}:Whimsical", Scores({"whim": 1.0}, False)),
    ):
        keeper = ScoreKeeper(parse_policy(policy))
        keeper.decide(decision)
        assert keeper.routes == [expected]
