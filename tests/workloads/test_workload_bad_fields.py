"""Every field of every JSON format with wrong values: read, or refused by file and line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentserve_gym.workloads import describe, read_programs
from agentserve_gym.workloads.readers import TraceError

TURN = {"input_tokens": 10, "new_input_tokens": 10, "output_tokens": 2, "reuse_tokens": 0}
TOOL = {"kind": "t", "duration_s": 1.0, "result_tokens": 3}
CHILD = {"program_id": "q", "agent_class": "c", "arrival_s": 0.0, "turns": [TURN]}
GAP = {"gap_s": 1.0, "gap_kind": "tool", "tools": [TOOL]}
LAST = {"input_tokens": 20, "new_input_tokens": 5, "output_tokens": 2, "reuse_tokens": 10}
CALL = {"t": 0.0, "in": 100, "out": 3, "hash_runs": [[1, 2]]}
GOOD: dict[str, dict[str, Any]] = {
    "agentserve": {
        "schema": "agentserve/1", "program_id": "p", "agent_class": "c", "arrival_s": 0.0,
        "prefix": [["k", 4]], "labels": ["a"], "source": "s", "model": "m",
        "turns": [{**TURN, **GAP, "children": [CHILD]}, LAST],
    },
    "agentprog": {
        "schema": "agentprog/1", "program_id": "p", "agent_class": "c", "arrival_s": 0.0,
        "split": "test", "prefix_group": "g", "shared_prefix_tokens": 3,
        "turns": [{**TURN, **GAP, "llm_s": 1.0}, LAST],
        "children": [{"t_s": 2.0, "duration_s": 1.0, "turns": [TURN]}],
    },
    "sessions": {
        "session_id": "s", "arrival_time_ns": 0,
        "sub_requests": [
            {"input_toks": 2, "output_toks": 1, "tool_duration_ns": 5, "input_tok_ids": [1, 2]},
            {"input_toks": 10, "output_toks": 2},
        ],
    },
    "mooncake": {"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]},
    "block_requests": {"arrival_s": 0.0, "input_tokens": 40, "output_tokens": 3, "block_ids": [1]},
    "block_runs": {
        "id": "x", "block_size": 64, "tool_tokens": 3, "system_tokens": 3,
        "requests": [
            CALL,
            {**CALL, "t": 1.0, "think_time": 1.0},
            {"type": "subagent", "t": 1.0, "duration_ms": 3, "requests": [CALL]},
        ],
    },
}  # fmt: skip
BAD = [-1, "x", [], {}, float("nan"), float("inf"), 10**40, True, [[1]], [None], [{}]]


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a record has a key, at any depth."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        if isinstance(value, dict):
            yield (*above, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*above, key))


@pytest.mark.parametrize("name", GOOD)
def test_wrong_values_name_the_line_or_do_no_harm(name: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    refused = 0
    for path in paths(GOOD[name]):
        for value in BAD:
            record = copy.deepcopy(GOOD[name])
            place: Any = record
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            file.write_text(json.dumps(record), encoding="utf-8")
            try:
                describe(read_programs(file))
            except TraceError as error:
                message = str(error)
                refused += 1
                assert "t.jsonl, line 1" in message
                assert len(message) < 400
                assert "\n" not in message
    assert refused > 20


@pytest.mark.parametrize("name", ["agentserve", "agentprog", "sessions", "block_runs"])
def test_two_programs_with_one_id_name_both_lines(name: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(f"{json.dumps(GOOD[name])}\n" * 2, encoding="utf-8")
    with pytest.raises(TraceError, match=r"line 2: program_id is .*, as in .*line 1") as caught:
        read_programs(file)
    assert "t.jsonl" in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_a_byte_order_mark_is_passed_over(name: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD[name]).encode())
    assert read_programs(file)


def test_deep_nesting_and_endless_digits_are_no_json(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    for text in ('{"a":' * 100_000, '{"a":' + "9" * 5000 + "}"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(TraceError, match="line 1: not valid JSON"):
            read_programs(file)
