"""Workloads: inline toys, filtered traces, laziness, determinism across processes."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentserve_gym.workloads import (
    AGENT_CLASSES,
    ClosedLoopArrivals,
    GeneratedWorkload,
    InlineWorkload,
    PoissonArrivals,
    PrefixSegment,
    Program,
    ToolCall,
    TraceArrivals,
    TraceWorkload,
    Turn,
    Workload,
    build_workload,
    validate_program,
    write_programs,
)

POISSON = PoissonArrivals(rate_per_s=1.0)
MIX = dict.fromkeys(AGENT_CLASSES, 1.0)


def programs_of(workload: Workload) -> list[Program]:
    return [workload.program(index) for index in range(len(workload))]


# ------------------------------------------------------------------------------------------- inline


def test_inline_programs_accumulate_their_context() -> None:
    spec = InlineWorkload.model_validate(
        {
            "programs": [
                {
                    "prefix": [{"key": "system", "tokens": 100}],
                    "arrival_s": 4.0,
                    "turns": [
                        {"new_input_tokens": 20, "output_tokens": 5, "gap_s": 2.0},
                        {
                            "new_input_tokens": 10,
                            "output_tokens": 5,
                            "tools": [
                                {"kind": "a", "duration_s": 1.0, "result_tokens": 3},
                                {"kind": "b", "duration_s": 7.0, "failures": 1},
                            ],
                            "children": [
                                {
                                    "arrival_s": 0.5,
                                    "turns": [{"new_input_tokens": 8, "output_tokens": 1}],
                                }
                            ],
                        },
                        {"new_input_tokens": 10, "output_tokens": 5, "reset_to_tokens": 100},
                        {"new_input_tokens": 0, "output_tokens": 5},
                    ],
                }
            ]
        }
    )
    # The third turn is a compaction; a turn that adds nothing still computes one token.
    spec_turns = spec.programs[0].turns
    assert spec_turns[2].reset_to_tokens == 100
    (program,) = programs_of(build_workload(spec, POISSON, 0))
    child = Program("inline-0/1-0", "inline", (Turn(8, 8, 1, 0),), (), 0.5, "inline")
    tools = (ToolCall("a", 1.0, 3), ToolCall("b", 7.0, 0, 1))
    assert program == Program(
        "inline-0",
        "inline",
        (
            Turn(120, 120, 5, 0, 2.0, "tool"),
            Turn(135, 10, 5, 125, 7.0, "tool", tools, (child,)),
            Turn(110, 10, 5, 100, 0.0, "tool"),
            Turn(115, 1, 5, 114),
        ),
        (PrefixSegment("system", 100),),
        4.0,
        "inline",
    )


def test_an_inline_gap_after_the_last_turn_is_refused() -> None:
    turn = {"new_input_tokens": 1, "output_tokens": 1, "gap_s": 1.0}
    spec = InlineWorkload.model_validate({"programs": [{"turns": [turn]}]})
    with pytest.raises(ValueError, match=r"program 'inline-0', turn 0: gap_s is 1.0"):
        build_workload(spec, POISSON, 0)


# -------------------------------------------------------------------------------------------- trace


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    def program(number: int, arrival_s: float | None, *labels: str) -> Program:
        child = Program(f"child{number}", "toy", (Turn(30, 30, 1, 0),), (), 1.0)
        return Program(
            f"p{number}",
            "toy",
            (
                Turn(100 * number, 100 * number, 10, 0, 50.0, "user"),
                Turn(200 * number, 5, 10, 50, 3.0, "tool", (ToolCall("t", 3.0),), (child,)),
                Turn(300 * number, 5, 10, 50),
            ),
            arrival_s=arrival_s,
            labels=labels,
        )

    path = tmp_path / "p.jsonl"
    write_programs(
        [
            program(1, 9.0, "split:test", "fresh_start"),
            program(2, 3.0, "split:train"),
            program(3, 6.0, "split:test"),
        ],
        path,
    )
    return path


def test_trace_arrivals_are_in_order_and_sped_up(trace: Path) -> None:
    workload = build_workload(TraceWorkload(path=str(trace)), TraceArrivals(speedup=3.0), 0)
    assert [p.program_id for p in programs_of(workload)] == ["p2", "p3", "p1"]
    assert list(workload.arrival_times()) == [1.0, 2.0, 3.0]


def test_trace_limits_and_filters(trace: Path) -> None:
    def names(**options: object) -> list[str]:
        spec = TraceWorkload.model_validate({"path": str(trace)} | options)
        return [p.program_id for p in programs_of(build_workload(spec, POISSON, 5))]

    assert names() == ["p1", "p2", "p3"]
    assert names(split="test") == ["p1", "p3"]
    assert names(fresh_start_only=True) == ["p1"]
    assert names(programs=2) == ["p1", "p2"]
    assert names(programs=99) == ["p1", "p2", "p3"]
    assert names(max_context_tokens=250) == ["p1", "p2"]
    orders = {tuple(names(shuffle=True)), tuple(names(shuffle=True))}
    assert len(orders) == 1
    assert sorted(orders.pop()) == ["p1", "p2", "p3"]


def test_shuffling_depends_on_the_seed(trace: Path) -> None:
    spec = TraceWorkload(path=str(trace), shuffle=True)
    orders = {
        tuple(p.program_id for p in programs_of(build_workload(spec, POISSON, seed)))
        for seed in range(30)
    }
    assert len(orders) == 6


def test_traces_are_cut_and_their_gaps_scaled(trace: Path) -> None:
    spec = TraceWorkload(
        path=str(trace), max_turns=2, gap_scale=0.5, max_gap_s=20.0, sub_agents=False
    )
    first = build_workload(spec, POISSON, 0).program(0)
    assert first.turns == (Turn(100, 100, 10, 0, 10.0, "user"), Turn(200, 5, 10, 50))
    validate_program(first)
    spec = TraceWorkload(path=str(trace), tool_timeout_s=2.0, gap_scale=0.5)
    timed_out = build_workload(spec, POISSON, 0).program(0)
    assert [turn.gap_s for turn in timed_out.turns] == [25.0, 1.0, 0.0]  # people do not time out
    assert timed_out.turns[1].tools == (ToolCall("t", 1.0),)
    spec = TraceWorkload(path=str(trace), gap_scale=0.5, max_context_tokens=610)
    second = build_workload(spec, POISSON, 0).program(1)
    assert second.turns[1].gap_s == 1.5
    assert second.turns[1].tools == (ToolCall("t", 1.5),)
    assert second.turns[1].children[0].arrival_s == 0.5
    third = build_workload(spec, POISSON, 0).program(2)
    assert [turn.input_tokens for turn in third.turns] == [300, 600]
    assert third.turns[-1] == Turn(600, 5, 10, 50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "no program has split 'dev'; labels in this file: fresh_start, split:"),
        ({"max_context_tokens": 50}, "the smallest first turn has 110 tokens"),
    ],
)
def test_a_trace_of_which_nothing_is_left(
    trace: Path, options: dict[str, object], message: str
) -> None:
    spec = TraceWorkload.model_validate({"path": str(trace)} | options)
    with pytest.raises(ValueError, match=message):
        build_workload(spec, POISSON, 0)


def test_trace_arrivals_need_times(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_programs([Program("untimed", "toy", (Turn(1, 1, 1, 0),))], path)
    with pytest.raises(ValueError, match="program 'untimed' has no arrival_s"):
        build_workload(TraceWorkload(path=str(path)), TraceArrivals(), 0)
    generated = GeneratedWorkload(mix={"coding_auto": 1}, programs=1)
    with pytest.raises(ValueError, match="generated programs have no arrival times"):
        build_workload(generated, TraceArrivals(), 0)


# ------------------------------------------------------------------------------------------ common


def test_negative_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        build_workload(GeneratedWorkload(mix=MIX, programs=1), POISSON, -1)


def test_indices_outside_are_refused() -> None:
    workload = build_workload(GeneratedWorkload(mix=MIX, programs=3), POISSON, 0)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"program {index} of 3"):
            workload.program(index)


def test_millions_of_programs_cost_nothing_until_drawn() -> None:
    begin = time.perf_counter()
    workload = build_workload(GeneratedWorkload(mix=MIX, programs=10**9), POISSON, 0)
    last = workload.program(10**9 - 1)
    first_arrival = next(workload.arrival_times())
    assert time.perf_counter() - begin < 5.0
    assert len(workload) == 10**9
    assert last.program_id.endswith("999999999")
    assert first_arrival > 0


def test_programs_do_not_depend_on_the_order_of_drawing() -> None:
    spec = GeneratedWorkload(mix=MIX, programs=60)
    forward = programs_of(build_workload(spec, POISSON, 4))
    again = build_workload(spec, POISSON, 4)
    assert [again.program(i) for i in reversed(range(60))] == forward[::-1]
    more = build_workload(GeneratedWorkload(mix=MIX, programs=6000), POISSON, 4)
    assert [more.program(i) for i in range(60)] == forward
    assert programs_of(build_workload(spec, POISSON, 5)) != forward


def test_workloads_pickle_and_copies_are_the_same_object() -> None:
    workload = build_workload(
        GeneratedWorkload(mix=MIX, programs=9), ClosedLoopArrivals(concurrency=2), 1
    )
    assert copy.deepcopy(workload) is workload
    restored = pickle.loads(pickle.dumps(workload))
    assert programs_of(restored) == programs_of(workload)
    assert restored.concurrency == 2


_DIGEST = """
import hashlib
from agentserve_gym.workloads import *
spec = GeneratedWorkload(mix={name: 1.0 for name in AGENT_CLASSES}, programs=40)
workload = build_workload(spec, GammaArrivals(rate_per_s=1, cv=2), 11)
text = repr([workload.program(i) for i in range(40)]) + repr(list(workload.arrival_times()))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_same_seed_same_bytes_in_processes_with_other_hash_seeds() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == len(hashlib.sha256().hexdigest())


def test_the_workload_room_needs_no_learning_library() -> None:
    code = "import sys, agentserve_gym.workloads; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
