"""Pressure and luck: what a cell is like before policies are compared."""

import math
from dataclasses import replace

import pytest
from bench_helpers import outcomes, toy_suite

from agentserve_gym.baselines import drive, parse_policy
from agentserve_gym.bench import Study, measure, plan_jobs
from agentserve_gym.bench.facts import pressure_section
from agentserve_gym.bench.luck import luck, nudged_workload, smallest_difference
from agentserve_gym.bench.page import benchmark_page
from agentserve_gym.bench.pressure import NO_PRESSURE, PressureMeter, working_set_blocks
from agentserve_gym.bench.runner import digest
from agentserve_gym.bench.suite import find_scenario
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.workloads import GeneratedWorkload, PoissonArrivals, build_workload
from agentserve_gym.workloads.validation import validate_program

LUCK = {"policies": ["affinity", "ttl"], "seeds": 2, "nudges": 2}
JCT_S = {"random": [20.0] * 3, "affinity": [10.0] * 3, "ttl": [8.0] * 3, "belady": [7.0] * 3}


def with_luck(suite, spread: float, **changes):
    """Outcomes of ``suite`` with nudged runs of affinity: by ``spread`` above and below."""
    plain = outcomes(suite, JCT_S, **changes)
    scenario = find_scenario("toy")
    return plain + [
        replace(
            run,
            jct_mean_s=run.jct_mean_s * math.exp(sign * spread),
            nudge=nudge,
            digest=digest(scenario, "affinity", nudge),
        )
        for run in plain
        if run.label == "affinity" and run.seed < 2
        for nudge, sign in ((1, 1.0), (2, -1.0))
    ]


# --- nudges --------------------------------------------------------------------------------------


def test_a_nudge_is_one_token_of_every_eighth_program():
    spec = GeneratedWorkload(mix={"coding_auto": 1.0}, programs=20)
    plain = build_workload(spec, PoissonArrivals(rate_per_s=1.0), 0)
    nudged = nudged_workload(plain, 3)
    assert len(nudged) == len(plain)
    assert list(nudged.arrival_times()) == list(plain.arrival_times())
    for index in range(20):
        before, after = plain.program(index), nudged.program(index)
        if index % 8 != 2:
            assert after == before
            continue
        validate_program(after)
        assert after.turns[0].output_tokens == before.turns[0].output_tokens + 1
        assert after.turns[2:] == before.turns[2:]
        prompts = [[turn.input_tokens for turn in program.turns] for program in (before, after)]
        assert prompts[0] == prompts[1]


def test_nudges_are_checked_and_none_changes_nothing():
    spec = GeneratedWorkload(mix={"coding_auto": 1.0}, programs=2)
    plain = build_workload(spec, PoissonArrivals(rate_per_s=1.0), 0)
    assert nudged_workload(plain, 0) is plain
    for nudge in (-1, 9):
        with pytest.raises(ValueError, match=rf"nudge is {nudge}; allowed: 0 to 8"):
            nudged_workload(plain, nudge)


def test_a_nudged_run_differs_by_its_token():
    runs = [
        measure(load_scenario("toy"), "lru", parse_policy("lru"), 0,
                nudge=nudge)
        for nudge in (0, 1)
    ]  # fmt: skip
    assert [run.nudge for run in runs] == [0, 1]
    assert runs[0].turns == runs[1].turns
    assert runs[0].jct_mean_s < runs[1].jct_mean_s < runs[0].jct_mean_s + 0.05


def test_luck_is_pooled_within_groups():
    # Deviations of the logarithm: +-.1 in one group, none in the other, two degrees of freedom.
    spread = [math.exp(0.1), math.exp(-0.1)]
    assert luck([[5.0 * s for s in spread], [9.0, 9.0]]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least two runs"):
        luck([[5.0]])


def test_the_smallest_difference_is_half_an_interval():
    # t(.975, 9) = 2.2622; two lucky runs differ by sqrt(2) of one's luck.
    assert smallest_difference(0.03, 10) == pytest.approx(
        math.expm1(2.2622 * 0.03 * math.sqrt(2 / 10)), rel=1e-4
    )
    assert smallest_difference(0.03, 1) == math.inf


# --- pressure ------------------------------------------------------------------------------------


def sharing() -> Simulation:
    """Three programs at once with a prefix of 64 tokens, and 32 of their own; two instances."""
    content = load_scenario("toy").model_dump()
    content["cluster"]["nodes"][0]["instances"][0]["count"] = 2
    content["workload"]["programs"] = [
        {
            "program_id": name,
            "arrival_s": 0.0,
            "prefix": [{"key": "system", "tokens": 64}],
            "turns": [
                {"new_input_tokens": 24, "output_tokens": 9, "gap_s": 100.0},
                {"new_input_tokens": 24, "output_tokens": 8},
            ],
        }
        for name in ("first", "second", "third")
    ]
    return Simulation(load_scenario(content), 0)


def test_a_shared_prefix_counts_once_an_instance():
    """The KV of the last token of an output is not computed yet: 64 + 32 tokens a program."""
    simulation = sharing()
    for _ in drive(simulation, parse_policy("lru")):
        if simulation.now_s > 1.0:
            break
        if all(program.turns_done == 1 for program in simulation.orchestrator.live.values()):
            assert working_set_blocks(simulation) == pytest.approx(2 * 4 + 3 * 2)
            return
    pytest.fail("the three programs never waited together")


def test_a_meter_weighs_samples_by_time():
    scenario = load_scenario("default")
    simulation = Simulation(scenario, 0)
    meter = PressureMeter(simulation)
    assert meter.result() == NO_PRESSURE
    pool = sum(engine.pool.capacity for engine in simulation.engines)
    live_s = working_set_s = since_s = 0.0
    for number, _ in enumerate(drive(simulation, parse_policy("lru")), start=1):
        meter.observe()
        if number % 16 == 0:
            step_s, since_s = simulation.now_s - since_s, simulation.now_s
            live_s += step_s * simulation.orchestrator.unfinished.count
            working_set_s += step_s * working_set_blocks(simulation) / pool
    found = meter.result()
    assert found.live == pytest.approx(live_s / since_s)
    assert found.working_set == pytest.approx(working_set_s / since_s)
    assert found.working_set < found.working_set_p90


# --- in a suite ----------------------------------------------------------------------------------


def test_a_suite_nudges_the_policies_that_it_names():
    suite = toy_suite(luck=LUCK)
    nudged = [job for job in plan_jobs(suite) if job.nudge]
    assert {(job.label, job.seed, job.nudge) for job in nudged} == {
        (label, seed, nudge)
        for label in ("affinity", "ttl")
        for seed in (0, 1)
        for nudge in (1, 2)
    }  # fmt: skip
    assert len({job.key for job in plan_jobs(suite)}) == len(plan_jobs(suite))


def test_a_study_knows_luck_and_keeps_it_out_of_means():
    suite = toy_suite(luck=LUCK)
    cell = Study(suite, with_luck(suite, 0.1)).cells[0]
    assert cell.mean("affinity") == pytest.approx(10.0)
    assert cell.luck == {"affinity": pytest.approx(0.1)}
    assert cell.smallest_difference == pytest.approx(smallest_difference(0.1, 3))
    without = Study(suite, outcomes(suite, JCT_S)).cells[0]
    assert without.smallest_difference is None


def test_the_page_names_what_luck_hides_and_queues_that_grow():
    suite = toy_suite(luck=LUCK)
    lucky = pressure_section(Study(suite, with_luck(suite, 0.1, drift=2.0)))
    assert "cannot be told from luck in `toy` (42.1%)" in lucky
    assert "In `toy` the queue grows" in lucky
    calm_study = Study(suite, with_luck(suite, 0.001))
    calm = pressure_section(calm_study)
    assert "cannot be told" not in calm
    assert "queue grows" not in calm
    assert "| `toy` | 2 | 2 | 0.80 | 1.20 | 0.50 | 50% | 1.00 | 0.1% | 0.4% |" in calm
    assert calm in benchmark_page(calm_study, "benchmark")


def test_one_seed_tells_no_smallest_difference():
    suite = toy_suite(seeds=1, luck=LUCK)
    single = [run for run in with_luck(suite, 0.1) if run.seed == 0]
    section = pressure_section(Study(suite, single))
    assert "| 10.0% |  |" in section
    assert "inf" not in section
