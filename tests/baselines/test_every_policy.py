"""One battery over every listed policy: it finishes, its mechanisms fire, it is deterministic."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from baseline_helpers import inline, inline_program, pressured, run_named

from agentserve_gym.baselines import ComposedPolicy, PolicyInfo, list_policies, parse_policy
from agentserve_gym.sim import PlacementDecision, RouteDecision, Simulation, load_scenario

pytestmark = pytest.mark.no_cover

LISTED = [info for info in list_policies() if info.family not in ("user", "look-ahead")]

SHARPENED = {
    "affinity_cap": "affinity_cap(cap=4)",
    "sticky_saturated": "sticky_saturated(tokens=3000)",
    "autellix": "autellix(tokens=4096)",
    "concur": "concur(start=2)",
    "router_queue": "router_queue(threshold=0.25)",
    "mori": "mori(interval_s=1.0)",
    "mori_gate": "mori_gate(interval_s=1.0)",
    "continuum_paper": "continuum_paper(enough=10)",
    "plas": "plas(quantum_s=0.1)",
    "atlas": "atlas(quantum_s=0.1)",
    "smetric": "smetric(slo_s=20.0)",
    "pinned_first": "pinned_first+retain",
    "searched_order": "searched_order+searched",
    "tokencake": "tokencake(pressure=0.5)",
    "work_stealing": "work_stealing+short_queue",
    "saga_ttl": "saga_ttl+least_loaded",
    "min_completion": "min_completion(decisions=20)",
}
"""Parameters or partners under which a policy's defining event has a reason to fire in the small
scenario below; the published defaults are for larger systems."""


def programs_for(info: PolicyInfo) -> int:
    """Looking ahead takes time."""
    return 6 if info.name == "min_completion" else 20


@pytest.mark.parametrize("info", LISTED, ids=lambda info: info.name)
def test_it_finishes_under_pressure_and_its_defining_event_fires(info: PolicyInfo) -> None:
    name = SHARPENED.get(info.name, info.name)
    policy = parse_policy(name)
    assert isinstance(policy, ComposedPolicy)
    report = run_named(name, pressured(programs_for(info)))
    assert report["unfinished_programs"] == 0
    assert report["invalid_answers"] == 0
    if info.events:
        assert report["counters"][f"{info.name}.{info.events[0]}"] > 0, report["counters"]


@pytest.mark.parametrize("preset", ["default", "mixed-models"])
@pytest.mark.parametrize("info", LISTED, ids=lambda info: info.name)
def test_it_finishes_a_preset(info: PolicyInfo, preset: str) -> None:
    content = load_scenario(preset).model_dump()
    if info.name == "min_completion":
        content["workload"] = {**content["workload"], "programs": 2, "max_turns": 4}
    report = run_named(info.name, load_scenario(content))
    assert report["unfinished_programs"] == 0
    assert report["invalid_answers"] == 0


@pytest.mark.parametrize("info", LISTED, ids=lambda info: info.name)
def test_it_serves_one_instance_without_lower_tiers(info: PolicyInfo) -> None:
    turns = [(800, 20, 0.5), (200, 20, 3.0), (200, 20, 0.0)]
    programs = [inline_program(*turns, arrival_s=0.1 * number) for number in range(6)]
    report = run_named(info.name, inline(programs, kv_blocks=200))
    assert report["unfinished_programs"] == 0
    assert report["invalid_answers"] == 0


@pytest.mark.parametrize("info", LISTED, ids=lambda info: info.name)
def test_counters_are_the_listed_events(info: PolicyInfo) -> None:
    if info.family == "bundle":
        pytest.skip("a bundle counts by its parts")
    counters = run_named(info.name, pressured(3))["counters"]
    own = {key for key in counters if key.startswith(f"{info.name}.")}
    assert own == {f"{info.name}.{event}" for event in info.events}


@pytest.mark.parametrize("info", LISTED, ids=lambda info: info.name)
@pytest.mark.parametrize("kind", [RouteDecision, PlacementDecision])
def test_it_may_answer_one_kind_of_decision_only(info: PolicyInfo, kind: type) -> None:
    """Environments that ask an agent for one kind let a named policy answer the other."""
    policies = {True: parse_policy(info.name), False: parse_policy("lru")}
    simulation = Simulation(pressured(3 if info.name == "min_completion" else 8), 0)
    policies[True].bind(simulation)
    decision = simulation.advance()
    while decision is not None:
        decision = simulation.advance(policies[isinstance(decision, kind)].decide(decision))
    report = simulation.report()
    assert report["unfinished_programs"] == 0
    assert report["invalid_answers"] == 0


def test_a_part_that_never_fired_is_named() -> None:
    policy = parse_policy("sglang+ttl+gate")
    assert isinstance(policy, ComposedPolicy)
    decision = (simulation := Simulation(pressured(1), 0)).advance()
    while decision is not None:
        decision = simulation.advance(policy.decide(decision))
    assert "gate" in policy.silent_parts()
    assert "ttl" not in policy.silent_parts()


_SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from baseline_helpers import pressured, run_named
names = sys.argv[2:]
print(json.dumps([run_named(name, pressured(10), seed=1) for name in names], sort_keys=True))
"""


def test_results_do_not_depend_on_the_hash_seed() -> None:
    names = [
        "random+infercept+plas", "dualmap+continuum_paper", "thunderagent_system", "mori_system",
        "power_of_two+saga+concur", "dynamo(temperature=0.5)+kvflow", "preble+dram_cxl+atlas",
    ]  # fmt: skip
    outputs = []
    for hash_seed in ("0", "1"):
        here = os.path.dirname(__file__)
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, here, *names],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert all(report["unfinished_programs"] == 0 for report in json.loads(outputs[0]))
