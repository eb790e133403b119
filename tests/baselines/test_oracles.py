"""Oracles: marked, bound to a simulation, and above what they are the reference for."""

from __future__ import annotations

import copy
import pickle

import pytest
from baseline_helpers import inline, inline_program, pressured

from agentserve_gym.baselines import list_policies, parse_policy, run_policy
from agentserve_gym.sim import PlacementDecision, PlacementKind, Route, RouteDecision, Simulation


def answer_all(policy, simulation, decision) -> None:  # type: ignore[no-untyped-def]
    while decision is not None:
        decision = simulation.advance(policy.decide(decision))


def pickled(policy):  # type: ignore[no-untyped-def]
    return pickle.loads(pickle.dumps(policy))


ORACLES = [info.name for info in list_policies() if info.is_oracle]


def test_the_oracles_are_known_and_marked() -> None:
    assert set(ORACLES) == {"true_gap", "belady", "srpt", "min_completion", "clairvoyant"}
    assert all(parse_policy(name).is_oracle for name in ORACLES)
    assert parse_policy("sglang+belady").is_oracle
    assert not parse_policy("sglang+continuum").is_oracle


@pytest.mark.parametrize("name", ORACLES)
def test_an_unbound_oracle_says_what_to_do(name: str) -> None:
    policy = parse_policy(name)
    simulation = Simulation(pressured(1), 0)
    decision = simulation.advance()
    with pytest.raises(RuntimeError, match=rf"{name} is an oracle: call policy.bind\(simulation\)"):
        answer_all(policy, simulation, decision)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_leave_the_simulation_behind(copied) -> None:  # type: ignore[no-untyped-def]
    policy = parse_policy("belady+srpt")
    policy.bind(Simulation(pressured(1), 0))
    twin = copied(policy)
    decision = Simulation(pressured(1), 0).advance()
    assert isinstance(decision, RouteDecision)
    with pytest.raises(RuntimeError, match="is an oracle"):
        twin.decide(decision)


def test_true_gap_pins_exactly_what_is_worth_it() -> None:
    short = inline_program((2000, 5, 0.1), (10, 5, 0.0))
    long = inline_program((2000, 5, 50.0), (10, 5, 0.0), arrival_s=10.0)
    simulation = Simulation(inline([short, long]), 0)
    policy = parse_policy("true_gap")
    policy.bind(simulation)
    answers = []
    decision = simulation.advance()
    while decision is not None:
        answer = policy.decide(decision)
        if isinstance(decision, PlacementDecision):
            answers.append(answer)
        decision = simulation.advance(answer)
    assert [answer.kind for answer in answers] == [PlacementKind.PIN, PlacementKind.KEEP]
    assert answers[0].ttl_s == pytest.approx(0.1, rel=1e-4)
    residency = simulation.residency.counters
    assert (residency.pins_used, residency.pins_expired) == (1, 0)


def test_belady_keeps_what_is_needed_next_lru_what_was_used_last() -> None:
    """Two contexts fill the pool; the one that ended its turn last has the far longer gap. A third
    needs room: LRU takes the older, which returns first."""
    soon = inline_program((6000, 5, 6.0), (50, 5, 0.0), arrival_s=0.0, program_id="soon")
    late = inline_program((6000, 5, 60.0), (50, 5, 0.0), arrival_s=2.0, program_id="late")
    third = inline_program((4000, 5, 0.0), arrival_s=4.0, program_id="third")
    scenario = inline([soon, late, third], kv_blocks=900)
    recomputed = {}
    for name in ("belady", "lru"):
        simulation = Simulation(scenario, 0, record_turns=True)
        run_policy(simulation, parse_policy(name))
        records = simulation.metrics.records
        assert records is not None
        back = next(r for r in records if r.program_id == "soon" and r.turn == 1)
        recomputed[name] = back.first_token_s - back.ready_s
    assert recomputed["belady"] < 0.5 * recomputed["lru"]


def test_shortest_remaining_work_goes_first_even_if_it_was_served_long() -> None:
    """PLAS looks back and prefers the newcomer; the oracle looks ahead and lets the old one end."""
    slot = {"max_num_seqs": 1, "max_num_batched_tokens": 2048}
    ending = inline_program((500, 800, 1.0), (50, 10, 0.0), program_id="ending")
    hog = inline_program((500, 1500, 0.0), arrival_s=0.5, program_id="hog")
    newcomer = inline_program(
        *[(500, 400, 0.1)] * 5, (50, 400, 0.0), arrival_s=5.0, program_id="newcomer"
    )
    ends = {}
    for order in ("srpt", "plas"):
        scenario = inline([ending, hog, newcomer], engine=slot)
        simulation = Simulation(scenario, 0, record_turns=True)
        run_policy(simulation, parse_policy(order))
        records = simulation.metrics.records
        assert records is not None
        ends[order] = next(r.end_s for r in records if r.program_id == "ending" and r.turn == 1)
    assert ends["srpt"] < ends["plas"]


def test_looking_ahead_sees_which_instance_is_free_sooner() -> None:
    """One slot each: instance 0 has two short turns, instance 1 a single one of 3000 tokens.
    Counting turns prefers instance 1."""
    slot = {"max_num_seqs": 1, "max_num_batched_tokens": 2048}
    where = {"long": 1, "short": 0, "short too": 0}
    lengths = {"long": 3000, "short": 20, "short too": 20, "probe": 20}
    programs = [
        inline_program((500, tokens, 0.0), arrival_s=0.01 * number, program_id=name)
        for number, (name, tokens) in enumerate(lengths.items())
    ]
    simulation = Simulation(inline(programs, instances=2, engine=slot), 0)
    decision = simulation.advance()
    while decision is not None and decision.program.program_id != "probe":
        decision = simulation.advance(Route(where[decision.program.program_id]))
    assert isinstance(decision, RouteDecision)
    answers = {}
    for name in ("min_completion", "least_loaded"):
        policy = parse_policy(name)
        policy.bind(simulation)
        answers[name] = policy.decide(decision)
    assert answers == {"min_completion": Route(0), "least_loaded": Route(1)}


def test_looking_ahead_leaves_the_simulation_alone() -> None:
    scenario = pressured(3)
    policy = parse_policy("min_completion(decisions=5)")
    simulation = Simulation(scenario, 0)
    policy.bind(simulation)
    decision = simulation.advance()
    before = simulation.report()
    assert decision is not None
    policy.decide(decision)
    assert simulation.report() == before
    assert simulation.pending is decision
