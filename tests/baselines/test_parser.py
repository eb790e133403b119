"""Names of policies: parts in any order, defaults, and errors that say what is allowed."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
from baseline_helpers import pressured

from agentserve_gym.baselines import (
    ComposedPolicy,
    Routing,
    list_policies,
    parse_policy,
    run_policy,
)
from agentserve_gym.baselines import parser as parser_module
from agentserve_gym.baselines.parts import Choice
from agentserve_gym.sim import KEEP, Route, RouteDecision, Simulation


def parts(name: str) -> list[str]:
    policy = parse_policy(name)
    assert isinstance(policy, ComposedPolicy)
    return [str(part) for part in policy.parts]


def test_left_out_parts_take_the_stock_defaults() -> None:
    assert parts("lru") == ["affinity", "lru", "none", "fcfs"]
    assert parts("sglang") == ["sglang", "lru", "none", "fcfs"]


def test_parts_come_in_any_order() -> None:
    expected = ["dynamo", "continuum", "gate", "plas"]
    assert parts("dynamo+continuum+gate+plas") == expected
    assert parts(" plas + gate+continuum +dynamo ") == expected


def test_a_residency_brings_its_own_order_unless_another_is_named() -> None:
    assert parts("continuum")[3] == "pinned_first"
    assert parts("continuum+fcfs")[3] == "fcfs"
    assert parts("fcfs+continuum")[3] == "fcfs"


def test_parameters_are_read_and_shown() -> None:
    policy = parse_policy("dynamo(overlap=0.5, temperature=1, seed=3)+ttl(seconds=5)")
    assert policy.name == "dynamo(overlap=0.5,temperature=1.0,seed=3)+ttl(seconds=5.0)"
    name = "affinity+lru+router_queue(order=shortest_context)"
    assert parse_policy("router_queue(order=shortest_context)").name == name


@pytest.mark.parametrize("info", list_policies(), ids=lambda info: info.name)
def test_names_read_back_to_the_same_policy(info) -> None:  # type: ignore[no-untyped-def]
    policy = parse_policy(info.name)
    again = parse_policy(policy.name)
    assert again.name == policy.name
    if isinstance(policy, ComposedPolicy):
        assert isinstance(again, ComposedPolicy)
        assert [str(p) for p in again.parts] == [str(p) for p in policy.parts]


def test_every_policy_is_listed_with_rule_source_and_counters() -> None:
    listed = {info.name: info for info in list_policies()}
    for info in listed.values():
        assert info.rule, info.name
        assert info.source, info.name
        stock = info.name in ("none", "fcfs")
        assert info.events or stock or info.family == "bundle", info.name
    assert listed["true_gap"].is_oracle
    assert not listed["continuum"].is_oracle
    assert listed["ttl"].parameters == {"seconds": 2.0}


def test_a_bundle_is_its_parts_and_gives_way_to_named_ones() -> None:
    gated = ["gate(order=queue)", "searched_order"]
    assert parts("searched_gate") == ["affinity", "searched", *gated]
    assert parts("searched_gate+lru") == ["affinity", "lru", *gated]
    assert parts("seed_only")[2] == "none"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sglng", "did you mean 'sglang'"),
        ("sglang+contnuum", "did you mean 'continuum'"),
        ("", "cannot read ''"),
        ("sglang++lru", "cannot read ''"),
        ("sglang+dynamo", "'sglang' and 'dynamo' are both routing parts"),
        ("lru+lru", "'lru' and 'lru' are both residency parts"),
        ("ttl(second=1)", "unknown parameter 'second'; did you mean 'seconds'? allowed: seconds"),
        ("lru(a=1)", "lru: unknown parameter 'a'; allowed: none"),
        ("ttl(seconds=0)", "ttl: seconds is 0.0; allowed: a number of at least 0.001"),
        ("ttl(seconds=nan)", "ttl: seconds is nan; allowed"),
        ("ttl(seconds=inf)", "ttl: seconds is inf; allowed"),
        ("ttl(seconds=soon)", "ttl: seconds is 'soon'; allowed"),
        ("ttl(seconds=1,seconds=2)", "seconds is given twice"),
        ("ttl(1)", "cannot read '1'; write parameter=value"),
        ("ttl(seconds=1", "parentheses do not match"),
        ("ttl(seconds=1))", "parentheses do not match"),
        ("sglang(match=1.5)", "sglang: match is 1.5; allowed: a number from 0 to 1"),
        ("random(seed=0.5)", "random: seed is 0.5; allowed: an integer of at least 0"),
        ("affinity_cap(cap=true)", "cap is True; allowed: an integer of at least 1"),
        (
            "router_queue(order=lifo)",
            "order is 'lifo'; allowed: scenario, turn_arrival, program_arrival, shortest_context, "
            "queue",
        ),
        ("searched_gate(utilization=1)", "searched_gate: takes no parameters"),
        ("no.such.module:Thing", "cannot import 'no.such.module'"),
        ("agentserve_gym.baselines:Nothing", "has no class 'Nothing'"),
        ("builtins:int", "has no method decide"),
    ],
)
def test_bad_names_say_what_is_allowed(name: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_policy(name)
    assert message in str(raised.value)


# --- policies of users ---------------------------------------------------------------------------


class FirstInstance:
    """A whole policy."""

    def __init__(self, instance: int = 0) -> None:
        self.instance = instance
        self.asked = 0

    def decide(self, decision):  # type: ignore[no-untyped-def]
        self.asked += 1
        return Route(self.instance) if isinstance(decision, RouteDecision) else KEEP

    def counters(self) -> dict[str, int]:
        return {"asked": self.asked}


@dataclass
class LastInstance(Routing):
    """A routing part that no registry knows."""

    def choose(self, decision: RouteDecision) -> Choice:
        return Choice(len(decision.cluster.instances) - 1, "chosen")


LastInstance.events = ("chosen",)


def test_a_users_class_is_a_policy() -> None:
    policy = parse_policy(f"{__name__}:FirstInstance(instance=1)")
    simulation = Simulation(pressured(3), 0)
    report = run_policy(simulation, policy)
    assert report["policy"] == f"{__name__}:FirstInstance(instance=1)"
    assert report["counters"]["asked"] > 0
    assert simulation.engines[0].steps == 0
    policy.reset()
    assert policy.counters() == {"asked": 0}


def test_a_users_part_composes() -> None:
    policy = parse_policy(f"{__name__}:LastInstance+continuum")
    simulation = Simulation(pressured(3), 0)
    report = run_policy(simulation, policy)
    assert simulation.engines[0].steps == 0
    assert report["counters"][f"{__name__}:LastInstance.chosen"] == report["turns"]


def test_a_whole_policy_combines_with_nothing() -> None:
    with pytest.raises(ValueError, match="is a whole policy and combines with no part"):
        parse_policy(f"{__name__}:FirstInstance+lru")
    with pytest.raises(ValueError, match="unexpected keyword"):
        parse_policy(f"{__name__}:FirstInstance(speed=2)")


def test_an_entry_point_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", f"{__name__}:FirstInstance", "agentserve_gym.policies")
    monkeypatch.setattr(parser_module, "entry_points", lambda group: [point] if group else [])
    assert parse_policy("mine").name == "mine"
    assert [info.name for info in list_policies() if info.family == "user"] == ["mine"]


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random+infercept+plas", "thunderagent_system", "preble+mori"])
def test_policies_can_be_copied_and_pickled_mid_run(name: str) -> None:
    scenario = pressured(8)
    policy = parse_policy(name)
    simulation = Simulation(scenario, 0)
    decision = simulation.advance()
    for _ in range(25):
        assert decision is not None
        decision = simulation.advance(policy.decide(decision))
    twins = [copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))]
    copies = [simulation.snapshot() for _ in twins]
    expected = finish(simulation, policy)
    assert [finish(*pair) for pair in zip(copies, twins, strict=True)] == [expected, expected]


def finish(simulation: Simulation, policy) -> tuple[float, dict[str, int]]:  # type: ignore[no-untyped-def]
    decision = simulation.pending
    while decision is not None:
        decision = simulation.advance(policy.decide(decision))
    return simulation.report()["jct_s"]["mean"], policy.counters()


def test_reset_forgets_the_run() -> None:
    scenario = pressured(6)
    policy = parse_policy("round_robin+infercept+thunderagent+atlas")
    reports = [run_policy(Simulation(scenario, 0), policy) for _ in range(2)]
    assert reports[0] == reports[1]
