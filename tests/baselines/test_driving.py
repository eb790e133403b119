"""Driving a policy: answers that cannot be carried out are counted, and told where none can be."""

from __future__ import annotations

import pytest

from agentserve_gym.baselines import NamedPolicy, parse_policy, run_policy
from agentserve_gym.baselines.custom import WholePolicy
from agentserve_gym.sim import (
    KEEP,
    Decision,
    Hold,
    Place,
    PlacementKind,
    Route,
    RouteDecision,
    Simulation,
    answers,
    load_scenario,
    run,
)

SCENARIO = load_scenario("toy")


class Says:
    """Gives one answer to every decision, or to every placement only."""

    def __init__(self, answer: object, placements_only: bool = False) -> None:
        self.answer = answer
        self.placements_only = placements_only

    def decide(self, decision: Decision) -> object:
        if self.placements_only and isinstance(decision, RouteDecision):
            return Route(0)
        return self.answer


def says(answer: object, **settings: bool) -> NamedPolicy:
    return WholePolicy("mine:Says", lambda: Says(answer, **settings), {})


NO_ANSWERS = [99, "gpu7", None, (0,), Route]
IMPOSSIBLE = [
    Route(99), Route("gpu7"), Route(0, None), Route(0, promote_after_s="soon"), Hold("late"),
    Place("dram"), Place(PlacementKind.PIN, "long"), Place(PlacementKind.KEEP, rank=None),
]  # fmt: skip


@pytest.mark.parametrize("answer", [*NO_ANSWERS, *IMPOSSIBLE], ids=repr)
def test_figures_of_the_fallback_alone_are_refused(answer):
    with pytest.raises(
        ValueError, match=r"policy 'mine:Says': all \d+ answers are invalid"
    ) as told:
        run_policy(Simulation(SCENARIO, 0), says(answer))
    assert repr(answer) in str(told.value)
    assert ("no Route, Hold or Place" in str(told.value)) == (answer in NO_ANSWERS)


@pytest.mark.parametrize("answer", [*NO_ANSWERS, *IMPOSSIBLE], ids=repr)
def test_some_invalid_answers_are_counted_and_the_first_is_kept(answer):
    report = run_policy(Simulation(SCENARIO, 0), says(answer, placements_only=True))
    valid = run_policy(Simulation(SCENARIO, 0), says(KEEP, placements_only=True))
    assert 0 < report["invalid_answers"] < report["answers"] == valid["answers"]
    assert repr(answer) in report["first_invalid"]
    assert "PlacementDecision" in report["first_invalid"]
    assert report["jct_s"] == valid["jct_s"], "the fallback of a placement is to keep"


def test_a_bare_policy_that_says_nothing_is_counted_too():
    report = run(Simulation(SCENARIO, 0), Says(None))
    assert report["invalid_answers"] > 0
    assert report["jct_s"] == run(Simulation(SCENARIO, 0), Says(99))["jct_s"]


def test_answers_can_be_looked_at_one_by_one_and_taken_up_again():
    whole = run(Simulation(SCENARIO, 0), Says(KEEP, placements_only=True))
    simulation = Simulation(SCENARIO, 0)
    given = answers(simulation, Says(KEEP, placements_only=True))
    assert isinstance(next(given), Route)
    assert simulation.pending is not None
    assert set(map(type, given)) == {Route, Place}
    assert simulation.done
    assert simulation.report() == whole


def test_a_policy_without_fault_has_none():
    report = run_policy(Simulation(SCENARIO, 0), parse_policy("lru"))
    assert (report["invalid_answers"], report["first_invalid"]) == (0, None)
    assert report["answers"] > 0
