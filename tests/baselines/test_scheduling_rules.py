"""Each queue order in a built setup, next to one that decides differently there."""

from __future__ import annotations

from baseline_helpers import (
    FakeCluster,
    FakeInstance,
    gap,
    inline,
    inline_program,
    make_program,
    route,
)

from agentserve_gym.baselines import Scheduling, parse_policy, run_policy
from agentserve_gym.sim import Phase, Simulation


def order(name: str) -> Scheduling:
    return parse_policy(name).scheduling  # type: ignore[attr-defined,no-any-return]


def first(name: str, cluster: FakeCluster, *programs) -> int:  # type: ignore[no-untyped-def]
    """Which of the programs goes first; on equal priority the one that came first."""
    rule = order(name)
    priorities = []
    for program in programs:
        decision = route(cluster, program)
        rule.turn_ready(decision)
        priorities.append(rule.priority(decision, 0))
    return priorities.index(min(priorities))


def served(index: int, service_s: float, waited_s: float = 0.0, **more):  # type: ignore[no-untyped-def]
    program = make_program(index, turns_done=1, home=0, **more)
    program.attained_service_s = service_s
    program.phase_s[Phase.QUEUE] = waited_s
    return program


def test_turns_programs_and_pins() -> None:
    cluster = FakeCluster(FakeInstance(0))
    young, old = make_program(0, arrival_s=9.0), make_program(1, arrival_s=1.0)
    cluster.pinned = {0}
    assert first("fcfs", cluster, young, old) == 0
    assert first("program_fcfs", cluster, young, old) == 1
    assert first("pinned_first", cluster, young, old) == 0
    cluster.pinned = {0, 1}
    assert first("pinned_first", cluster, young, old) == 1


def test_searched_order_weighs_context_against_arrival() -> None:
    cluster = FakeCluster(FakeInstance(0))
    long_early = make_program(0, arrival_s=0.0, prompt=8000)
    short_later = make_program(1, arrival_s=5.0, prompt=1000)
    assert first("searched_order", cluster, long_early, short_later) == 1
    assert first("program_fcfs", cluster, long_early, short_later) == 0
    huge_early = make_program(2, arrival_s=0.0, prompt=50_000)
    short_much_later = make_program(3, arrival_s=10.0, prompt=1000)
    assert first("searched_order", cluster, huge_early, short_much_later) == 0  # capped at 10 s


def test_plas_runs_the_least_served_program_first_within_levels_of_doubling() -> None:
    cluster = FakeCluster(FakeInstance(0))
    assert first("plas", cluster, served(0, 8.0), served(1, 1.0)) == 1
    assert first("plas", cluster, served(0, 7.0), served(1, 4.0)) == 0  # one level
    assert first("fcfs", cluster, served(0, 8.0), served(1, 1.0)) == 0
    rule = order("plas")
    levels = [rule.level(seconds) for seconds in (0.0, 0.99, 1.0, 2.0, 3.9, 4.0, 1e9)]  # type: ignore[attr-defined]
    assert levels == [0, 0, 1, 2, 2, 3, 7]


def test_plas_promotes_who_starves_and_starts_counting_anew() -> None:
    cluster = FakeCluster(FakeInstance(0))
    rule = order("plas(beta=2)")
    program = served(0, 10.0, waited_s=15.0)
    decision = route(cluster, program)
    rule.turn_ready(decision)
    assert rule.promote_after_s(decision) == 5.0
    program.phase_s[Phase.QUEUE] = 21.0
    program.attained_service_s = 11.0
    rule.gap_began(gap(cluster, program))
    assert rule.counts["promoted"] == 1
    rule.turn_ready(decision)
    assert rule.promote_after_s(decision) is None  # no service since
    new = route(cluster, make_program(1))
    rule.turn_ready(new)
    assert rule.promote_after_s(new) is None


def test_plas_sums_sub_agents_atlas_takes_the_longest_path() -> None:
    cluster = FakeCluster(FakeInstance(0))
    # Three sub-agents of 3 s each beneath a parent of 1 s: 10 s in sum, 4 s along a path.
    for name, service_s in (("plas", 10.0), ("atlas", 4.0)):
        rule = order(name)
        parent = served(0, 1.0)
        rule.turn_ready(route(cluster, parent))
        rule.gap_began(gap(cluster, parent))
        for index in (1, 2, 3):
            child = make_program(index, parent=parent)
            rule.turn_ready(route(cluster, child))
            child.attained_service_s, child.turns_done, child.home = 3.0, 1, 0
            rule.gap_began(gap(cluster, child))
        rule.turn_ready(route(cluster, parent))
        assert rule.service_s(parent) == service_s  # type: ignore[attr-defined]
        parent.attained_service_s = 2.0
        rule.gap_began(gap(cluster, parent))
        assert rule.service_s(parent) == service_s + 1.0  # type: ignore[attr-defined]


def test_continuums_system_pins_until_admission_and_takes_pinned_turns_first() -> None:
    """A large program fills the pool beside a pinned context. An older program comes back to a pin
    that expired and waits; the pinned one comes back after it and goes ahead."""
    programs = [
        inline_program((100, 5, 4.0), (9000, 5, 0.0)),
        inline_program((12_000, 800, 0.0), arrival_s=3.0),
        inline_program((3000, 5, 1.5), (600, 5, 0.0), arrival_s=3.1),
    ]
    scenario = inline(programs, kv_blocks=1000)
    waits_s = {}
    for name in ("continuum_paper", "continuum_paper+program_fcfs", "lru"):
        simulation = Simulation(scenario, 0, record_turns=True)
        report = run_policy(simulation, parse_policy(name))
        [returned] = [
            record
            for record in simulation.metrics.records
            if record.turn == 1 and record.prompt_tokens < 9000
        ]
        waits_s[name] = returned.first_token_s - returned.ready_s
        if name == "continuum_paper":
            assert report["counters"]["continuum_paper.default_ttl"] == 2
            assert report["counters"]["pinned_first.pinned"] == 1
            assert report["hit_tokens"]["hbm"] == 2992  # the pinned context's whole blocks
            assert report["residency"]["pins_used"] == report["residency"]["pins_expired"] == 1
    assert waits_s["continuum_paper"] < 0.2
    assert waits_s["continuum_paper+program_fcfs"] > 1.0  # behind the older program
    assert waits_s["lru"] > 1.0


def test_prefill_orders_look_at_opposite_things() -> None:
    rule, prefix = order("shortest_prefill"), order("longest_prefix")
    short = FakeCluster(FakeInstance(0, cached=0))
    long = FakeCluster(FakeInstance(0, cached=6000))
    little = route(short, make_program(0, prompt=500))
    much = route(long, make_program(1, prompt=8000))
    assert rule.priority(little, 0) < rule.priority(much, 0)
    assert prefix.priority(much, 0) < prefix.priority(little, 0)
