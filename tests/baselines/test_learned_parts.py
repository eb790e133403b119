"""Learned parts: with the start's weights heuristics, with others something else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import log, prod
from pathlib import Path
from random import Random
from typing import Any

import pytest
from baseline_helpers import BLOCK, make_program, pressured, run_named

from agentserve_gym.baselines import ComposedPolicy, parse_policy
from agentserve_gym.baselines.driving import run_policy
from agentserve_gym.baselines.learned.demand import Demand
from agentserve_gym.baselines.learned.parts import (
    LearnedOrder,
    LearnedRouting,
    learned_policy,
    learned_weights,
    watch_scores,
)
from agentserve_gym.baselines.learned.situation import UNSEEN_TURNS, Situation, TurnsLeft
from agentserve_gym.baselines.learned.weights import (
    SITUATION,
    SIZE,
    Weights,
    changed_weights,
    from_vector,
    heuristic_weights,
    load_weights,
    packaged_weights,
    save_weights,
)
from agentserve_gym.bench.suite import find_scenario
from agentserve_gym.sim import ProgramState, ProgramStatus, Simulation, load_scenario


def changed(**values: float) -> Weights:
    """The start's weights but for some: ``group__name=value``."""
    changes: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        group, _, name = key.partition("__")
        changes.setdefault(group, {})[name] = value
    return changed_weights(heuristic_weights(), changes)


def report_of(weights: Weights) -> dict[str, Any]:
    return run_policy(Simulation(pressured(), 3), learned_policy(weights))


# --- weights --------------------------------------------------------------------------------------


def test_weights_are_read_as_they_were_written(tmp_path: Path) -> None:
    draw = Random(1)
    weights = from_vector([draw.gauss(0.0, 1.0) for _ in range(SIZE)], "drawn")
    path = tmp_path / "drawn.json"
    save_weights(path, weights, {"by": "a test"})
    assert load_weights(str(path)).vector() == weights.vector()
    assert json.loads(path.read_text())["about"] == {"by": "a test"}
    policy = parse_policy(f"learned(weights={path})")
    assert [one.vector() for one in learned_weights(policy)] == [weights.vector()] * 4
    assert parse_policy(policy.name).name == policy.name


def test_weights_of_the_package_are_complete() -> None:
    assert "default" in packaged_weights()
    for name in packaged_weights():
        assert len(load_weights(name).vector()) == SIZE


def written(path: Path, change: Any) -> str:
    """A file of the start's weights that was changed."""
    tables = heuristic_weights().as_dict()
    content: Any = {"weights": tables}
    change(content)
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("weights"), "no table 'weights'"),
        (lambda c: c["weights"].update(rout={}), "unknown group 'rout'; did you mean 'route'"),
        (lambda c: c["weights"]["queue"].update(redy=1.0), "unknown weight 'redy'"),
        (lambda c: c["weights"]["queue"].pop("ready"), "queue.ready is None; allowed: a number"),
        (lambda c: c["weights"]["queue"].update(ready="x"), "queue.ready is 'x'"),
        (lambda c: c["weights"]["queue"].update(ready=float("nan")), "queue.ready is nan"),
    ],
)
def test_what_is_wrong_with_a_file_of_weights_is_said(
    tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(ValueError, match="weights") as error:
        load_weights(written(tmp_path / "w.json", change))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("learned(weights=defalt)", "did you mean 'default'"),
        ("learned(weights=nowhere.json)", "No such file"),
        ("learned(weights=3)", "weights is 3; allowed: a text"),
        ("learned(rooting)", "unknown family 'rooting'; did you mean 'routing'"),
        ("learned(size=3)", "takes no parameters, got size"),
    ],
)
def test_what_is_wrong_with_a_learned_policys_name_is_said(policy: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_policy(policy)
    assert message in str(error.value)


# --- parts ----------------------------------------------------------------------------------------


def test_families_of_a_bundle_can_be_taken_alone() -> None:
    assert parse_policy("learned(routing)+continuum").name == "learned_routing+continuum"
    assert parse_policy("learned(routing,admission)+kvflow").name == (
        "learned_routing+kvflow+learned_admission"
    )
    assert parse_policy("thunderagent_system(admission)").name == "affinity+lru+thunderagent"
    with pytest.raises(ValueError, match="both routing parts"):
        parse_policy("learned(routing)+lmetric")


def test_equal_runs_are_equal_and_weights_decide() -> None:
    """With a gate that lower tiers do not open."""
    tight = {"admit__spill": 0.0, "pause_above__spill": 0.0}
    start = report_of(changed(**tight))
    assert report_of(changed(**tight)) == start
    assert start["counters"]["learned_admission.paused"] > 0
    assert start["counters"]["learned_order.reordered"] > 0
    for other in (
        {"route_away__one": -3.0},
        {"route_turns__one": 0.0},
        {"admit__one": -1.0},
        {"pause_above__one": 1.0},
        {"release__context": -1.0},
        {"half_life__one": 4.0},
        {"half_life__gap": 4.0},
        {"room__one": 5.0},
        {"place_cold__one": 3.0},
        {"rank__gap": 5.0},
    ):
        assert report_of(changed(**{**tight, **other}))["jct_s"] != start["jct_s"], other


def test_the_order_of_queues_is_learned_too() -> None:
    """By when turns are released it is first come, first served."""

    def report(weights: Weights) -> dict[str, Any]:
        policy = parse_policy("learned(scheduling)")
        assert isinstance(policy, ComposedPolicy)
        assert isinstance(policy.scheduling, LearnedOrder)
        policy.scheduling.use(weights)
        return run_policy(Simulation(pressured(), 3), policy)

    first_come = report(changed(queue__ready=0.2, queue__uncached=0.0))
    assert first_come["jct_s"] == run_named("fcfs", pressured(), 3)["jct_s"]
    shortest_first = report(changed(queue__ready=0.0))
    assert shortest_first["jct_s"] == run_named("shortest_prefill", pressured(), 3)["jct_s"]
    assert shortest_first["jct_s"] != first_come["jct_s"]


def test_turns_of_started_programs_wait_for_free_blocks() -> None:
    """Where no program is kept out for what the started ones want."""
    open_gate = {"admit__one": 5.0, "pause_above__one": 5.0}
    held = [
        report_of(changed(room__one=share, **open_gate))["counters"]["learned_admission.held"]
        for share in (-2.0, 0.0, 5.0)
    ]
    assert held[0] > held[1] > held[2] == 0


def test_a_started_program_yields_to_a_held_one_that_should_go_first() -> None:
    """Here the youngest goes first through a narrow gate; a wider margin lets fewer yield."""
    youngest_first = {"admit__one": -0.7, "release__uncached": 0.0, "release__turns_done": 1.0}
    never, seldom, often = (
        report_of(changed(yield__one=margin, **youngest_first)) for margin in (5.0, 1.0, 0.0)
    )
    yielded = [report["counters"]["learned_admission.yielded"] for report in (never, seldom, often)]
    assert 0 == yielded[0] < yielded[1] < yielded[2]
    assert never["jct_s"] != often["jct_s"]
    assert often["unfinished_programs"] == 0


@pytest.mark.parametrize("place", ["keep", "pin", "cold"])
def test_contexts_wait_where_the_highest_value_is(place: str) -> None:
    report = report_of(changed(**{f"place_{place}__one": 9.0}))
    counts = report["counters"]
    assert counts[f"learned_residency.{place}"] == report["turns"] - report["programs"]


def test_copies_go_on_to_the_farthest_tier_by_a_score() -> None:
    both, near = report_of(heuristic_weights()), report_of(changed(copy_far__one=-1.0))
    gaps = both["turns"] - both["programs"]
    assert both["counters"]["learned_residency.warm"] == gaps
    assert both["counters"]["learned_residency.far"] > 0
    assert both["residency"]["offloads"]["cxl"] > 0
    assert near["counters"]["learned_residency.far"] == near["residency"]["offloads"]["cxl"] == 0


def test_routing_is_lmetric_where_nothing_else_weighs() -> None:
    """All instances prefill equally fast here, so seconds order them as tokens do."""

    def report(policy: ComposedPolicy) -> dict[str, Any]:
        return run_policy(Simulation(pressured(), 3), policy)

    policy, lmetric = (parse_policy(name) for name in ("learned(routing)", "lmetric"))
    assert isinstance(policy, ComposedPolicy)
    assert isinstance(lmetric, ComposedPolicy)
    assert isinstance(policy.routing, LearnedRouting)
    policy.routing.use(changed(route__evicted=-50.0, route__imposed=-50.0))
    assert report(policy)["jct_s"] == report(lmetric)["jct_s"]
    policy.routing.use(changed(route__host_credit=0.75))
    assert report(policy)["jct_s"] != report(lmetric)["jct_s"]


def test_a_weight_of_the_step_prefers_instances_that_decode_fast() -> None:
    content = find_scenario("heterogeneous-8b").model_dump(mode="json")
    content["workload"]["programs"] = 40
    busy_s = []
    for step in (0.0, 2.0):
        simulation = Simulation(load_scenario(content), 3)
        busy_s.append(run_policy(simulation, learned_policy(changed(route__step=step)))["busy_s"])
    slow = slice(2, 4)  # RTX 4090 after H100
    assert 0.0 <= sum(busy_s[1][slow]) < sum(busy_s[0][slow])


# --- what they see --------------------------------------------------------------------------------


def naive_tokens(
    started: dict[int, tuple[ProgramState, int, int, float | None]],
    instance: int,
    now_s: float,
    half_lives_s: list[tuple[float, float]],
    used_s: dict[tuple[int, str], float],
) -> float:
    """Demand by its definition; half-lives are each from when on, and how long; ``used_s`` says
    when the last program that shares a prefix stopped to reason."""

    def weight_of(since_s: float) -> float:
        ends = [start for start, _ in half_lives_s[1:]] + [now_s]
        spans = zip(half_lives_s, ends, strict=True)
        return float(
            prod(2 ** (-max(end - max(start, since_s), 0.0) / each) for (start, each), end in spans)
        )

    total, shared = 0.0, {}
    reasoning = {
        key
        for program, at, _, acting_since_s in started.values()
        if at == instance and acting_since_s is None
        for key, _ in program.prefix
    }
    for program, at, context, acting_since_s in started.values():
        if at == instance:
            weight = 1.0 if acting_since_s is None else weight_of(acting_since_s)
            total += weight * max(context - program.shared_blocks * BLOCK, 0)
            for key, blocks in program.prefix:
                whole = key in reasoning
                shared[key] = blocks * BLOCK * (1.0 if whole else weight_of(used_s[instance, key]))
    return total + sum(shared.values())


@pytest.mark.parametrize("seed", range(5))
def test_demand_is_what_a_walk_over_all_programs_would_find(seed: int) -> None:
    draw = Random(seed)
    programs = [make_program(i, shared=320 if i % 2 else 0, turns=99) for i in range(8)]
    demand, started, now_s = Demand(), {}, 0.0
    used_s: dict[tuple[int, str], float] = {}
    half_lives_s = [(0.0, 1.0)]
    for step in range(300):
        now_s += draw.expovariate(2.0)
        if step % 40 == 0:
            half_lives_s.append((now_s, draw.uniform(0.2, 4.0)))
            demand.decay(half_lives_s[-1][1], now_s)
        program = draw.choice(programs)
        known = started.get(program.index)
        what = draw.random()
        if known is not None and known[3] is None:
            used_s.update({(known[1], key): now_s for key, _ in program.prefix})
        if what < 0.5:
            instance, prompt = draw.randrange(2), draw.randrange(200, 4000)
            demand.enter(program, instance, prompt, BLOCK, now_s)
            started[program.index] = (program, instance, prompt, None)
        elif what < 0.8 and known is not None and known[3] is None:
            program.context_tokens = known[2] + draw.randrange(300)
            demand.gap_began(program, BLOCK, now_s)
            started[program.index] = (program, known[1], program.context_tokens, now_s)
        elif what > 0.9:
            demand.leave(program, now_s)
            started.pop(program.index, None)
        for instance in range(2):
            expected = naive_tokens(started, instance, now_s, half_lives_s, used_s)
            assert demand.tokens(instance, now_s) == pytest.approx(expected, rel=1e-9, abs=1.01)


def test_turns_left_are_those_of_programs_that_got_as_far() -> None:
    seen = TurnsLeft()
    cluster = Simulation(pressured(2)).cluster
    done = [make_program(i, turns_done=turns) for i, turns in enumerate((3, 5, 10))]
    young = make_program(9, turns_done=4)
    assert seen.of(young) == UNSEEN_TURNS
    for program in done:
        program.status = ProgramStatus.TOOL_GAP
        cluster.programs, cluster.live_programs = {program.index: program}, 3
        seen.saw(cluster, program)
    cluster.programs, cluster.live_programs = {young.index: young}, 1
    seen.saw(cluster, young)
    assert seen.of(young) == pytest.approx((1 + 6) / 2)
    assert seen.of(make_program(10, turns_done=12)) == 7.0


def spill(scenario: str, **tier_gib: float) -> float:
    """What a cell's lower tiers hold beyond HBM, with other capacities."""
    content = find_scenario(scenario).model_dump(mode="json")
    for node in content["cluster"]["nodes"]:
        if "dram" in tier_gib:
            node["dram"]["capacity_gib"] = tier_gib["dram"]
    for tier in content["cluster"].get("tiers") or []:
        tier["capacity_gib"] = tier_gib.get(tier["name"], tier["capacity_gib"])
    cluster = Simulation(load_scenario(content), 1).cluster
    return Situation().features(cluster)[SITUATION.index("spill")]


def test_lower_tiers_count_as_far_as_they_hold_more_than_hbm_and_restore_fast() -> None:
    scenario = find_scenario("coding-70b-dram")
    cluster = Simulation(scenario, 1).cluster
    pool = sum(view.kv_blocks * view.block_size_tokens for view in cluster.instances)
    saved = 1.0 - cluster.load_s(0, "dram", 8192) / cluster.prefill_s(0, 8192, 0)
    nodes = len(scenario.cluster.nodes)
    gib = scenario.cluster.nodes[0].dram.capacity_gib
    tokens = nodes * cluster.tier_capacity_tokens("dram", 0)
    once = gib * pool / tokens / saved
    assert spill("coding-70b-dram", dram=0.5 * once) == 0.0
    assert spill("coding-70b-dram", dram=1.5 * once) == pytest.approx(log(1.5), rel=1e-2)
    assert spill("coding-70b-dram", dram=9.0 * once) == 1.0
    assert spill("coding-70b-hbm") == 0.0
    far = spill("coding-70b-nvme", dram=0.1 * once, nvme=2.0 * once)
    assert 0.0 < far < spill("coding-70b-dram", dram=2.1 * once)


def idle_share(scenario: str, rate_per_s: float) -> float:
    """What is seen on average over the first twenty programs."""
    content = find_scenario(scenario).model_dump(mode="json")
    content["workload"]["programs"] = 20
    content["arrivals"] = {"kind": "poisson", "rate_per_s": rate_per_s}
    policy, seen = learned_policy(heuristic_weights()), []

    def watch(group: str, features: Sequence[float]) -> None:
        if group == "half_life":
            seen.append(features[SITUATION.index("idle")])

    watch_scores(policy, watch)
    run_policy(Simulation(load_scenario(content), 1), policy)
    return sum(seen) / len(seen)


def test_idle_instances_are_seen_where_there_is_a_lower_tier() -> None:
    """Of four instances, most have nothing to do where a program is there at a time."""
    few, many = idle_share("coding-70b-dram", 0.005), idle_share("coding-70b-dram", 5.0)
    assert 0.0 <= many < 0.3 < 0.6 < few <= 1.0
    assert idle_share("coding-70b-hbm", 0.005) == 0.0


def test_a_learned_policy_runs_where_a_cluster_has_no_tier_and_one_instance() -> None:
    report = run_named("learned", pressured(6))
    assert report["unfinished_programs"] == 0
