"""Policies that look ahead: what they may know, what they answer, how they are named."""

from __future__ import annotations

import copy
import pickle
import re
from random import Random
from typing import Any

import pytest
from baseline_helpers import pressured, run_named

from agentserve_gym.baselines import list_policies, parse_policy
from agentserve_gym.baselines.lookahead.options import LEVERS, Option, options
from agentserve_gym.baselines.lookahead.outlook import Outlook, Rates, observed_rates
from agentserve_gym.baselines.lookahead.policy import Clairvoyant, Lookahead, Planner
from agentserve_gym.sim import (
    Decision,
    Hold,
    PlacementDecision,
    PlacementKind,
    Route,
    RouteDecision,
    Simulation,
)
from agentserve_gym.sim.futures import Futures, copied
from agentserve_gym.sim.kernel.answers import Place

BASE = "least_loaded+ttl(seconds=5.0)"
EAGER = f"lookahead(base={BASE},share=1.0,samples=2,horizon_s=5.0,caution=0.0,pressure=0.0)"


def planner(text: str) -> Planner:
    policy = parse_policy(text)
    assert isinstance(policy, Planner)
    return policy


def at_decision(number: int, kind: type = RouteDecision) -> tuple[Simulation, Decision]:
    """A pressed simulation at a decision of a kind, under the base."""
    simulation = Simulation(pressured(12), 0)
    base = parse_policy(BASE)
    decision = simulation.advance()
    for _ in range(number):
        assert decision is not None
        decision = simulation.advance(base.decide(decision))
    while not isinstance(decision, kind):
        assert decision is not None
        decision = simulation.advance(base.decide(decision))
    return simulation, decision  # type: ignore[return-value]


def other_truth(simulation: Simulation) -> Simulation:
    """A simulation with the same past whose hidden future is another."""
    found = Futures(simulation).sample(Random(12345), 1000.0, None)
    assert found is not None
    return found[0]


def decisions_of(text: str, simulation: Simulation, most: int) -> list[Any]:
    """What a policy answers at the first decision, asked anew in several ways of drawing."""
    given = []
    assert simulation.pending is not None
    for seed in range(most):
        policy = planner(text.replace("lookahead(", f"lookahead(seed={seed},"))
        policy.bind(simulation)
        given.append((policy.decide(simulation.pending), policy.counters()))
    return given


@pytest.mark.parametrize("kind", [RouteDecision, PlacementDecision])
@pytest.mark.parametrize("number", [95, 110])
def test_its_answers_do_not_depend_on_the_hidden_future(number: int, kind: type) -> None:
    truth, _ = at_decision(number, kind)
    other = other_truth(truth)
    plans = [
        [world.orchestrator.plan_of(program) for program in world.orchestrator.live.values()]
        for world in (truth, other)
    ]
    assert plans[0] != plans[1]
    answers = [decisions_of(EAGER, world, 6) for world in (truth, other)]
    assert answers[0] == answers[1]
    assert sum(counters["lookahead.simulated"] for _, counters in answers[0]) > 6


def test_it_takes_other_answers_and_every_program_finishes() -> None:
    report = run_named(EAGER.replace("share=1.0", "share=0.3"), pressured(8))
    assert report["unfinished_programs"] == 0
    assert report["invalid_answers"] == 0
    counters = report["counters"]
    assert counters["lookahead.considered"] > counters["lookahead.deviated"] > 0
    assert counters["lookahead.simulated"] >= 2 * counters["lookahead.considered"]


def test_it_is_deterministic_and_starts_anew() -> None:
    policy = planner(EAGER.replace("share=1.0", "share=0.2"))
    reports = []
    for _ in range(2):
        simulation = Simulation(pressured(6), 1)
        policy.reset()
        policy.bind(simulation)
        decision = simulation.advance()
        while decision is not None:
            decision = simulation.advance(policy.decide(decision))
        reports.append((simulation.report(), policy.counters()))
    assert reports[0] == reports[1]


def test_without_a_share_it_is_its_base() -> None:
    plain, looking = (
        run_named(name, pressured(8)) for name in (BASE, f"lookahead(base={BASE},share=0.0)")
    )
    assert plain["jct_s"] == looking["jct_s"]


@pytest.mark.parametrize("placebo", ["false", "true"])
def test_the_best_in_the_true_future_is_not_worse_there(placebo: str) -> None:
    """To the end of the run, the option taken is the best of those tried, the base's included."""
    truth, decision = at_decision(40)
    policy = planner(f"clairvoyant(base={BASE},share=1.0,placebo={placebo})")
    assert isinstance(policy, Clairvoyant)
    assert policy.is_oracle
    policy.bind(truth)
    world, base = copied(truth, policy.base)
    pending = world.pending
    assert pending is not None
    to_the_end = Outlook(Rates(0.0, 0.0, 0.0), world.now_s, None)
    own_s = to_the_end.cost_s(world, base, base.decide(pending))
    answer = policy.decide(decision)
    assert policy.counters()["clairvoyant.considered"] == 1
    world, base = copied(truth, policy.base)
    best_s = to_the_end.cost_s(world, base, answer)
    assert best_s <= own_s + 1e-9


def test_options_move_one_lever() -> None:
    _, decision = at_decision(60)
    assert isinstance(decision, RouteDecision)
    own = Route(0)
    found = {lever: options(decision, own, lever, 8) for lever in LEVERS}
    assert all(options_[0] == Option(own) for options_ in found.values())
    routes = [option.answer for option in found["routing"][1:]]
    assert {answer.instance for answer in routes if isinstance(answer, Route)} == {
        view.index for view in decision.instances[1:]
    }
    assert [option.answer for option in found["admission"][1:]] == [Hold()] * decision.may_hold
    assert all(
        isinstance(option.answer, Route) and option.answer.instance == 0
        for option in found["order"]
    )
    assert len(found["placement"]) == 1
    assert len(options(decision, own, "all", 1)) == 2


def test_options_of_a_gap_are_places() -> None:
    _, decision = at_decision(60, PlacementDecision)
    found = options(decision, Place(PlacementKind.PIN, ttl_s=5.0), "placement", 8)
    kinds = [option.answer.kind for option in found if isinstance(option.answer, Place)]
    assert kinds[:3] == [PlacementKind.PIN, PlacementKind.KEEP, PlacementKind.KEEP]
    assert len(options(decision, Place(PlacementKind.KEEP), "routing", 8)) == 1


def test_rates_are_what_programs_saw() -> None:
    simulation, decision = at_decision(80)
    rates = observed_rates(decision.cluster)
    assert 0.0 < rates.token_s < 1.0
    assert rates.wait_s > 0.0
    sent = sum(view.sent_turns for view in decision.cluster.instances)
    assert rates.beside == sent / len(decision.cluster.instances)
    assert simulation.now_s == decision.time_s


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lookahead(samples=1)", "lookahead: samples is 1; allowed: an integer from 2 to 1000"),
        ("lookahead(horizon_s=-3)", "lookahead: horizon_s is -3.0; allowed: a number of at least"),
        ("lookahead(lever=luck)", "lookahead: lever is 'luck'; allowed: all, routing"),
        ("lookahead(sample=3)", "lookahead: unknown parameter 'sample'"),
        ("lookahead(base=nosuch)", "unknown policy part 'nosuch'"),
        ("lookahead(base=belady)", "lookahead: base is 'affinity+belady', an oracle; allowed"),
        ("clairvoyant(base=lookahead(base=lru))", "a look-ahead; allowed"),
        ("clairvoyant(placebo=2)", "clairvoyant: placebo is 2; allowed: true, false"),
        ("lookahead+lru", "lookahead is a whole policy and combines with no part"),
    ],
)
def test_what_cannot_be_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_policy(text)


@pytest.mark.parametrize(
    "text",
    [
        "lookahead(base=dynamo(overlap=2.0,prefill_load=4.0)+write_through,samples=8)",
        "lookahead(base=affinity+lru)",
        "clairvoyant(base=affinity+lru,lever=order,placebo=true)",
    ],
)
def test_names_are_read_back(text: str) -> None:
    policy = planner(text)
    assert policy.name == text
    assert parse_policy(policy.name).name == text
    assert policy.is_oracle == text.startswith("clairvoyant")


def test_it_must_be_bound_and_copies_anew() -> None:
    simulation, decision = at_decision(30)
    for text in (EAGER, f"clairvoyant(base={BASE},share=1.0)"):
        policy = planner(text)
        policy.bind(simulation)
        for twin in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy)), planner(text)):
            with pytest.raises(RuntimeError, match="bind"):
                twin.decide(decision)
        policy.decide(decision)


def test_they_are_listed_with_their_parameters() -> None:
    listed = {info.name: info for info in list_policies() if info.family == "look-ahead"}
    assert listed["lookahead"].parameters["samples"] == 4
    assert not listed["lookahead"].is_oracle
    assert listed["clairvoyant"].is_oracle
    assert isinstance(parse_policy("lookahead"), Lookahead)
