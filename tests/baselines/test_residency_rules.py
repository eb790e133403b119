"""Each residency rule in a built setup, next to one that decides differently there."""

from __future__ import annotations

from math import exp, inf

import pytest
from baseline_helpers import FakeCluster, FakeInstance, gap, make_program, route, teach

from agentserve_gym.baselines import Residency, parse_policy, run_policy
from agentserve_gym.baselines.residency.continuum_paper import best_ttl_s
from agentserve_gym.baselines.residency.infercept import (
    ForwardTime,
    fit_forward,
    waste_of_recompute,
)
from agentserve_gym.sim import (
    KEEP,
    Phase,
    Place,
    PlacementKind,
    ProgramStatus,
    Simulation,
    load_scenario,
    offload,
)
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics

PIN = PlacementKind.PIN


def residency(name: str) -> Residency:
    return parse_policy(name).residency  # type: ignore[attr-defined,no-any-return]


def waiting(index: int = 0, context: int = 10_000, **more):  # type: ignore[no-untyped-def]
    """A program that has just ended a turn on instance 0."""
    return make_program(index, turns_done=1, home=0, context=context, **more)


def cluster(**options) -> FakeCluster:  # type: ignore[no-untyped-def]
    return FakeCluster(FakeInstance(0), FakeInstance(1), **options)


def placed(name: str, *arguments, **more) -> Place:  # type: ignore[no-untyped-def]
    return residency(name).place(gap(*arguments, **more))


def test_fixed_rules() -> None:
    here, program = cluster(dram=True), waiting()
    assert placed("lru", here, program) == KEEP
    assert placed("evict", here, program).kind is PlacementKind.DROP
    assert placed("ttl(seconds=5)", here, program) == Place(PIN, ttl_s=5.0)
    assert placed("retain", here, program) == Place(PIN, ttl_s=inf, until_admitted=True)
    assert placed("dram", here, program) == offload("dram")
    assert placed("write_through", here, program) == offload("dram", stay_warm=True)


@pytest.mark.parametrize(
    "name", ["dram", "dram_cxl", "write_through", "kvbm", "unison", "tokencake"]
)
def test_without_lower_tiers_everything_is_left_to_lru(name: str) -> None:
    here = cluster()
    teach(here, "bash", *[60.0] * 3)
    assert placed(name, here, waiting(), "bash") == KEEP


def test_long_gaps_go_to_cxl() -> None:
    both, program = cluster(dram=True, cxl=True), waiting()
    teach(both, "bash", 5.0)
    teach(both, "build", 60.0)
    assert placed("dram_cxl", both, program, "bash").tier == "dram"
    assert placed("dram_cxl", both, program, "build").tier == "cxl"
    assert placed("dram_cxl", both, program, "bash", "build").tier == "cxl"
    assert placed("dram_cxl", both, program, "unseen").tier == "dram"
    assert placed("dram", both, program, "build").tier == "dram"
    only_cxl = cluster(cxl=True)
    assert placed("dram_cxl", only_cxl, program, "unseen").tier == "cxl"


def test_continuum_pins_fast_and_unseen_tools_until_admitted() -> None:
    here, program = cluster(), waiting()
    pinned = Place(PIN, ttl_s=2.0, until_admitted=True)
    assert placed("continuum", here, program, "bash") == pinned
    teach(here, "bash", 1.0, 3.0)
    assert placed("continuum", here, program, "bash") == pinned  # mean 2 s
    teach(here, "bash", 2.1)
    assert placed("continuum", here, program, "bash") == KEEP
    assert placed("ttl", here, program, "bash").kind is PIN


def test_searched_retention_uses_the_recent_average_and_releases_on_return() -> None:
    here, program = cluster(), waiting()
    teach(here, "bash", 10.0, *[1.0] * 9)
    # The mean is 1.9 s; the exponential average 1 + 9 x 0.8^9 = 2.2 s.
    assert placed("searched", here, program, "bash") == Place(PIN, ttl_s=2.0)
    teach(here, "bash", 10.0)
    # Mean 2.6 s, average 3.8 s.
    assert placed("searched", here, program, "bash") == KEEP
    assert placed("continuum(slow_s=3)", here, program, "bash").kind is PIN


def test_ski_rental_pins_for_as_long_as_recomputing_takes() -> None:
    here = cluster()
    assert placed("ski_rental", here, waiting(context=20_000)).ttl_s == pytest.approx(2.0)
    assert placed("ski_rental(price=0.1)", here, waiting()).ttl_s == pytest.approx(10.0)
    assert placed("ttl", here, waiting(context=20_000)) == placed("ttl", here, waiting())


def test_pin_then_offload() -> None:
    here, program = cluster(dram=True), waiting()
    assert placed("pin_offload", here, program) == Place(PIN, ttl_s=1.0, ask_again_s=1.0)
    assert placed("pin_offload", here, program, elapsed_s=1.0) == offload("dram")
    assert placed("pin_offload", cluster(), program) == Place(PIN, ttl_s=1.0)


# --- Continuum, paper ----------------------------------------------------------------------------


def history(*durations_s: float) -> KindStatistics:
    kind = KindStatistics()
    for duration_s in durations_s:
        kind.learn(duration_s)
    return kind


def test_best_ttl_maximises_probability_times_benefit_less_time() -> None:
    # t = 1: .5 x 4 - 1 = 1; t = 2: .75 x 4 - 2 = 1; t = 3.5: 4 - 3.5 = .5; the first of equals.
    assert best_ttl_s([history(1.0, 1.0, 2.0, 3.5)], 4.0) == 1.0
    assert best_ttl_s([history(1.0, 1.0, 2.0, 3.5)], 10.0) == 3.5
    assert best_ttl_s([history(1.0, 1.0, 2.0, 3.5)], 1.0) == 0.0
    assert best_ttl_s([history(1.0), history(3.0)], 4.0) == 3.0  # parallel calls: the slower
    assert best_ttl_s([history(5.0)], 4.0) == 0.0


def test_continuum_paper_falls_back_from_tool_to_all_tools_to_the_default() -> None:
    here, program = cluster(), waiting(context=40_000)  # 4 s to recompute
    rule = residency("continuum_paper(enough=5)")
    teach(here, "bash", *[1.0] * 4)
    assert rule.place(gap(here, program, "bash")).ttl_s == 2.0
    assert rule.counts["default_ttl"] == 1
    teach(here, "grep", *[0.5] * 5)
    assert rule.place(gap(here, program, "grep")).ttl_s == 0.5
    assert rule.place(gap(here, program, "bash")).ttl_s == 1.0  # pooled: .5 s would hit 5 of 9
    teach(here, "sleep", *[30.0] * 5)
    assert rule.place(gap(here, program, "sleep")) == KEEP
    assert placed("continuum", here, program, "bash").ttl_s == 2.0


def test_continuum_paper_learns_the_queue_delay_of_evicted_turns() -> None:
    here, rule = cluster(), residency("continuum_paper(enough=1)")
    teach(here, "bash", 3.0)
    program = waiting(context=10_000)  # 1 s to recompute: not worth 3 s
    assert rule.place(gap(here, program, "bash")) == KEEP
    for cached, delay_s in ((900, 50.0), (0, 4.0)):  # the first hit: its delay does not count
        here.instances[0].cached = cached
        rule.dispatched(route(here, program, reuse=900), 0)
        program.phase_s[Phase.QUEUE] += delay_s
        rule.gap_began(gap(here, program, "bash"))
    assert list(rule._delays_s) == [4.0]  # type: ignore[attr-defined]
    assert rule.place(gap(here, program, "bash")).ttl_s == 3.0


def test_memoryfulness_is_one_for_equal_lengths_and_less_for_unequal_ones() -> None:
    def after(lengths: list[int]) -> float:
        here, rule = cluster(), residency("continuum_paper")
        for index, length in enumerate(lengths):
            program = waiting(index)
            for done in range(1, length):
                program.turns_done = done
                rule.gap_began(gap(here, program))
            del here.programs[index]
        other = waiting(999)
        for _ in range(64):
            rule.gap_began(gap(here, other))
        return rule._lengths.memoryfulness  # type: ignore[attr-defined,no-any-return]

    assert after([]) == 1.0
    assert after([9] * 6) == pytest.approx(1.0)
    assert after([2, 3, 40, 2, 80, 3]) < 0.5


# --- SAGA ----------------------------------------------------------------------------------------


def test_saga_ttl_is_the_p95_shortened_under_pressure() -> None:
    here, program = cluster(), waiting()
    assert placed("saga_ttl", here, program, "bash").ttl_s == 2.0
    for _ in range(200):
        teach(here, "bash", 2.0, 8.0)
    kind = here.tools.kind("bash")
    assert kind is not None
    p95 = exp(kind.log_mean + 1.6448536 * kind.log_variance**0.5)
    assert 6.0 < p95 < 16.0
    assert placed("saga_ttl", here, program, "bash").ttl_s == pytest.approx(p95)
    here.instances[0] = FakeInstance(0, free_blocks=200)  # utilisation 0.8
    assert placed("saga_ttl", here, program, "bash").ttl_s == pytest.approx(0.75 * p95)
    here.instances[0] = FakeInstance(0, free_blocks=0)
    assert placed("saga_ttl", here, program, "bash").ttl_s == pytest.approx(0.5 * p95)
    assert placed("saga_ttl(most_s=3)", here, program, "bash").ttl_s == 3.0


def test_saga_order_prefers_recent_small_and_likely_reused_contexts() -> None:
    here, rule = cluster(), residency("saga_lru")

    def rank(context: int, tool: str = "bash", time_s: float = 0.0) -> float:
        return rule.place(gap(here, waiting(context=context), tool, time_s=time_s)).rank

    largest = rank(10_000)
    assert rank(10_000, time_s=100.0) - largest == pytest.approx(0.1)  # 0.3 x 100 / 300
    assert rank(5_000) - largest == pytest.approx(0.1)  # 0.2 x a half
    program = waiting(context=10_000)
    rule.place(gap(here, program, "cat"))
    rule.turn_ready(route(here, program))  # 1000 new tokens came
    assert largest - rank(10_000, "cat") == pytest.approx(0.5 * 1000 / 11_000)
    assert largest < -1e5  # below contexts without a rank


# --- InferCept -----------------------------------------------------------------------------------


def test_forward_time_is_fitted_below_the_knee() -> None:
    class Linear:
        def step_s(self, step):  # type: ignore[no-untyped-def]
            return 0.005 + 1e-5 * step.prefill_tokens

    forward = fit_forward(Linear())  # type: ignore[arg-type]
    assert forward.per_token_s == pytest.approx(1e-5)
    assert forward.fixed_s == pytest.approx(0.005)
    # x / T(x) is within 2 % of its value at 8192 from x = 7168 or so on.
    assert 6000 <= forward.knee_tokens <= 7500


def test_waste_of_recompute_is_equation_four() -> None:
    forward = ForwardTime(per_token_s=1e-5, fixed_s=0.01, knee_tokens=1000)
    # h = 1000 - 200 = 800; n = ceil(4000 / 800) - 1 = 4; T(S) = 0.02 s.
    expected = 0.02 * 4 * 5 / 2 * 800 + 1e-5 * 800 * 4 * 5000 + 1e-5 * (4000 - 3200) * 5000
    assert waste_of_recompute(forward, 4000, 200, 5000) == pytest.approx(expected)
    assert waste_of_recompute(forward, 100, 5000, 0) == pytest.approx(0.02 * 99 * 100 / 2 * 1)


def test_infercept_preserves_at_first_and_discards_later() -> None:
    here, program = cluster(), waiting()
    first = placed("infercept_no_swap", here, program)
    assert first.kind is PIN
    assert first.ask_again_s is not None
    assert first.ttl_s > first.ask_again_s
    assert placed("infercept_no_swap", here, program, elapsed_s=100.0) == KEEP


def test_infercept_decides_by_the_load_not_by_the_context_alone() -> None:
    """Without its load term the rule is 'keep if the context is long'."""
    program = waiting(context=4000)
    idle = FakeCluster(FakeInstance(0))
    loaded = FakeCluster(FakeInstance(0, context_tokens=500_000, decoding_turns=60))
    assert placed("infercept_no_swap", idle, program, elapsed_s=1.0) == KEEP
    assert placed("infercept_no_swap", loaded, program, elapsed_s=1.0).kind is PIN


def test_infercept_swaps_within_the_links_budget_largest_waste_first() -> None:
    busy = FakeInstance(0, context_tokens=100_000, decoding_turns=10)
    here = FakeCluster(busy, dram=True)  # preserving wastes less for about a second
    rule = residency("infercept")
    small, large, last = (
        waiting(index, context=context) for index, context in enumerate((2000, 9000, 8000))
    )
    assert rule.place(gap(here, small)).kind is PIN  # nothing wasted yet
    assert rule.place(gap(here, large)).kind is PIN
    assert rule.place(gap(here, last, time_s=0.1)).kind is PIN
    asked = {"elapsed_s": 0.2, "time_s": 0.2}
    assert rule.place(gap(here, small, **asked)).kind is PIN  # the large one wastes more
    assert rule.place(gap(here, large, **asked)).tier == "dram"
    assert rule.place(gap(here, last, elapsed_s=0.2, time_s=0.3)).kind is PIN  # overdrawn
    assert placed("infercept_no_swap", here, large, **asked).tier != "dram"
    # In 5 s the link has moved the 9000 tokens.
    assert rule.place(gap(here, last, elapsed_s=4.9, time_s=5.0)).tier == "dram"
    assert rule.counts == {"swapped": 2, "discarded": 0, "preserved": 5}


def test_infercepts_budget_pays_for_what_dram_does_not_hold_yet() -> None:
    busy = FakeInstance(0, context_tokens=100_000, decoding_turns=10)
    swapped = {}
    for known in (0, 8992):
        here = FakeCluster(busy, dram=True)
        rule = residency("infercept")
        first, second = (waiting(index, context=9000) for index in range(2))
        here.chains[(0, "dram")] = known
        rule.place(gap(here, first))
        rule.place(gap(here, second))
        rule.place(gap(here, first, elapsed_s=0.2, time_s=0.2))
        place = rule.place(gap(here, second, elapsed_s=0.2, time_s=0.2001))
        swapped[known] = place.tier == "dram"
    assert swapped == {0: False, 8992: True}


def test_infercept_queues_by_arrival_of_the_program() -> None:
    for name in ("infercept", "infercept_no_swap"):
        scheduling = parse_policy(name).scheduling  # type: ignore[attr-defined]
        assert scheduling == parse_policy("program_fcfs").scheduling  # type: ignore[attr-defined]
    assert parse_policy("tokencake").name == "affinity+tokencake"


# --- offload and prefetch ------------------------------------------------------------------------


def pressed(**options) -> FakeCluster:  # type: ignore[no-untyped-def]
    return FakeCluster(FakeInstance(0, free_blocks=50, queued_turns=1), dram=True, **options)


def test_tokencake_offloads_only_under_pressure_with_someone_waiting() -> None:
    program = waiting(context=4000)
    here = pressed()
    teach(here, "bash", 10.0)
    moving_s = here.offload_s(program, None, 4000)  # type: ignore[arg-type]
    answer = placed("tokencake", here, program, "bash")
    assert answer.tier == "dram"
    assert answer.ask_again_s == pytest.approx(10.0 - moving_s - 0.1)
    assert placed("tokencake", here, program, "bash", elapsed_s=9.0).kind is PlacementKind.PREFETCH
    nobody = FakeCluster(FakeInstance(0, free_blocks=50), dram=True)
    roomy = FakeCluster(FakeInstance(0, queued_turns=1), dram=True)
    for calm in (nobody, roomy):
        teach(calm, "bash", 10.0)
        assert placed("tokencake", calm, program, "bash") == KEEP
        assert placed("dram", calm, program, "bash").tier == "dram"
    teach(here, "cat", 2 * moving_s)
    assert placed("tokencake", here, program, "cat") == KEEP


def test_tokencake_prices_what_dram_does_not_hold_yet() -> None:
    program = waiting(context=4000)
    here = pressed()
    back_s = here.load_s(0, "dram", 4000)
    teach(here, "bash", 1.5 * back_s)
    assert placed("tokencake", here, program, "bash") == KEEP  # out and back take twice that
    here.chains[(program.index, "dram")] = 3200
    answer = placed("tokencake", here, program, "bash")
    assert answer.tier == "dram"
    assert answer.ask_again_s == pytest.approx(max(0.5 * back_s - 0.1, 0.2 * back_s))


def test_kvflow_evicts_the_farthest_step_first_and_prefetches() -> None:
    here = cluster(dram=True)
    teach(here, "bash", 10.0)
    teach(here, "cat", 1.0)
    far = placed("kvflow", here, waiting(0), "bash")
    near = placed("kvflow", here, waiting(1), "cat")
    assert far.rank < near.rank < 0
    assert far.tier == "dram"
    assert far.stay_warm
    assert far.ask_again_s is not None
    assert 5.0 < far.ask_again_s < 10.0
    parent = waiting(2)
    here.programs[3] = make_program(3, parent=parent)
    joining = placed("kvflow", here, parent, "cat")
    assert joining.rank < far.rank
    again = placed("kvflow", here, waiting(0), "bash", elapsed_s=8.0, time_s=8.0)
    assert again == Place(PlacementKind.PREFETCH, rank=far.rank)


def test_kvbm_copies_to_cxl_what_was_used_twice() -> None:
    both = cluster(dram=True, cxl=True)
    once, twice = waiting(0), make_program(1, turns_done=2, home=0, context=100)
    assert placed("kvbm", both, once) == offload("dram", stay_warm=True)
    assert placed("kvbm", both, twice) == offload("dram", stay_warm=True, ask_again_s=0.05)
    assert placed("kvbm", both, twice, elapsed_s=0.05) == offload("cxl", stay_warm=True)


def test_unison_moves_what_fits_the_gap() -> None:
    both = cluster(dram=True, cxl=True)  # 1 GB/s to DRAM, a quarter of it to CXL
    program = waiting(context=10_000)  # 1.31 s
    teach(both, "slow", 2.7)
    teach(both, "fast", 2.5)
    assert placed("unison", both, program, "slow").tier == "dram"
    assert placed("unison", both, program, "fast") == KEEP
    only_cxl = cluster(cxl=True)
    teach(only_cxl, "slow", 2.7)
    teach(only_cxl, "slower", 10.6)
    assert placed("unison", only_cxl, program, "slow") == KEEP
    assert placed("unison", only_cxl, program, "slower").tier == "cxl"


def test_unison_prices_what_a_tier_does_not_hold_yet() -> None:
    here, program = cluster(dram=True, cxl=True), waiting(context=10_000)  # 1.31 s
    teach(here, "fast", 0.5)
    assert placed("unison", here, program, "fast") == KEEP
    here.chains[(program.index, "cxl")] = 10_000
    assert placed("unison", here, program, "fast").tier == "cxl"  # nothing to move
    here.chains[(program.index, "dram")] = 8800
    assert placed("unison", here, program, "fast").tier == "dram"  # .16 s


def test_kvbm_serves_a_lone_tier_and_filters_it_only_if_it_is_a_disk() -> None:
    once, twice = waiting(0), make_program(1, turns_done=2, home=0, context=100)
    verdicts = {}
    for tier in ("dram", "cxl", "nvme"):
        here = cluster()
        here.tiers = (tier,)
        rule = residency("kvbm")
        verdicts[tier] = [rule.place(gap(here, program)) for program in (once, twice)]
        assert placed("write_through", here, once) == offload(tier, stay_warm=True)
        assert rule.counts["copied"] == 2 - (tier == "nvme")
    copies = {tier: offload(tier, stay_warm=True) for tier in verdicts}
    assert verdicts == {tier: [copies[tier]] * 2 for tier in ("dram", "cxl")} | {
        "nvme": [KEEP, copies["nvme"]]
    }


def test_mori_ranks_by_idleness_into_hbm_dram_and_waiting() -> None:
    here = FakeCluster(FakeInstance(0, kv_blocks=1000), dram=True, now_s=100.0)
    here.dram_tokens = 10_000
    rule = residency("mori")
    programs = []
    for index, gap_s in enumerate((1.0, 5.0, 50.0)):
        program = waiting(index, context=9000)
        program.gap_total_s, program.attained_service_s = gap_s, 10.0
        rule.dispatched(route(here, program), 0)
        rule.gap_began(gap(here, program))
        programs.append(program)
    busy, middle, idle = (rule.place(gap(here, program)) for program in programs)
    assert busy == Place(PIN, ttl_s=10.0, ask_again_s=5.0)
    assert (middle.tier, middle.ask_again_s) == ("dram", 5.0)
    assert idle.kind is PlacementKind.KEEP
    assert idle.rank < 0
    here.now_s = 106.0
    del here.programs[0]  # the busiest is done: room for the next
    again = rule.place(gap(here, programs[1], elapsed_s=6.0))
    assert again.kind is PlacementKind.PREFETCH
    assert rule.counts == {"demoted": 1, "pinned": 1, "promoted": 1, "given_up": 1}


def test_idleness_counts_the_ongoing_gap_and_only_five_cycles() -> None:
    here = FakeCluster(FakeInstance(0), now_s=0.0)
    rule = residency("mori")
    ranking = rule._ranking  # type: ignore[attr-defined]
    program = waiting()
    for cycle in range(6):
        program.gap_total_s = 100.0 + cycle  # the first 100 s leave the window
        program.attained_service_s = 1.0 + cycle
        rule.gap_began(gap(here, program))
    assert ranking.idleness(program, 0.0) == pytest.approx(0.5)
    assert ranking.idleness(program, 5.0) == pytest.approx(10 / 15)
    program.status = ProgramStatus.QUEUED
    assert ranking.idleness(program, 5.0) == pytest.approx(0.5)


def test_a_farther_tier_holds_what_the_nearest_cannot() -> None:
    """Contexts outgrow HBM and DRAM of the preset: what only DRAM holds is computed again."""
    content = load_scenario("nvme").model_dump()
    content["workload"]["programs"] = 20
    scenario = load_scenario(content)
    near, far = (
        run_policy(Simulation(scenario, 0), parse_policy(f"affinity+{name}"))
        for name in ("write_through", "kvbm")
    )
    assert near["counters"]["write_through.copied"] > 0
    assert near["residency"]["offloads"]["nvme"] == near["hit_tokens"]["nvme"] == 0
    assert far["counters"]["kvbm.copied_far"] >= far["residency"]["offloads"]["nvme"] > 0
    assert far["hit_tokens"]["nvme"] > far["hit_tokens"]["dram"]
    assert far["recomputed_tokens"] < near["recomputed_tokens"] / 2
    assert far["mean_jct_s"]["all"] < near["mean_jct_s"]["all"]
