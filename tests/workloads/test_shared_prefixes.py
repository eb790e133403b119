"""Shared-prefix load: which prompts come, in which order and when."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from agentserve_gym.workloads import InlineWorkload, TraceArrivals, build_workload
from agentserve_gym.workloads.shared_prefixes import LoadStage, SharedPrefixLoad

LOAD = SharedPrefixLoad(5, 3, 800, 100, 50)
STAGE = LoadStage(4.0, 10.0)


def prompts(requests: list[dict]) -> list[tuple[str, ...]]:
    return [tuple(level["key"] for level in request["prefix"]) for request in requests]


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    keys = prompts(LOAD.requests(STAGE, "a", 0.0, 0))
    assert len(keys) == 40
    assert len(set(keys[:15])) == 15
    assert keys[15:30] == keys[:15]
    assert keys[30:] == keys[:10]
    assert Counter(group for group, _ in keys[:15]) == {f"group {n}": 3 for n in range(5)}


def test_stages_send_the_same_order_at_times_of_their_own() -> None:
    first, second = (LOAD.requests(STAGE, name, 0.0, 3) for name in ("a", "b"))
    assert prompts(first) == prompts(second)
    assert [r["arrival_s"] for r in first] != [r["arrival_s"] for r in second]
    assert first == LOAD.requests(STAGE, "a", 0.0, 3)
    assert prompts(first) != prompts(LOAD.requests(STAGE, "a", 0.0, 4))


def test_the_last_request_comes_at_the_stages_end() -> None:
    times = [request["arrival_s"] for request in LOAD.requests(STAGE, "a", 100.0, 0)]
    assert times == sorted(times)
    assert times[0] > 100.0
    assert times[-1] == pytest.approx(110.0)
    gaps = np.diff([r["arrival_s"] for r in LOAD.requests(LoadStage(10.0, 1000.0), "a", 0.0, 0)])
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("question_tokens", "levels"), [(100, [800, 99]), (2, [800, 1]), (1, [800])]
)
def test_a_prompt_has_its_two_parts(question_tokens: int, levels: list[int]) -> None:
    load = SharedPrefixLoad(2, 2, 800, question_tokens, 50)
    programs = load.requests(LoadStage(1.0, 4.0), "a", 0.0, 0)
    workload = build_workload(
        InlineWorkload.model_validate({"programs": programs}), TraceArrivals(), 0
    )
    for index in range(4):
        program = workload.program(index)
        (turn,) = program.turns
        assert [level.tokens for level in program.prefix] == levels
        assert turn.input_tokens == 800 + question_tokens
        assert turn.output_tokens == 50


@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_a_load_of_no_whole_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"groups is {value}; allowed: an integer of at least 1"):
        SharedPrefixLoad(value, 3, 800, 100, 50)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rate_per_s", "seconds", "message"),
    [
        (0.0, 10.0, "rate_per_s is 0.0; allowed: a number above 0"),
        (1.0, float("nan"), "seconds is nan"),
        (float("inf"), 1.0, "rate_per_s is inf"),
        (0.5, 1.0, "1 s at 0.5 requests per second has no request"),
    ],
)
def test_a_stage_without_requests_is_refused(
    rate_per_s: float, seconds: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LoadStage(rate_per_s, seconds)


def test_a_stage_has_rate_times_seconds_requests() -> None:
    assert LoadStage(3.0, 210.0).requests == 630
    assert LoadStage(0.7, 10.0).requests == 7
    assert LoadStage(1.5, 1.0).requests == 1
