"""Each admission rule in a built setup, next to one that decides differently there."""

from __future__ import annotations

import pytest
from baseline_helpers import (
    BLOCK,
    FakeCluster,
    FakeInstance,
    gap,
    inline,
    inline_program,
    make_program,
    route,
    run_named,
)

from agentserve_gym.baselines import Admission, parse_policy
from agentserve_gym.baselines.contexts import SharedContexts
from agentserve_gym.sim import Hold, ProgramStatus


def admission(name: str) -> Admission:
    return parse_policy(name).admission  # type: ignore[attr-defined,no-any-return]


def admits(rule: Admission, *arguments, **more) -> bool:  # type: ignore[no-untyped-def]
    """Ask, and carry out what follows."""
    decision = route(*arguments, **more)
    yes = rule.admits(decision, 0)
    if yes:
        rule.dispatched(decision, 0)
        decision.cluster.instances[0].sent_turns += 1
        decision.program.status = ProgramStatus.QUEUED
    else:
        rule.turn_held(decision)
    return yes


def test_gate_holds_what_does_not_fit_a_full_pool() -> None:
    """Pools of 1000 blocks; the prompt takes 1000 tokens, 62.5 blocks."""
    rule = admission("gate")
    full = FakeCluster(FakeInstance(0, free_blocks=20, cached_blocks=42))
    fits = FakeCluster(FakeInstance(0, free_blocks=20, cached_blocks=43))
    roomy = FakeCluster(FakeInstance(0, free_blocks=100))
    assert not admits(rule, full)
    assert admits(rule, fits)
    assert admits(rule, roomy, make_program(prompt=9000))  # utilisation 0.9: the gate is open
    assert admits(admission("none"), full)
    assert rule.counts == {"held": 1, "admitted_pinned": 0, "admitted": 2}
    assert rule.hold(route(full), 1) == Hold(lane=1)


def test_gate_counts_only_the_uncached_part_and_lets_pinned_contexts_in() -> None:
    full = FakeCluster(FakeInstance(0, free_blocks=20, cached=800))
    assert admits(admission("gate"), full)
    empty_handed = FakeCluster(FakeInstance(0, free_blocks=20))
    assert not admits(admission("gate"), empty_handed)
    empty_handed.pinned = {0}
    rule = admission("gate")
    assert admits(rule, empty_handed)
    assert rule.counts["admitted_pinned"] == 1


def test_gate_counts_turns_that_signals_do_not_show_yet() -> None:
    """Two turns of 63 blocks each at once, room for one: the second must see the first."""
    rule = admission("gate")
    stale = FakeCluster(FakeInstance(0, free_blocks=70))
    assert admits(rule, stale, make_program(0))
    assert not admits(rule, stale, make_program(1))
    seen = FakeCluster(FakeInstance(0, free_blocks=70, queued_turns=1, queued_tokens=1000))
    seen.instances[0].sent_turns = 1
    assert not admits(admission("gate"), seen, make_program(2))


def test_working_set_counts_started_contexts_even_in_gaps() -> None:
    cluster = FakeCluster(FakeInstance(0))  # 16,000 tokens, all free
    rule, gate = admission("working_set"), admission("gate")
    older = make_program(0, prompt=9000)
    assert admits(rule, cluster, older)
    older.context_tokens, older.turns_done, older.home = 9500, 1, 0
    gap(cluster, older)
    young = make_program(1, prompt=7000)
    assert not admits(rule, cluster, young)
    assert admits(gate, cluster, young)
    assert admits(rule, cluster, older)  # later turns always
    del cluster.programs[0]
    assert admits(rule, cluster, young)


def test_working_set_never_refuses_an_empty_instance() -> None:
    cluster = FakeCluster(FakeInstance(0))
    assert admits(admission("working_set(share=0.1)"), cluster, make_program(prompt=9000))


def test_concur_cuts_its_window_when_full_and_cold_and_grows_when_it_limits() -> None:
    cluster = FakeCluster(FakeInstance(0, free_blocks=100, prompt_tokens=10_000), now_s=10.0)
    rule = admission("concur(start=4)")
    assert admits(rule, cluster, make_program(0))  # first tick: 90 % used, no hits: 4 -> 2
    assert rule.counts["cut"] == 1
    assert admits(rule, cluster, make_program(1))
    assert not admits(rule, cluster, make_program(2))
    cluster.instances[0] = FakeInstance(0, free_blocks=900, prompt_tokens=10_000)
    assert not admits(rule, cluster, make_program(2), time_s=10.5)  # no tick yet
    assert admits(rule, cluster, make_program(2), time_s=11.1)  # 10 % used: 2 -> 4
    assert rule.counts == {"paused": 2, "grown": 1, "cut": 1}


def test_concur_leaves_a_warm_cache_alone_and_pauses_at_boundaries() -> None:
    warm = FakeInstance(0, free_blocks=100, prompt_tokens=10_000, hit_tokens=2000)
    cluster = FakeCluster(warm, now_s=10.0)
    rule = admission("concur(start=2)")
    programs = [make_program(index) for index in range(2)]
    assert all(admits(rule, cluster, program) for program in programs)
    assert rule.counts["cut"] == 0
    cold = FakeInstance(0, free_blocks=100, prompt_tokens=20_000, hit_tokens=2000)
    cluster.instances[0] = cold
    assert not admits(rule, cluster, programs[0], time_s=12.0)  # cut to 1: it pauses
    assert admits(rule, cluster, programs[1], time_s=12.0)


def test_short_queue_lets_one_turn_wait_at_an_engine() -> None:
    for load, expected in (({}, True), ({"queued_turns": 1, "sent_turns": 1}, False)):
        cluster = FakeCluster(FakeInstance(0, **load))
        rule = admission("short_queue")
        assert admits(rule, cluster) is expected
        assert rule.counts == {"held": int(not expected), "sent": int(expected)}
        assert admits(admission("short_queue(turns=2)"), cluster, make_program(1))
    unseen = FakeCluster(FakeInstance(0, sent_turns=1))  # late signals: it counts as waiting
    assert not admits(admission("short_queue"), unseen)
    assert admits(admission("gate"), unseen)


def test_router_queue_holds_only_while_every_worker_is_busy() -> None:
    rule = admission("router_queue(threshold=1.0)")
    one_free = FakeCluster(
        FakeInstance(0, prefill_backlog_tokens=9000), FakeInstance(1, prefill_backlog_tokens=2048)
    )
    all_busy = FakeCluster(
        FakeInstance(0, prefill_backlog_tokens=9000), FakeInstance(1, prefill_backlog_tokens=2049)
    )
    assert admits(rule, one_free)
    assert not admits(rule, all_busy)
    assert rule.hold(route(all_busy), 0) == Hold()
    wspt = admission("router_queue(order=shortest_context)")
    short, long = make_program(0, prompt=10), make_program(1, prompt=1000)
    holds = [wspt.hold(route(all_busy, program), 0) for program in (short, long)]
    assert holds[0].priority < holds[1].priority


def test_thunderagent_pauses_small_acting_programs_and_restores_smallest_first() -> None:
    cluster = FakeCluster(FakeInstance(0), now_s=0.0)  # 16,000 tokens
    rule = admission("thunderagent")
    sizes = (4000, 5000, 3000)
    programs = [make_program(i, prompt=size, context=size) for i, size in enumerate(sizes)]
    assert all(admits(rule, cluster, program) for program in programs)
    for program, size in zip(programs[1:], (8500, 6000), strict=True):
        program.context_tokens, program.turns_done, program.home = size, 1, 0
        gap(cluster, program, time_s=2.0)
    # At 2 s: 4000 reasoning + 8500 + 6000 acting, just begun, exceed 16,000: the smaller acting
    # one is paused.
    reasoning = programs[0]
    reasoning.turns_done = 1
    assert admits(rule, cluster, reasoning, time_s=2.0)
    assert rule.counts["paused"] == 1
    assert rule._paused == {2}  # type: ignore[attr-defined]
    assert not admits(rule, cluster, programs[2], time_s=2.1)  # it must wait for room
    assert rule.hold(route(cluster, programs[0]), 0).priority == 4000
    # 8 s later the other's context counts 8500 / 256: there is room again.
    assert admits(rule, cluster, programs[2], time_s=10.0)
    assert rule.counts["restored"] == 1


def test_thunderagent_discounts_long_gaps_working_set_does_not() -> None:
    verdicts = {}
    for name in ("thunderagent", "working_set"):
        cluster = FakeCluster(FakeInstance(0))
        rule = admission(name)
        old = make_program(0, prompt=9000)
        assert admits(rule, cluster, old)
        old.context_tokens, old.turns_done, old.home = 9000, 1, 0
        gap(cluster, old, time_s=0.0)
        verdicts[name] = admits(rule, cluster, make_program(1, prompt=9000), time_s=10.0)
    assert verdicts == {"thunderagent": True, "working_set": False}


def test_mori_gate_blocks_who_does_not_rank_into_hbm() -> None:
    cluster = FakeCluster(FakeInstance(0), now_s=100.0)  # budget 0.9 x 16,000 tokens
    rule = admission("mori_gate")
    busy, idle = (make_program(index, prompt=8000) for index in range(2))
    assert admits(rule, cluster, busy)
    assert not admits(rule, cluster, idle)  # no room beside the first
    del cluster.programs[0]
    assert admits(rule, cluster, idle)
    assert rule.counts["let_in"] == 1
    assert rule.counts["blocked"] == 1


def test_mori_ranks_newcomers_with_the_others() -> None:
    """One that has not run yet is less idle than one that waits for a slow tool."""
    verdicts = {}
    for name in ("mori_gate", "working_set(share=0.9)"):
        cluster = FakeCluster(FakeInstance(0), now_s=100.0)
        rule = admission(name)
        slow = make_program(0, prompt=8000, context=8000)
        assert admits(rule, cluster, slow)
        slow.turns_done, slow.home, slow.gap_total_s = 1, 0, 50.0
        rule.gap_began(gap(cluster, slow, time_s=101.0))
        young = make_program(1, prompt=8000)
        assert not admits(rule, cluster, young, time_s=102.0)
        cluster.now_s = 106.0  # the next ranking
        verdicts[name] = admits(rule, cluster, young, time_s=106.0)
    assert verdicts == {"mori_gate": True, "working_set(share=0.9)": False}


@pytest.mark.parametrize("name", ["working_set", "mori_gate", "thunderagent"])
def test_a_shared_prefix_takes_room_once(name: str) -> None:
    """Three contexts of 6,000 tokens in 16,000: they fit if 4,000 of each are the same."""
    fit = {}
    for shared in (0, 4000):
        cluster = FakeCluster(FakeInstance(0))
        rule = admission(name)
        programs = [make_program(index, prompt=6000, shared=shared) for index in range(3)]
        fit[shared] = [admits(rule, cluster, program) for program in programs]
    assert fit == {0: [True, True, False], 4000: [True, True, True]}


def test_shared_levels_count_with_the_largest_weight() -> None:
    used = SharedContexts(BLOCK)
    old, young = (make_program(index, prompt=6000, shared=4000) for index in range(2))
    used.add(old, 6000, weight=0.5)
    assert used.tokens == 3000
    assert used.added(young, 6000) == 2000 + 2000
    used.add(young, 6000)
    assert used.tokens == 0.5 * 2000 + 2000 + 4000
    assert used.added(old, 3000) == 0  # all of it is shared


def test_mori_gate_offers_the_least_idle_first() -> None:
    cluster = FakeCluster(FakeInstance(0))
    rule = admission("mori_gate")
    priorities = []
    for index, gap_s in enumerate((1.0, 50.0)):
        program = make_program(index, turns_done=1, home=0)
        program.gap_total_s, program.attained_service_s = gap_s, 10.0
        rule.gap_began(gap(cluster, program))
        program.status = ProgramStatus.HELD
        priorities.append(rule.hold(route(cluster, program), 0).priority)
    assert priorities[0] < priorities[1]


@pytest.mark.parametrize(
    "gate", ["gate", "working_set", "concur", "thunderagent", "mori_gate", "router_queue"]
)
def test_the_order_of_release_is_the_gates_choice(gate: str) -> None:
    """An old program with a long prompt that was ready late, and a young one with a short one."""
    cluster = FakeCluster(FakeInstance(0, cached=900))
    old, young = make_program(0, prompt=3000), make_program(1, prompt=1000, arrival_s=5.0)

    def first(order: str, partner: str = "fcfs") -> set[int]:
        rule = admission(f"{gate}(order={order})+{partner}")
        held = {
            program.index: rule.hold(route(cluster, program, time_s=time_s), 0).priority
            for program, time_s in ((old, 9.0), (young, 7.0))
        }
        return {index for index, place in held.items() if place == min(held.values())}

    assert first("program_arrival") == {0}
    assert first("shortest_context") == first("turn_arrival") == {1}
    assert first("scenario") == first("queue") == {0, 1}  # the scenario decides among equals
    assert first("queue", "program_fcfs") == {0}
    assert first("queue", "shortest_prefill") == {1}


def test_held_turns_leave_in_the_gates_order() -> None:
    """One large program fills the pool; a middle-sized and a small one wait for its end."""
    large, middle, small = (
        inline_program((size, 40, 0.0), arrival_s=0.01 * number)
        for number, size in enumerate((14_000, 8_000, 4_000))
    )
    scenario = inline([large, middle, small], kv_blocks=1000)
    ends = {}
    for order in ("turn_arrival", "shortest_context"):
        report = run_named(f"working_set(order={order})", scenario)
        assert report["holds"] > 0
        ends[order] = report["jct_s"]["mean"]
    assert ends["shortest_context"] < ends["turn_arrival"]


def test_a_gate_raises_the_hit_rate_where_contexts_do_not_fit() -> None:
    """Eight programs of 300 blocks on a pool of 700: unlimited, they evict each other."""
    turns = [(4000, 40, 1.0)] + [(100, 40, 1.0)] * 6
    programs = [inline_program(*turns, arrival_s=0.01 * number) for number in range(8)]
    scenario = inline(programs, kv_blocks=700)
    stock, capped = (run_named(name, scenario) for name in ("lru", "working_set"))
    assert stock["holds"] == 0
    assert capped["holds"] > 0
    assert capped["recomputed_tokens"] < 0.01 * stock["recomputed_tokens"]
    assert capped["hit_rate"]["hbm"] > stock["hit_rate"]["hbm"] + 0.5
