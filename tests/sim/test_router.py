"""The router: offers, holds and their order, and answers that are not possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sim_helpers import LinearLatency, drive, program, scenario, simulate

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Place,
    PlacementDecision,
    PlacementKind,
    Route,
    RouteDecision,
    Simulation,
    offload,
)

SECOND = LinearLatency(1.0)
PLAIN = {"async_scheduling": False}


class Log:
    """Answers by a rule and remembers every routing offer: time, program, turn, may hold."""

    def __init__(self, rule: Callable[[RouteDecision], Answer]) -> None:
        self.rule = rule
        self.offers: list[tuple[float, str, int, bool]] = []

    def __call__(self, decision: Decision) -> Answer:
        if isinstance(decision, PlacementDecision):
            return KEEP
        self.offers.append(
            (decision.time_s, decision.program.program_id, decision.offers, decision.may_hold)
        )
        return self.rule(decision)


def at_most_one_running(decision: RouteDecision) -> Answer:
    running = decision.cluster.instances[0].sent_turns
    return Hold() if running and decision.may_hold else Route(0)


def play(programs: list[dict[str, Any]], log: Callable[[Decision], Answer], **parts: Any) -> Any:
    """Held turns are not offered by time alone, unless ``router`` says so."""
    parts["router"] = {"reoffer_s": 1000.0, **parts.get("router", {})}
    return drive(simulate(scenario(programs, engine=PLAIN, **parts), SECOND), log)


def ends(simulation: Simulation) -> dict[str, float]:
    assert simulation.metrics.records is not None
    return {record.program_id: record.end_s for record in simulation.metrics.records}


def test_held_turns_are_offered_again_when_a_turn_completes() -> None:
    log = Log(at_most_one_running)
    programs = [program((10, 5), program_id=f"p{i}", arrival_s=0.3 * i) for i in range(3)]
    simulation = play(programs, log)
    assert ends(simulation) == {"p0": 5.0, "p1": 10.0, "p2": 15.0}
    assert log.offers == [
        (0.0, "p0", 0, False),
        (0.3, "p1", 0, True),
        (0.6, "p2", 0, True),
        (5.0, "p1", 1, False),  # nothing runs: holding again would stall
        (5.0, "p2", 1, True),  # the first was taken, so the next is offered, and held again
        (10.0, "p2", 2, False),
    ]
    assert simulation.report()["holds"] == 3
    assert simulation.report()["invalid_answers"] == 0


def test_a_held_turn_waits_in_the_queue_phase() -> None:
    simulation = play(
        [program((10, 5), program_id=f"p{i}") for i in range(2)], Log(at_most_one_running)
    )
    assert simulation.metrics.phase_s[0] == pytest.approx(5.0)


def test_after_a_refusal_the_next_in_line_is_not_offered() -> None:
    def rule(decision: RouteDecision) -> Answer:
        if decision.program.program_id == "long" or decision.time_s > 15.0:
            return Route(0)
        if decision.program.program_id == "short" and not decision.offers:
            return Route(0)
        return Hold()

    log = Log(rule)
    play(
        [
            program((10, 20), program_id="long"),
            program((10, 3), program_id="short", arrival_s=0.1),
            program((10, 3), program_id="first", arrival_s=0.2),
            program((10, 3), program_id="second", arrival_s=0.3),
        ],
        log,
    )
    # short joins at 1 and ends at 4: only the head of the line is offered then.
    assert [offer[:2] for offer in log.offers if offer[0] == 4.0] == [(4.0, "first")]
    assert [offer[:2] for offer in log.offers if offer[0] == 20.0] == [
        (20.0, "first"), (20.0, "second"),
    ]  # fmt: skip


def test_lanes_do_not_block_each_other() -> None:
    def rule(decision: RouteDecision) -> Answer:
        name = decision.program.program_id
        if name in ("long", "short") or decision.time_s > 15.0:
            return Route(0)
        return Hold(lane=int(name == "second"))

    log = Log(rule)
    play(
        [
            program((10, 20), program_id="long"),
            program((10, 3), program_id="short", arrival_s=0.1),
            program((10, 3), program_id="first", arrival_s=0.2),
            program((10, 3), program_id="second", arrival_s=0.3),
        ],
        log,
    )
    assert [offer[1] for offer in log.offers if offer[0] == 4.0] == ["first", "second"]


@pytest.mark.parametrize(
    ("held_order", "expected"),
    [
        ("turn_arrival", ["b", "a", "c"]),
        ("program_arrival", ["a", "b", "c"]),
        ("shortest_context", ["c", "b", "a"]),
    ],
)
def test_held_turns_keep_the_scenarios_order(held_order: str, expected: list[str]) -> None:
    """a's second turn is ready after b's first, and has the longest context; c comes last."""

    def rule(decision: RouteDecision) -> Answer:
        first = decision.program.program_id == "long" or (
            decision.program.program_id == "a" and decision.turn.number == 0
        )
        return Route(0) if first or not decision.may_hold else Hold()

    log = Log(rule)
    play(
        [
            program((10, 30), program_id="long"),
            program((200, 2, 3.0), (10, 40), program_id="a", arrival_s=0.1),
            program((100, 40), program_id="b", arrival_s=1.5),
            program((10, 40), program_id="c", arrival_s=7.5),
        ],
        log,
        router={"held_order": held_order},
    )
    forced = [name for _, name, offers, may_hold in log.offers if offers and not may_hold]
    assert forced == expected


def test_a_policy_may_order_its_held_turns() -> None:
    def rule(decision: RouteDecision) -> Answer:
        name = decision.program.program_id
        if name == "long" or not decision.may_hold:
            return Route(0)
        return Hold(priority={"a": 3.0, "b": 1.0, "c": 2.0}[name])

    log = Log(rule)
    play(
        [program((10, 9), program_id="long")]
        + [program((10, 9), program_id=name, arrival_s=0.5) for name in "abc"],
        log,
    )
    forced = [name for _, name, offers, may_hold in log.offers if offers and not may_hold]
    assert forced == ["b", "c", "a"]


def test_held_turns_are_offered_again_when_blocks_come_free() -> None:
    """A pin that expires frees blocks at a time when no turn ends."""

    def rule(decision: RouteDecision) -> Answer:
        if decision.program.program_id == "waits" and decision.time_s < 7.0:
            return Hold()
        return Route(0)

    log = Log(rule)

    def answer(decision: Decision) -> Answer:
        if isinstance(decision, PlacementDecision):
            return Place(PlacementKind.PIN, ttl_s=5.0)
        return log(decision)

    play(
        [
            program((100, 3, 90.0), (10, 1), program_id="pinned"),
            program((10, 50), program_id="long", arrival_s=0.5),
            program((10, 3), program_id="waits", arrival_s=4.2),
        ],
        answer,
    )
    # pinned ends its turn at 3, its pin at 8.
    assert [offer[0] for offer in log.offers if offer[1] == "waits"] == [4.2, 8.0]


def test_held_turns_are_offered_again_after_a_while() -> None:
    """Every two seconds, counted from the last offer, which after short's end is at 5."""

    def rule(decision: RouteDecision) -> Answer:
        waits = decision.program.program_id == "waits" and decision.time_s < 8.0
        return Hold() if waits else Route(0)

    log = Log(rule)
    play(
        [
            program((10, 50), program_id="long"),
            program((10, 4), program_id="short", arrival_s=0.5),
            program((10, 3), program_id="waits", arrival_s=2.5),
        ],
        log,
        router={"reoffer_s": 2.0},
    )
    offers = [offer[0] for offer in log.offers if offer[1] == "waits"]
    assert offers == [2.5, 4.5, 5.0, 7.0, 9.0]


def test_nobody_is_asked_by_time_where_nothing_is_held() -> None:
    simulation = play([program((10, 50, 5.0), (10, 5))], Log(lambda _: Route(0)))
    quiet = simulation.clock.scheduled_events
    ticking = play(
        [program((10, 50, 5.0), (10, 5))], Log(lambda _: Route(0)), router={"reoffer_s": 0.1}
    )
    assert ticking.clock.scheduled_events == quiet


@pytest.mark.parametrize("gap_kind", ["user", "tool"])
def test_people_who_think_are_nothing_to_hold_for(gap_kind: str) -> None:
    """At 4 nothing runs, and a comes back at 10,003."""
    a = program((10, 3, 10_000.0), (10, 3), program_id="a")
    a["turns"][0]["gap_kind"] = gap_kind
    log = Log(lambda decision: Hold() if decision.may_hold else Route(0))
    simulation = play([a, program((10, 3), program_id="b", arrival_s=4.0)], log)
    assert log.offers[1] == (4.0, "b", 0, gap_kind == "tool")
    assert (ends(simulation)["b"] < 10.0) == (gap_kind == "user")


def test_always_holding_makes_nobody_wait_for_people() -> None:
    """Turns then run one at a time: each waits for at most the other five, of three steps each."""
    programs = [program(*[(10, 3, 3600.0)] * 3, (10, 3), program_id=f"p{i}") for i in range(6)]
    for turn in (turn for content in programs for turn in content["turns"][:-1]):
        turn["gap_kind"] = "user"
    simulation = play(programs, Log(lambda _: Hold()), router={"reoffer_s": 2.0})
    assert simulation.report()["ttft_s"]["max"] <= 5 * 3.0 + 1.0


def test_everybody_always_holding_cannot_stall_the_run() -> None:
    simulation = play(
        [program((10, 3, 1.0), (10, 3), program_id=f"p{i}") for i in range(4)],
        Log(lambda _: Hold()),
    )
    assert simulation.report()["programs"] == 4
    assert simulation.report()["holds"] > 0


# --- answers that are not possible ----------------------------------------------------------------

NAN = float("nan")

IMPOSSIBLE_ROUTES: list[Any] = [
    Route(-1),
    Route(2),
    Route(10**12),
    KEEP,
    None.__class__,
    "instance 0",
    0,
    Route(0, promote_after_s=-1.0),
    Route(0, promote_after_s=NAN),
]


@pytest.mark.parametrize("answer", IMPOSSIBLE_ROUTES, ids=str)
def test_an_impossible_route_falls_back_and_is_counted(answer: Any) -> None:
    simulation = drive(
        simulate(scenario([program((10, 3))], instances=2, engine=PLAIN), SECOND),
        lambda _: answer,
    )
    assert simulation.report()["programs"] == 1
    assert simulation.report()["invalid_answers"] == 1


@pytest.mark.parametrize("answer", [Route(0.5), Route("0"), Route(0, priority=NAN)], ids=str)  # type: ignore[arg-type]
def test_a_malformed_route_falls_back_and_is_counted(answer: Any) -> None:
    simulation = drive(
        simulate(scenario([program((10, 3))], instances=2, engine=PLAIN), SECOND),
        lambda _: answer,
    )
    assert simulation.report()["invalid_answers"] == 1


def test_the_fallback_is_home_or_else_the_emptiest_instance() -> None:
    programs = [
        program((10, 30), program_id="a"),
        program((10, 3, 1.0), (10, 3), program_id="b", arrival_s=0.5),
    ]

    def answer(decision: Decision) -> Answer:
        if isinstance(decision, PlacementDecision):
            return KEEP
        return Route(0) if decision.program.program_id == "a" else Route(99)

    simulation = drive(simulate(scenario(programs, instances=3, engine=PLAIN), SECOND), answer)
    assert simulation.metrics.records is not None
    where = [record.instance for record in simulation.metrics.records if record.program_id == "b"]
    assert where == [1, 1]


def test_a_hold_where_none_is_possible_counts_as_impossible() -> None:
    simulation = play([program((10, 3))], Log(lambda _: Hold()))
    assert simulation.report()["invalid_answers"] == 1
    assert simulation.report()["holds"] == 0


IMPOSSIBLE_PLACES: list[Any] = [
    Route(0),
    Hold(),
    3,
    offload("dram"),
    offload("cxl"),
    Place(PlacementKind.PIN),
    Place(PlacementKind.PIN, ttl_s=-1.0),
    Place(PlacementKind.PIN, ttl_s=NAN),
    Place(PlacementKind.KEEP, ask_again_s=0.0),
    Place(PlacementKind.KEEP, ask_again_s=NAN),
    Place(PlacementKind.KEEP, rank=NAN),
]


@pytest.mark.parametrize("answer", IMPOSSIBLE_PLACES, ids=str)
def test_an_impossible_placement_leaves_the_kv_and_is_counted(answer: Any) -> None:
    def decide(decision: Decision) -> Answer:
        return Route(0) if isinstance(decision, RouteDecision) else answer  # type: ignore[no-any-return]

    simulation = drive(
        simulate(scenario([program((160, 3, 1.0), (10, 3))], engine=PLAIN), SECOND), decide
    )
    assert simulation.report()["invalid_answers"] == 1
    assert simulation.metrics.hit_tokens[0] == 160


def test_ask_again_asks_once_more_while_the_gap_is_on() -> None:
    asked: list[tuple[float, float]] = []

    def answer(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(0)
        asked.append((decision.time_s, decision.elapsed_s))
        return Place(PlacementKind.KEEP, ask_again_s=4.0)

    play([program((10, 2, 10.0), (10, 2, 3.0), (10, 1))], answer)
    # The first gap lasts from 2 to 12, the second from 14 to 17.
    assert asked == [(2.0, 0.0), (6.0, 4.0), (10.0, 8.0), (14.0, 0.0)]


def test_promotion_moves_a_waiting_turn_to_the_front() -> None:
    """One slot; c is promoted after 2 s and overtakes b, which came before it."""

    def answer(decision: Decision) -> Answer:
        wait = 2.0 if decision.program.program_id == "c" else None
        return Route(0, promote_after_s=wait)

    simulation = drive(
        simulate(
            scenario(
                [
                    program((10, 9), program_id="a"),
                    program((10, 5), program_id="b", arrival_s=0.1),
                    program((10, 5), program_id="c", arrival_s=0.2),
                ],
                engine={**PLAIN, "max_num_seqs": 1},
            ),
            SECOND,
        ),
        answer,
    )
    assert ends(simulation) == {"a": 9.0, "c": 14.0, "b": 19.0}
