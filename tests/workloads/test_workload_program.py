"""Validation of programs: every invariant has a message that names what is wrong."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from agentserve_gym.workloads import PrefixSegment, Program, ToolCall, Turn, validate_program

FIRST = Turn(100, 100, 10, 0, 1.0, "tool", (ToolCall("search", 1.0, 20),))
LAST = Turn(130, 20, 5, 110)
GOOD = Program("p", "toy", (FIRST, LAST), (PrefixSegment("system", 60),), arrival_s=2.0)


def test_a_good_program_passes() -> None:
    validate_program(GOOD)


def test_programs_are_shared_by_copies() -> None:
    assert copy.deepcopy(GOOD) is GOOD


def _with_first(**changes: object) -> Program:
    return replace(GOOD, turns=(FIRST._replace(**changes), LAST))


def _with_last(**changes: object) -> Program:
    return replace(GOOD, turns=(FIRST, LAST._replace(**changes)))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (replace(GOOD, turns=()), "turns is empty"),
        (replace(GOOD, arrival_s=float("nan")), "arrival_s is nan"),
        (replace(GOOD, prefix=(PrefixSegment("k", 0),)), "prefix 'k' tokens is 0"),
        (replace(GOOD, prefix=(PrefixSegment("k", 101),)), "prefix has 101 tokens; at most"),
        (_with_first(input_tokens=0), "turn 0: input_tokens is 0"),
        (_with_first(output_tokens=0), "turn 0: output_tokens is 0"),
        (_with_first(reuse_tokens=1), r"reuse_tokens is 1; allowed: an integer in \[0, 0\]"),
        (_with_last(reuse_tokens=111), r"turn 1: reuse_tokens is 111; .* \[0, 110\]"),
        (_with_last(new_input_tokens=21), r"new_input_tokens is 21; .* \[0, 20\]"),
        (_with_first(gap_s=-1.0), "gap_s is -1.0; allowed: a finite number of at least 0"),
        (_with_first(gap_s=float("inf")), "gap_s is inf"),
        (_with_first(gap_kind="end"), "gap_kind is 'end'; allowed here: tool or user"),
        (_with_first(gap_kind="nap"), "gap_kind is 'nap'; allowed: tool, user, end"),
        (_with_last(gap_kind="tool"), "gap_kind is 'tool'; allowed here: end"),
        (_with_last(gap_s=1.0), "the last turn has no gap"),
        (_with_last(tools=(ToolCall("t", 1.0),)), "tools has 1 entries; none are allowed"),
        (_with_last(children=(GOOD,)), "children has 1 entries; none are allowed"),
        (_with_first(tools=(ToolCall("t", -1.0),)), "tool 't' duration_s is -1.0"),
        (_with_first(tools=(ToolCall("t", 1.0, -1),)), "tool 't' result_tokens is -1"),
        (_with_first(tools=(ToolCall("t", 1.0, 0, -1),)), "tool 't' failures is -1"),
        (_with_first(children=(replace(GOOD, program_id="c", turns=()),)), "program 'c'"),
    ],
)
def test_violations_name_program_turn_field_and_value(program: Program, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        validate_program(program)
    assert "program '" in str(caught.value)


def test_the_reuse_of_a_first_turn_is_zero_and_of_one_token_prompts_too() -> None:
    one = Program("one", "toy", (Turn(1, 1, 1, 0),))
    validate_program(one)
    with pytest.raises(ValueError, match="reuse_tokens is 1"):
        validate_program(replace(one, turns=(Turn(1, 0, 1, 1),)))
