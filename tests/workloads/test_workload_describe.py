"""The summary of programs."""

from __future__ import annotations

import json

import pytest

from agentserve_gym.workloads import PrefixSegment, Program, ToolCall, Turn, describe

CHILD = Program("c", "toy", (Turn(5, 5, 1, 0),))
FIRST = Program(
    "a",
    "toy",
    (
        Turn(100, 100, 20, 0, 4.0, "tool", (ToolCall("x", 4.0), ToolCall("y", 1.0)), (CHILD,)),
        Turn(150, 30, 10, 120, 60.0, "user"),
        Turn(60, 20, 30, 40),
    ),
    (PrefixSegment("k", 40),),
    arrival_s=1.0,
    labels=("split:test",),
)
SECOND = Program("b", "other", (Turn(90, 90, 40, 0),), (PrefixSegment("k", 40),), arrival_s=5.0)


def test_every_number_of_a_small_example() -> None:
    summary = describe([FIRST, SECOND])
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["programs"], summary["turns"], summary["sub_agents"]) == (2, 4, 1)
    assert summary["agent_classes"] == {"toy": 1, "other": 1}
    assert summary["labels"] == {"split:test": 1}
    assert summary["turns_per_program"]["mean"] == 2.0
    assert summary["final_context_tokens"]["max"] == 130.0
    assert summary["peak_context_tokens"]["p50"] == 145.0
    assert summary["new_input_tokens"]["mean"] == 25.0
    assert summary["output_tokens"]["mean"] == 25.0
    assert summary["compactions"] == 1
    assert summary["tool_gap_s"]["p99"] == 4.0
    assert summary["user_gap_s"]["p10"] == 60.0
    assert summary["tools"]["x"]["calls"] == 1
    assert summary["tools"]["y"]["duration_s"]["max"] == 1.0
    assert summary["shared_prefixes"]["levels"] == [
        {"programs": 2, "distinct": 1, "largest_share": 1.0}
    ]
    # 160 tokens reused between turns, and one of the two programs finds the prefix of 40
    assert summary["reusable_share"] == pytest.approx((160 + 40) / 400)
    assert summary["arrivals"] == {"first_s": 1.0, "span_s": 4.0, "rate_per_s": 0.25, "cv": 0.0}


def test_what_is_absent_is_null() -> None:
    summary = describe([CHILD])
    assert summary["tool_gap_s"] is None
    assert summary["arrivals"] is None
    assert summary["new_input_tokens"] is None
    assert summary["shared_prefixes"]["levels"] == []


def test_no_programs_are_refused() -> None:
    with pytest.raises(ValueError, match="programs is empty"):
        describe([])
