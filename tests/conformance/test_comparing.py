"""Where two runs part, and what the page says of it."""

from __future__ import annotations

import pytest

from agentserve_gym.sim.kernel.pools import BlockPool
from conformance import host_cases, radix, radix_cases
from conformance.cases import GROUPS
from conformance.host_tier import Event, History, Stored
from conformance.page import Compared, Section, claim, render
from conformance.trace import Step, Trace, first_difference

STEP = Step(((0, 0, 16, 1), (1, 0, 0, 30)), 7, 0)
TURNS = {(0, 0): (1.0, 2.0)}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Step(((0, 0, 16, 1),), 7, 0), "only ours 30 tokens of 1/0 after 0, only vLLM nothing"),
        (Step(((0, 0, 0, 17), STEP.shares[1]), 7, 0), "only vLLM 17 tokens of 0/0 after 0"),
        (STEP._replace(free_blocks=6), "ours has 7 free blocks, vLLM 6"),
        (STEP._replace(preemptions=2), "ours preempts 0, vLLM 2"),
    ],
)
def test_the_first_step_that_differs_is_named(other: Step, said: str) -> None:
    found = first_difference(Trace([STEP, STEP], TURNS), Trace([STEP, other], TURNS))
    assert found.startswith("step 1: ")
    assert said in found


def test_runs_that_only_end_otherwise_differ() -> None:
    ours = Trace([STEP], TURNS)
    assert first_difference(ours, Trace([STEP], {(0, 0): (1.0, 2.0 + 1e-9)})) == ""
    assert "1 steps, vLLM 2" in first_difference(ours, Trace([STEP, STEP], TURNS))
    assert "turn 0/0" in first_difference(ours, Trace([STEP], {(0, 0): (1.0, 2.1)}))
    assert "1 turns, vLLM 0" in first_difference(ours, Trace([STEP], {}))


def test_the_page_names_every_exception() -> None:
    groups = {
        "some": [Compared("a", 10, 2, 1, ""), Compared("b", 5, 1, 0, "step 3: other")],
        "more": [Compared("c", 1, 1, 0, "")],
    }
    assert "9.9 step for step in 2 of 3 cases** (16 steps, 1 preemption)" in claim(groups, "9.9")
    page = render(groups, "9.9", ["d, for want of data"], [Section("", "## More\n", False)])
    assert "- b: step 3: other" in page
    assert "- Not compared: d, for want of data" in page
    assert "| some | 1 | 2 | 15 | 3 | 1 |" in page
    assert "## More\n" in page


def test_cases_are_told_apart_by_name() -> None:
    names = [case.name for make in GROUPS.values() for case in make()]
    assert len(set(names)) == len(names) > 200


def test_host_cases_are_told_apart_by_name() -> None:
    cases = [case for group in host_cases.GROUPS for case in group.cases("lru")]
    assert len({case.case.name for case in cases}) == len(cases) > 80


def test_radix_cases_fit_their_pools() -> None:
    for group in radix_cases.GROUPS:
        case = group.case(16, 0)
        plain = radix.answers(case, BlockPool("hbm", case.capacity_pages))
        assert len(plain) == 2 * len(case.turns) > 200
        assert (sum(answer.evicted for answer in plain) == 0) == group.roomy
        assert sum(answer.found > 0 for answer in plain) > 20


def test_answers_that_differ_are_named() -> None:
    stored = Stored(3, 1, 9, 4, 77)
    events: list[Event] = [
        {"do": "find", "turn": (0, 1), "first": 0, "chain": []},
        {"do": "store", "turn": (0, 1), "chain": [], "dropped": []},
    ]
    history = History(events, [2, stored])
    assert host_cases.first_difference(history, [2, stored]) == ""
    assert host_cases.first_difference(history, [1]) == "find for 0/1: ours finds 2, vLLM finds 1"
    found = host_cases.first_difference(history, [2, stored._replace(evicted=2)])
    assert found.startswith("store for 0/1: ours stores 3, evicts 1 and can find 4")
