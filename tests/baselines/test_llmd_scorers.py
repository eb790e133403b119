"""The scorers of llm-d's inference scheduler: load, approximate and precise prefix match."""

from __future__ import annotations

import pytest
from baseline_helpers import BLOCK, FakeCluster, FakeInstance

from agentserve_gym.baselines import Routing, parse_policy
from agentserve_gym.baselines.routing.sent_prefixes import SentPrefixes
from agentserve_gym.sim import ProgramState, RouteDecision, TurnState
from agentserve_gym.workloads.program import PrefixSegment, Program, Turn


def rule(name: str) -> Routing:
    return parse_policy(name).routing  # type: ignore[attr-defined,no-any-return]


def prompt(
    index: int, tokens: int, *prefix: tuple[str, int], reuse: int = 0, turns_done: int = 0
) -> TurnState:
    """A turn of a program that starts with these levels of a shared prefix."""
    turn = Turn(tokens, tokens - reuse, 10, reuse)
    levels = tuple(PrefixSegment(key, size) for key, size in prefix)
    state = ProgramState(
        Program(f"p{index}", "test", (turn,), levels), index, index + 100, BLOCK, None
    )
    state.turns_done = turns_done
    return TurnState(state, turn, 0.0, BLOCK)


def decision(cluster: FakeCluster, turn: TurnState) -> RouteDecision:
    return RouteDecision(0.0, turn.program, turn, cluster, True, 0)  # type: ignore[arg-type]


def cluster(*loads: dict[str, int]) -> FakeCluster:
    """Instances of 1000 blocks."""
    return FakeCluster(*(FakeInstance(index, **load) for index, load in enumerate(loads)))


def chosen(name: str, instances: FakeCluster, turn: TurnState | None = None) -> tuple[int, str]:
    return tuple(rule(name).choose(decision(instances, turn or prompt(0, 1000))))  # type: ignore[return-value]


def test_load_adds_queue_room_and_free_kv() -> None:
    # 1 + 0.2 against 0.5 + 0.9 and 0 + 1.0
    loads = cluster(
        {"queued_turns": 0, "free_blocks": 200},
        {"queued_turns": 2, "free_blocks": 100, "cached_blocks": 800},
        {"queued_turns": 4, "free_blocks": 1000},
    )
    assert chosen("llmd_load", loads) == (1, "told_apart")
    assert chosen("llmd_load(queue=2)", loads) == (0, "told_apart")
    assert chosen("llmd_load(queue=0)", loads) == (2, "told_apart")


def test_equal_loads_are_told_apart_by_a_draw() -> None:
    even = cluster(*({"queued_turns": 3, "free_blocks": 500} for _ in range(4)))
    by_load = rule("llmd_load")
    picks = [by_load.choose(decision(even, prompt(index, 100))) for index in range(400)]
    assert {pick.event for pick in picks} == {"equal"}
    counts = [sum(pick.instance == instance for pick in picks) for instance in range(4)]
    assert all(70 <= count <= 130 for count in counts)
    again = [by_load.choose(decision(even, prompt(index, 100))) for index in range(400)]
    assert picks == again


def test_precise_ranks_holders_between_the_least_and_the_most() -> None:
    # 1.0 + 2 * 0, 0.7 + 2 * 1, 0.9 + 2 * 0: the fewest of the holders get nothing.
    holders = cluster(
        {"free_blocks": 1000},
        {"free_blocks": 700, "cached": 960},
        {"free_blocks": 900, "cached": 800},
    )
    assert chosen("llmd_precise", holders) == (1, "matched")
    assert chosen("llmd_precise(prefix=0.1)", holders) == (0, "unmatched")
    # 0.1 + 2 against 1 + 2 * 0: a lone holder has the whole score, however little it holds.
    lone = cluster({"free_blocks": 1000}, {"free_blocks": 100, "cached": BLOCK})
    assert chosen("llmd_precise", lone) == (1, "matched")


def test_default_follows_what_it_sent_whatever_the_instance_still_holds() -> None:
    instances = cluster({"free_blocks": 100}, {"free_blocks": 1000})
    by_sent = rule("llmd_default")
    first, second = (prompt(index, 2000, ("group", 1600)) for index in range(2))
    assert by_sent.choose(decision(instances, first)) == (1, "unmatched")
    by_sent.dispatched(decision(instances, first), 0)
    # 0.1 + 2 * 100/125 against 1.0: the shared prefix was sent to instance 0.
    assert by_sent.choose(decision(instances, second)) == (0, "matched")
    # It holds nothing any more, which KV events tell.
    assert chosen("llmd_precise", instances, second) == (1, "unmatched")
    by_sent.reset()
    assert by_sent.choose(decision(instances, second)) == (1, "unmatched")


def test_the_router_hashes_the_start_of_a_prompt_only() -> None:
    sent = SentPrefixes(prompt_blocks=50, capacity_blocks=1000)
    sent.add(prompt(0, 2000, ("group", 1600)), BLOCK)
    assert sent.matched_share(prompt(1, 2000, ("group", 1600)), BLOCK) == 1.0
    assert sent.matched_share(prompt(1, 2000, ("other", 1600)), BLOCK) == 0.0
    whole = SentPrefixes(prompt_blocks=1000, capacity_blocks=1000)
    whole.add(prompt(0, 2000, ("group", 1600)), BLOCK)
    assert whole.matched_share(prompt(1, 2000, ("group", 1600)), BLOCK) == 100 / 125


def test_the_router_knows_earlier_prompts_of_a_program_up_to_a_reset() -> None:
    sent = SentPrefixes(prompt_blocks=1000, capacity_blocks=1000)
    sent.add(prompt(0, 800), BLOCK)
    assert sent.matched_share(prompt(0, 1600, reuse=900, turns_done=1), BLOCK) == 0.5
    assert sent.matched_share(prompt(0, 1600, reuse=160, turns_done=1), BLOCK) == 0.1


def test_the_router_forgets_what_it_sent_longest_ago() -> None:
    sent = SentPrefixes(prompt_blocks=1000, capacity_blocks=150)
    turns = [prompt(index, 1000, (f"group {index}", 800)) for index in range(3)]
    sent.add(turns[0], BLOCK)
    sent.add(turns[1], BLOCK)  # 124 blocks
    sent.add(turns[0], BLOCK)
    sent.add(turns[2], BLOCK)  # 186 blocks: group 1 has to go
    shares = [sent.matched_share(turn, BLOCK) for turn in turns]
    assert shares == pytest.approx([50 / 62, 0.0, 50 / 62])


def test_a_prompt_of_no_whole_block_matches_nothing() -> None:
    sent = SentPrefixes(prompt_blocks=256, capacity_blocks=1000)
    sent.add(prompt(0, 10), BLOCK)
    assert sent.matched_share(prompt(0, 10), BLOCK) == 0.0
