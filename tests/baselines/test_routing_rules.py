"""Each routing rule in a built setup, next to one that decides differently there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from baseline_helpers import (
    BLOCK,
    FakeCluster,
    FakeInstance,
    StepLatency,
    gap,
    inline,
    inline_program,
    instances,
    make_program,
    route,
    run_named,
)

from agentserve_gym.baselines import Routing, parse_policy
from agentserve_gym.baselines.routing import preble
from agentserve_gym.hardware import BatchStep
from agentserve_gym.sim import Phase


def routing(name: str) -> Routing:
    policy = parse_policy(name)
    return policy.routing  # type: ignore[attr-defined,no-any-return]


def chosen(name: str, *arguments, **more) -> tuple[int, str]:  # type: ignore[no-untyped-def]
    return tuple(routing(name).choose(route(*arguments, **more)))  # type: ignore[return-value]


def test_round_robin_cycles_and_a_held_turn_takes_no_place_in_the_cycle() -> None:
    cluster = FakeCluster(*instances(3))
    rule = routing("round_robin")
    decisions = [route(cluster, make_program(index)) for index in range(4)]
    seen = []
    for decision in decisions:
        assert rule.choose(decision) == rule.choose(decision)
        seen.append(rule.choose(decision).instance)
        rule.dispatched(decision, seen[-1])
    assert seen == [0, 1, 2, 0]


def test_random_spreads_evenly_and_depends_on_the_asker_alone() -> None:
    cluster = FakeCluster(*instances(4))
    rule = routing("random(seed=1)")
    picks = [rule.choose(route(cluster, make_program(index))).instance for index in range(400)]
    again = [rule.choose(route(cluster, make_program(index))).instance for index in range(400)]
    assert picks == again
    assert all(70 <= picks.count(instance) <= 130 for instance in range(4))
    other = routing("random(seed=2)")
    assert picks != [other.choose(route(cluster, make_program(i))).instance for i in range(400)]


def test_least_loaded_ignores_home_affinity_does_not() -> None:
    cluster = FakeCluster(*instances(3, sent_turns=[5, 3, 1]))
    program = make_program(turns_done=1, home=0)
    assert chosen("least_loaded", cluster, program) == (2, "choices")
    assert chosen("affinity", cluster, program) == (0, "kept_home")
    assert chosen("affinity", cluster) == (2, "new")


def test_power_of_two_takes_the_better_of_two_not_of_all() -> None:
    cluster = FakeCluster(*instances(8, sent_turns=[0, 9, 9, 9, 9, 9, 9, 9]))
    rule = routing("power_of_two")
    picks = [rule.choose(route(cluster, make_program(index))).instance for index in range(200)]
    found = picks.count(0)
    assert 25 <= found <= 80  # 2/8 of the pairs hold instance 0; least_loaded would find it always
    assert routing("power_of_two").choose(route(FakeCluster(FakeInstance(0)))).instance == 0


def test_affinity_gives_way_at_the_cap() -> None:
    program = make_program(turns_done=1, home=0)
    below = FakeCluster(*instances(2, sent_turns=[15, 0]))
    at = FakeCluster(*instances(2, sent_turns=[16, 0]))
    assert chosen("affinity_cap", below, program) == (0, "kept_home")
    assert chosen("affinity_cap", at, program) == (1, "moved")
    assert chosen("affinity", at, program) == (0, "kept_home")


def test_stickiness_ends_with_the_backlog_not_with_the_number_of_turns() -> None:
    program = make_program(turns_done=1, home=0)
    busy = FakeCluster(*instances(2, sent_turns=[40, 0], prefill_backlog_tokens=[286_720, 0]))
    saturated = FakeCluster(*instances(2, sent_turns=[2, 5], prefill_backlog_tokens=[286_721, 9]))
    assert chosen("sticky_saturated", busy, program) == (0, "kept_home")
    assert chosen("affinity_cap", busy, program) == (1, "moved")
    assert chosen("sticky_saturated", saturated, program) == (1, "moved")
    assert chosen("affinity_cap", saturated, program) == (0, "kept_home")


def test_autellix_balances_short_prompts_and_keeps_long_ones_home() -> None:
    cluster = FakeCluster(*instances(2, sent_turns=[5, 0]))
    short = make_program(prompt=2048, turns_done=1, home=0)
    long = make_program(prompt=2049, turns_done=1, home=0)
    assert chosen("autellix", cluster, short) == (1, "short")
    assert chosen("autellix", cluster, long) == (0, "kept_home")
    assert chosen("affinity", cluster, short) == (0, "kept_home")


def test_sglang_needs_more_than_half_and_balanced_loads() -> None:
    half = FakeCluster(*instances(2, cached=[500, 0], sent_turns=[4, 0]))
    more = FakeCluster(*instances(2, cached=[501, 0], sent_turns=[4, 0]))
    assert chosen("sglang", half) == (1, "unmatched")
    assert chosen("sglang", more) == (0, "matched")
    at_32 = FakeCluster(*instances(2, cached=[1000, 0], sent_turns=[32, 0]))
    at_33 = FakeCluster(*instances(2, cached=[1000, 0], sent_turns=[33, 0]))
    assert chosen("sglang", at_32) == (0, "matched")
    assert chosen("sglang", at_33) == (1, "imbalanced")


def test_ray_matches_from_a_tenth_and_fills_the_emptiest_cache() -> None:
    tenth = FakeCluster(*instances(2, cached=[100, 0], sent_turns=[4, 0]))
    assert chosen("ray", tenth) == (0, "matched")
    assert chosen("sglang", tenth) == (1, "unmatched")
    low = FakeCluster(*instances(2, cached=[99, 0], free_blocks=[900, 100], sent_turns=[4, 0]))
    assert chosen("ray", low) == (0, "unmatched")
    spread = FakeCluster(*instances(2, cached=[1000, 0], sent_turns=[10, 0]))
    assert chosen("ray", spread) == (1, "imbalanced")


def test_llmd_weighs_three_parts_prefix_against_two_parts_queue() -> None:
    strong = FakeCluster(*instances(2, cached=[672, 0], queued_turns=[9, 0]))
    weak = FakeCluster(*instances(2, cached=[656, 0], queued_turns=[9, 0]))
    assert chosen("llmd", strong) == (0, "matched")  # 3 * 0.672 > 2
    assert chosen("llmd", weak) == (1, "unmatched")  # 3 * 0.656 < 2
    assert chosen("llmd(queue=0.5)", weak) == (0, "matched")


def test_dynamo_trades_overlap_against_decode_blocks() -> None:
    # Prompt 1000 tokens = 63 blocks; instance 0 has 40 of them but decodes 640 tokens = 40 blocks.
    tie = FakeCluster(*instances(2, cached=[640, 0], context_tokens=[640, 0], sent_turns=[1, 0]))
    assert chosen("dynamo", tie) == (1, "plain")
    less = FakeCluster(*instances(2, cached=[640, 0], context_tokens=[624, 0], sent_turns=[1, 0]))
    assert chosen("dynamo", less) == (0, "overlapped")
    assert chosen("dynamo(overlap=0.5)", less) == (1, "plain")
    assert chosen("sglang", tie) == (0, "matched")


def test_dynamo_credits_lower_tiers_less() -> None:
    cluster = FakeCluster(*instances(3, cached=[0, 480, 0]), dram=True, cxl=True)
    cluster.tier[(0, "dram")] = 640  # 40 blocks x 0.75 = 30 = device credit of instance 1
    assert chosen("dynamo(host=0.7)", cluster)[0] == 1
    assert chosen("dynamo(host=0.8)", cluster)[0] == 0
    cluster.tier[(2, "cxl")] = 992
    assert chosen("dynamo(pool=0.5)", cluster)[0] == 2  # 31 blocks


def test_dynamo_never_credits_more_than_there_is_to_prefill() -> None:
    cluster = FakeCluster(*instances(2, cached=[640, 0], context_tokens=[1200, 0]))
    assert chosen("dynamo(overlap=100)", cluster) == (1, "plain")


def test_dynamo_with_temperature_spreads_by_cost() -> None:
    cluster = FakeCluster(*instances(2, context_tokens=[0, 16_000]))
    rule = routing("dynamo(temperature=1.0)")
    picks = [rule.choose(route(cluster, make_program(index))).instance for index in range(1000)]
    expected = 1000 / (1 + 2.718281828)  # softmax of costs 0 and 1
    assert picks.count(1) == pytest.approx(expected, rel=0.15)
    assert chosen("dynamo", cluster)[0] == 0


def test_lmetric_multiplies_prefill_and_batch() -> None:
    # (0 + 400) * 4 = 1600 against (0 + 1000) * 1 = 1000: dynamo would follow the overlap.
    cluster = FakeCluster(*instances(2, cached=[600, 0], decoding_turns=[3, 0]))
    assert chosen("lmetric", cluster) == (1, "unmatched")
    assert chosen("dynamo", cluster) == (0, "overlapped")
    closer = FakeCluster(*instances(2, cached=[800, 0], decoding_turns=[3, 0]))
    assert chosen("lmetric", closer) == (0, "matched")


def test_smetric_leaves_the_match_only_when_the_objective_is_at_risk() -> None:
    program = make_program(turns_done=1, home=0)
    fields = {"cached": [800, 0], "decoding_turns": [30, 0], "sent_turns": [30, 0]}
    calm = FakeCluster(*instances(2, prefill_backlog_tokens=[39_000, 0], **fields))
    late = FakeCluster(*instances(2, prefill_backlog_tokens=[41_000, 0], **fields))
    assert chosen("smetric", calm, program) == (0, "matched")  # 3.92 s of 4 s
    assert chosen("lmetric", calm, program) == (1, "unmatched")
    assert chosen("smetric", late, program) == (1, "relieved")
    assert chosen("smetric", calm) == (1, "first_turn")


def test_dualmap_stays_within_its_pair() -> None:
    cluster = FakeCluster(*instances(6))
    rule = routing("dualmap")
    for index in range(30):
        program = make_program(index)
        pair = set(rule._pair(route(cluster, program)))  # type: ignore[attr-defined]
        assert len(pair) == 2
        assert rule.choose(route(cluster, program)).instance in pair
    first, second = rule._pair(route(cluster, make_program(0)))  # type: ignore[attr-defined]
    cluster.instances[second].cached = 500
    assert rule.choose(route(cluster, make_program(0))) == (second, "affine")
    late = FakeInstance(second, cached=500, prefill_backlog_tokens=60_000)
    cluster.instances[second] = late
    assert rule.choose(route(cluster, make_program(0))) == (first, "relieved")
    assert routing("dualmap").choose(route(FakeCluster(FakeInstance(0)))).instance == 0


def test_mooncake_transfers_a_longer_copy_if_that_is_sooner() -> None:
    copy = SimpleNamespace(tier=0, source=0, blocks=50, end_s=0.02)
    queues = {"cached": [800, 0], "prefill_backlog_tokens": [900, 0]}
    cluster = FakeCluster(*instances(2, **queues))
    # Home: 0.09 + 0.02 s; instance 1: 0.1 s alone, 0.04 s with the copy.
    assert chosen("mooncake(ratio=1.5)", cluster) == (1, "local")
    cluster = FakeCluster(*instances(2, cached=[800, 0], prefill_backlog_tokens=[500, 0]))
    assert chosen("mooncake", cluster) == (0, "local")  # 0.07 against 0.1
    cluster.copies[1] = [copy]
    assert chosen("mooncake", cluster) == (1, "transfers")  # 0.04
    cluster.instances[1].cached = 640
    assert chosen("mooncake(ratio=2)", cluster) == (1, "local")  # not twice as long


def test_preble_exploits_above_half_and_explores_by_window_load() -> None:
    cluster = FakeCluster(*instances(2, cached=[501, 0]))
    rule = routing("preble")
    decision = route(cluster)
    assert rule.choose(decision) == (0, "exploited")
    cluster.instances[0].cached = 400
    assert rule.choose(decision) == (0, "explored")  # less to prefill
    for _ in range(2):
        rule.dispatched(decision, 0)
    assert rule.choose(decision) == (1, "explored")  # 0.12 s were sent to instance 0
    later = route(cluster, time_s=181.0)
    assert rule.choose(later) == (0, "explored")  # the window forgot them
    assert chosen("sglang", cluster) == (0, "unmatched")


def test_preble_replicates_a_hot_prompt_but_keeps_sessions() -> None:
    cluster = FakeCluster(*instances(2, cached=[900, 0]))
    rule = routing("preble")
    decision = route(cluster)
    assert rule.choose(decision) == (0, "exploited")
    rule.dispatched(decision, 0)
    assert rule.choose(decision) == (1, "rebalanced")
    assert rule.choose(route(cluster, make_program(turns_done=1, home=0))) == (0, "exploited")


def test_preble_counts_what_would_be_evicted_and_decode_time() -> None:
    """Exploring instance 0 saves .03 s of prefill and evicts .07 s of it, if all of it returns."""
    program = make_program(turns_done=2, home=0, context=1000)
    program.phase_s[Phase.DECODE] = 8.0
    for turns, expected in ((1, 0), (9, 1)):
        cluster = FakeCluster(*instances(2, free_blocks=[0, 1000], cached_blocks=[1000, 0]))
        rule = routing("preble")
        rule.gap_began(gap(cluster, program))
        # What goes first is the context of a program with 1 or 9 of the window's 10 turns there;
        # the other instance was sent as much.
        victim, other = make_program(1), make_program(2)
        order = [victim] * turns + [other] * (10 - turns)
        for sent in (*order, other):
            for instance in (0, 1):
                rule.dispatched(route(cluster, sent), instance)
        cluster.instances[0].cached = 300
        assert rule.choose(route(cluster)) == (expected, "explored")
    assert chosen("lmetric", cluster)[0] == 0


def test_preble_forgets_contexts_that_the_pool_cannot_hold() -> None:
    window = preble._Window()
    for index in range(5):
        window.add(preble._Sent(0.0, 1.0, index), 4000, pool_tokens=16_000)
    assert window.evicted(5000, besides=2) == [(4000, 0, 0.2), (1000, 3000, 0.2)]
    assert [gone for gone, _, _ in window.evicted(10**6, besides=2)] == [4000] * 3  # 0 is forgotten
    window.forget_before(1.0)
    assert window.load_s == 0.0
    assert window.evicted(4000, besides=2) == [(4000, 0, 0.0)]


def test_an_idle_instance_steals_what_waits_at_the_router() -> None:
    """The home has one turn and two more are held for it; the other is idle since 1 s."""
    program = make_program(turns_done=1, home=0)
    loads = {"sent_turns": [3, 1, 1], "queued_turns": [1, 0, 0], "cached": [160, 0, 0]}
    cluster = FakeCluster(*instances(3, **loads))
    rule = routing("work_stealing")
    assert rule.choose(route(cluster, program, time_s=1.0)) == (0, "kept_home")  # nobody is idle
    cluster.instances[1].sent_turns = 0
    assert rule.choose(route(cluster, program, time_s=1.05)) == (0, "kept_home")  # for .05 s
    assert rule.choose(route(cluster, program, time_s=1.2)) == (1, "stolen")  # 4 > 2 x 1
    assert chosen("affinity", cluster, program) == (0, "kept_home")
    cluster.instances[0].sent_turns = 1
    assert rule.choose(route(cluster, program, time_s=1.2)) == (0, "kept_home")
    for index in (1, 2):  # turns held for the home are its load, too
        rule.turn_held(route(cluster, make_program(index, turns_done=1, home=0), time_s=1.2))
    assert rule.choose(route(cluster, program, time_s=1.2)) == (1, "stolen")


def test_a_home_that_is_full_or_has_forgotten_a_context_is_left_for_the_least_loaded() -> None:
    program = make_program(turns_done=1, home=0)
    rule = routing("work_stealing")
    for cached, free_blocks, answer in (
        (160, 300, (0, "kept_home")),
        (160, 200, (1, "left_home")),  # .8 of 1000 blocks are in use
        (0, 300, (1, "left_home")),
    ):
        loads = {"sent_turns": [3, 1, 2], "cached": [cached, 0, 0]}
        cluster = FakeCluster(*instances(3, free_blocks=[free_blocks, 1000, 1000], **loads))
        assert rule.choose(route(cluster, program, time_s=0.05)) == answer


def test_work_is_stolen_from_the_routers_queue_in_a_run() -> None:
    """Every other program is short, so that all the long ones make one instance their home; its
    pool holds one of them at a time."""
    long = [(100, 5, 1.0)] + [(5000, 200, 1.0)] * 3
    programs = [
        inline_program(*((100, 5, 0.0),) if number % 2 else long, arrival_s=0.001 * number)
        for number in range(8)
    ]
    scenario = inline(programs, instances=2, kv_blocks=1200)
    stealing = run_named("work_stealing+short_queue", scenario)
    assert stealing["counters"]["work_stealing.stolen"] > 0
    assert stealing["counters"]["short_queue.held"] > 0
    assert stealing["jct_s"]["mean"] < run_named("affinity", scenario)["jct_s"]["mean"]


def test_greedy_counts_the_delay_of_others_and_what_it_evicts() -> None:
    """1000 tokens take .1 s; a step takes 10 ms and 10 us a token."""
    busy = FakeCluster(*instances(2, cached=[990, 0], decoding_turns=[0, 40]))
    assert chosen("greedy", busy) == (0, "new")
    # At home 400 uncached tokens hold up ten turns: .4 s, which saves .06 s of prefill.
    program = make_program(turns_done=1, home=0)
    crowd = FakeCluster(*instances(2, cached=[600, 0], decoding_turns=[10, 0]))
    assert chosen("greedy", crowd, program) == (1, "moved")
    assert chosen("sglang", crowd, program) == (0, "matched")
    # Both queues are empty, but instance 1 would have to evict what others come back to.
    full = [FakeInstance(0, cached=500), FakeInstance(1, cached=500, free_blocks=0)]
    full[0].state = full[0].state._replace(prefill_backlog_tokens=100)
    full[1].state = full[1].state._replace(cached_blocks=1000)
    assert chosen("greedy", FakeCluster(*full)) == (0, "new")
    assert chosen("greedy(eviction=0)", FakeCluster(*full)) == (1, "new")


def test_greedy_prices_a_load_where_a_copy_can_be_restored() -> None:
    cluster = FakeCluster(*instances(2, prefill_backlog_tokens=[300, 0]))
    program = make_program(turns_done=1, home=0)
    assert chosen("greedy", cluster, program) == (1, "moved")
    cluster.copies[0] = [SimpleNamespace(tier=1, source=-1, blocks=62, end_s=0.01)]
    assert chosen("greedy", cluster, program) == (0, "kept_home")
    assert chosen("lmetric", cluster, program)[0] == 1


def test_greedy_sends_work_to_the_faster_of_unequal_instances() -> None:
    class Slow(StepLatency):
        def step_s(self, step: BatchStep) -> float:
            return 4.0 * super().step_s(step)

    cluster = FakeCluster(*instances(2, decoding_turns=[0, 1]))
    cluster.instances[0].latency = Slow()
    assert chosen("greedy", cluster)[0] == 1
    assert chosen("lmetric", cluster)[0] == 0


def test_owner_keeps_home_while_a_copy_is_there() -> None:
    program = make_program(turns_done=1, home=0)
    cluster = FakeCluster(*instances(2, sent_turns=[5, 0]))
    assert chosen("owner", cluster, program, reuse=900) == (1, "rehomed")
    assert chosen("affinity", cluster, program) == (0, "kept_home")
    cluster.tier[(0, "dram")] = 480
    assert chosen("owner", cluster, program, reuse=900) == (0, "kept_home")
    level = FakeCluster(*instances(2, sent_turns=[1, 1]))
    assert chosen("owner", level, program, reuse=900) == (0, "kept_home")


def test_blocks_are_rounded_up() -> None:
    cluster = FakeCluster(*instances(2, context_tokens=[BLOCK + 1, 2 * BLOCK]))
    assert chosen("dynamo", cluster)[0] == 0  # equal costs of two blocks: the first
