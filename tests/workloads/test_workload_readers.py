"""Every reader on a tiny file, and the round trip of our own format."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reader_helpers import read

from agentserve_gym.workloads import (
    GeneratedWorkload,
    PoissonArrivals,
    PrefixSegment,
    Program,
    ToolCall,
    Turn,
    build_workload,
    read_programs,
    write_programs,
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(*rows: dict[str, Any] | str, name: str = "trace.jsonl") -> Path:
        path = tmp_path / name
        text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write_lines


# ------------------------------------------------------------------------------------- own format


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_own_format_round_trip_is_lossless(tmp_path: Path, name: str) -> None:
    spec = GeneratedWorkload(mix={"coding_interactive": 1, "function_calling": 1}, programs=40)
    workload = build_workload(spec, PoissonArrivals(rate_per_s=1), 7)
    programs = [workload.program(i) for i in range(40)]
    assert any(turn.children for program in programs for turn in program.turns)
    programs.append(
        Program(
            "all-fields",
            "toy",
            (Turn(9, 9, 1, 0, 0.1, "user", (ToolCall("a", 1 / 3, 2, 3),)), Turn(12, 2, 4, 10)),
            (PrefixSegment("ü", 3),),
            arrival_s=0.1 + 0.2,
            source="here",
            labels=("x", "split:test"),
            model="llama-3.1-8b",
        )
    )
    path = tmp_path / name
    write_programs(programs, path)
    assert read(path, "agentserve") == programs
    assert path.read_bytes()[:2] == (b"\x1f\x8b" if name.endswith(".gz") else b'{"')
    first = path.read_bytes()
    write_programs(programs, path)
    assert path.read_bytes() == first


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    good = Program("good", "toy", (Turn(1, 1, 1, 0),))
    write_programs([good], path)
    with pytest.raises(ValueError, match="program 'bad'"):
        write_programs([good, Program("bad", "toy", ())], path)
    assert read_programs(path) == [good]
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.jsonl"]


# ---------------------------------------------------------------------------------------- agentprog


def agentprog(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "agentprog/1",
        "program_id": "a",
        "agent_class": "coding_interactive",
        "source": "s",
        "arrival_s": None,
        "split": "train",
        "fresh_start": True,
        "shared_prefix_tokens": 100,
        "prefix_group": "tools70|sys30",
        "turns": [
            {
                "input_tokens": 150,
                "new_input_tokens": 150,
                "output_tokens": 10,
                "trigger": "start",
                "gap_s": 20.0,
                "gap_kind": "tool",
                "llm_s": 5.0,
            },
            {
                "input_tokens": 200,
                "new_input_tokens": 40,
                "output_tokens": 0,
                "reuse_tokens": 128,
                "trigger": "tool",
                "gap_s": None,
                "llm_s": 5.0,
                "tools": [
                    {"name": "t", "kind": "shell", "duration_s": 3.0, "result_tokens": None},
                    {"name": "t", "kind": "read", "duration_s": None, "result_tokens": 7},
                ],
            },
            {
                "input_tokens": 205,
                "new_input_tokens": 20,
                "output_tokens": 4,
                "trigger": "user",
                "gap_s": None,
                "tools": [{"name": "t", "kind": "shell", "duration_s": 1.0}],
            },
        ],
    } | changes


def test_agentprog_turns(write: Write) -> None:
    (program,) = read(write(agentprog()), "agentprog")
    assert program.prefix == (PrefixSegment("tools70", 70), PrefixSegment("tools70|sys30", 30))
    assert program.labels == ("split:train", "fresh_start", "unknown_gaps")
    assert program.arrival_s is None
    first, second, third = program.turns
    assert first == Turn(150, 150, 10, 0, 20.0, "tool")
    # reuse as in the file; an aborted output counts 1; the unknown gap is the longest known tool,
    # and the kind of wait is the next turn's trigger
    assert second == Turn(
        200, 40, 1, 128, 3.0, "user", (ToolCall("shell", 3.0), ToolCall("read", 3.0, 7))
    )
    # no reuse in the file: the previous chain (201), but never what is new (20 of 205)
    assert third == Turn(205, 20, 4, 185)


def test_agentprog_children_start_when_they_finished_less_their_duration(write: Write) -> None:
    def child(t_s: float, duration_s: float) -> dict[str, Any]:
        turn = {"input_tokens": 50, "new_input_tokens": 50, "output_tokens": 5, "gap_s": None}
        return {
            "t_s": t_s,
            "duration_s": duration_s,
            "type": "Explore",
            "shared_prefix_tokens": 30,
            "turns": [turn],
        }

    # Observed clock: turn 0 runs over [0, 5], its gap over [5, 25]; turn 1 [25, 30], gap [30, 33].
    rows = agentprog(
        children=[child(20.0, 12.0), child(29.0, 2.0), child(10.0, 8.0), child(500.0, 1.0)]
    )
    (program,) = read(write(rows), "agentprog")
    first, second, third = (turn.children for turn in program.turns)
    assert [(c.program_id, c.arrival_s) for c in first] == [("a/0", 3.0), ("a/2", 0.0)]
    assert [(c.program_id, c.arrival_s) for c in second] == [("a/1", 0.0), ("a/3", 3.0)]
    assert third == ()
    assert first[0].prefix == (PrefixSegment("sub-agent/Explore|30", 30),)
    assert first[0].labels == ("sub_agent",)


def test_agentprog_of_one_turn_has_no_gap_for_children(write: Write) -> None:
    row = agentprog(children=[{"t_s": 1.0, "turns": agentprog()["turns"]}])
    row["turns"] = row["turns"][:1]
    (program,) = read(write(row), "agentprog")
    assert program.turns == (Turn(150, 150, 10, 0),)


def test_an_agentprog_group_without_levels_is_one_segment(write: Write) -> None:
    (program,) = read(write(agentprog(prefix_group="deerflow")), "agentprog")
    assert program.prefix == (PrefixSegment("deerflow", 100),)
    (program,) = read(write(agentprog(shared_prefix_tokens=None)), "agentprog")
    assert program.prefix == ()


# ----------------------------------------------------------------------------------------- sessions


def test_session_files_mix_sessions_and_single_requests(write: Write) -> None:
    path = write(
        {
            "session_id": "s0",
            "arrival_time_ns": 1_500_000_000,
            "sub_requests": [
                {"input_toks": 100, "output_toks": 20, "tool_duration_ns": 250_000_000},
                {"input_toks": 110, "output_toks": 5, "tool_duration_ns": 9},
            ],
        },
        {"input_tokens": 7, "output_tokens": 3, "arrival_s": 2.0},
    )
    session, single = read(path, "sessions")
    assert session.program_id == "s0"
    assert session.arrival_s == 1.5
    assert session.turns == (
        Turn(100, 100, 20, 0, 0.25, "tool", (ToolCall("tool", 0.25),)),
        Turn(110, 1, 5, 109),  # shorter than the chain of 120: all but one token is reused
    )
    assert (single.arrival_s, single.turns) == (2.0, (Turn(7, 7, 3, 0),))


def test_token_ids_give_exact_reuse_and_shared_blocks(write: Write) -> None:
    system = list(range(40))
    path = write(
        {
            "arrival_time_ns": 0,
            "sub_requests": [
                {
                    "input_toks": 41,
                    "output_toks": 2,
                    "input_tok_ids": [*system, 90],
                    "output_tok_ids": [91, 92],
                    "tool_duration_ns": 0,
                },
                {"input_toks": 44, "output_toks": 1, "input_tok_ids": [*system, 90, 91, 5, 6]},
            ],
        },
        {
            "input_toks": 41,
            "output_toks": 1,
            "arrival_time_ns": 5,
            "input_tok_ids": [*system, 77],
        },
    )
    first, second = read(path, "sessions")
    assert first.turns[1].reuse_tokens == 42  # prompt of 41 and one token of the answer
    assert first.prefix == second.prefix
    assert first.shared_prefix_tokens == 32  # two full blocks of 16


# ----------------------------------------------------------------------------------------- mooncake


def test_mooncake_rows_are_programs_of_one_turn(write: Write) -> None:
    path = write(
        {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]},
        {"timestamp": 3000, "input_length": 1600, "output_length": 6, "hash_ids": [0, 1, 7, 8]},
        {"timestamp": 3500, "input_length": 300, "output_length": 0, "hash_ids": [9]},
    )
    first, second, third = read(path, "mooncake")
    assert [p.arrival_s for p in (first, second, third)] == [0.0, 3.0, 3.5]
    assert first.turns == (Turn(1100, 1100, 5, 0),)
    assert first.prefix == second.prefix
    assert first.shared_prefix_tokens == 1024
    assert third.prefix == ()
    assert third.turns[0].output_tokens == 1


def test_mooncake_sessions_become_turns(write: Write) -> None:
    path = write(
        {
            "session_id": "x",
            "timestamp": 1000,
            "input_length": 1100,
            "output_length": 5,
            "hash_ids": [0, 1, 2],
        },
        {"session_id": "y", "timestamp": 1500, "input_length": 10, "output_length": 5},
        {
            "session_id": "x",
            "delay": 2500,
            "input_length": 1700,
            "output_length": 5,
            "hash_ids": [0, 1, 3, 4],
        },
        {"session_id": "y", "timestamp": 4000, "input_length": 40, "output_length": 5},
    )
    x, y = read(path, "mooncake")
    assert x.turns == (Turn(1100, 1100, 5, 0, 2.5, "tool"), Turn(1700, 676, 5, 1024))
    # without hash ids the previous chain is reused; without a delay the times' difference is taken
    assert y.turns == (Turn(10, 10, 5, 0, 2.5, "tool"), Turn(40, 25, 5, 15))
    assert (x.arrival_s, y.arrival_s) == (1.0, 1.5)


def test_mooncake_aliases(write: Write) -> None:
    path = write(
        {"created_time": 2000, "input_tokens": 600, "output_tokens": 2, "hash_ids": [1, 2]}
    )
    (program,) = read(path, "mooncake")
    assert (program.arrival_s, program.turns) == (2.0, (Turn(600, 600, 2, 0),))


# -------------------------------------------------------------------------- azure, block-id formats


def test_azure_rows(write: Write) -> None:
    path = write(
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:17:03.9799600,4808,10",
        "2023-11-16 18:17:04,3180,0",
        "2023-11-17 00:00:00.5,1,2",
        name="azure.csv.gz",
    )
    first, second, third = read(path, "azure")
    assert [p.arrival_s for p in (first, second, third)] == [0.0, 0.02004, 20576.52004]
    assert first.turns == (Turn(4808, 4808, 10, 0),)
    assert second.turns == (Turn(3180, 3180, 1, 0),)


def test_block_requests(write: Write) -> None:
    path = write(
        {"arrival_s": 0.5, "input_tokens": 40, "output_tokens": 2, "block_ids": [1, 2]},
        {"arrival_s": 0.7, "input_tokens": 33, "output_tokens": 2, "block_ids": [1, 3]},
        {"arrival_s": 0.9, "input_tokens": 5, "output_tokens": 2},
    )
    first, second, third = read(path, "block_requests")
    assert first.prefix == second.prefix
    assert first.shared_prefix_tokens == 16
    assert third.prefix == ()
    assert second.arrival_s == 0.7


def test_block_runs(write: Write) -> None:
    def request(t: float, tokens: int, runs: list[list[int]], **more: Any) -> dict[str, Any]:
        return {"t": t, "type": "n", "in": tokens, "out": 10, "hash_runs": runs} | more

    child = {
        "t": 14.0,
        "type": "subagent",
        "duration_ms": 8000,
        "tool_tokens": 50,
        "system_tokens": 9,
        "requests": [request(0.0, 100, [[500, 1]])],
    }
    path = write(
        {
            "id": "c",
            "block_size": 64,
            "tool_tokens": 100,
            "system_tokens": 28,
            "requests": [
                request(0.0, 300, [[1, 4]], input_types=["text"]),
                child,
                request(20.0, 400, [[1, 3], [9, 3]], think_time=15.0, input_types=["tool_result"]),
                request(60.0, 500, [[1, 7]], think_time=30.0, input_types=["text"]),
            ],
        }
    )
    (program,) = read(path, "block_runs")
    assert program.prefix == (PrefixSegment("tools100", 100), PrefixSegment("tools100|sys28", 28))
    first, second, third = program.turns
    # blocks 1, 2, 3 are common; the child began at 6 s, one second into the gap from 5 to 20
    assert (first.gap_s, first.gap_kind, first.children[0].arrival_s) == (15.0, "tool", 1.0)
    assert (second.reuse_tokens, second.gap_s, second.gap_kind) == (192, 30.0, "user")
    assert third.reuse_tokens == 192
    assert first.children[0].prefix[0] == PrefixSegment("tools50", 50)


@pytest.mark.parametrize(
    ("before", "after", "blocks"),
    [
        ([[1, 5]], [[1, 5]], 5),
        ([[1, 5]], [[1, 7]], 5),
        ([[1, 2], [3, 4]], [[1, 6], [40, 1]], 6),
        ([[1, 6]], [[1, 2], [3, 1], [9, 9]], 3),
        ([[1, 3]], [[2, 3]], 0),
    ],
)
def test_runs_are_compared_as_blocks(
    write: Write, before: list[list[int]], after: list[list[int]], blocks: int
) -> None:
    path = write(
        {
            "id": "c",
            "block_size": 4,
            "requests": [
                {"t": 0, "in": 100, "out": 1, "hash_runs": before},
                {"t": 1, "in": 100, "out": 1, "hash_runs": after},
            ],
        }
    )
    (program,) = read(path, "block_runs")
    assert program.turns[1].reuse_tokens == 4 * blocks


def conversation(name: str, *prompts: tuple[int, list[int]], **more: Any) -> dict[str, Any]:
    """A file of kv-cache-tester's traces; ``prompts`` are (input tokens, block ids)."""
    requests = [
        {
            "t": 20.0 * number,
            "type": "s",
            "model": "m",
            "in": tokens,
            "out": 7,
            "hash_ids": ids,
            "input_types": ["tool_result"],
            "output_types": ["text"],
            "stop": "",
            "api_time": 3.5,
            "think_time": 16.5 * (number > 0),
        }
        for number, (tokens, ids) in enumerate(prompts)
    ]
    head = {"id": name, "models": ["m"], "block_size": 64, "hash_id_scope": "local"}
    return head | {"tool_tokens": 100, "system_tokens": 28, "requests": requests} | more


def test_block_ids_are_read_as_runs_are(write: Write) -> None:
    ids = [[1, 2, 3, 9, 10], [1, 2, 3, 9, 11, 12], [5]]
    runs = [[[1, 3], [9, 2]], [[1, 3], [9, 1], [11, 2]], [[5, 1]]]
    listed = conversation("c", *((400, blocks) for blocks in ids))
    packed = conversation("c", *((400, []) for _ in ids))
    for request, blocks in zip(packed["requests"], runs, strict=True):
        del request["hash_ids"]
        request["hash_runs"] = blocks
    (program,) = read(write(listed, name="trace_0001.json"), "block_runs")
    assert [turn.reuse_tokens for turn in program.turns] == [0, 4 * 64, 0]
    assert [turn.gap_s for turn in program.turns] == [16.5, 16.5, 0.0]
    assert read(write(packed), "block_runs") == [program]


def test_block_labels(write: Write) -> None:
    late = conversation("late", (20_129, [1]), (20_200, [1]))
    early = conversation("early", (20_128, [1]), (20_200, [1]))
    del early["requests"][1]["think_time"]
    first, second = read(write(late, early), "block_runs")
    assert first.labels == ()
    assert second.labels == ("fresh_start", "unknown_gaps")


def test_a_folder_is_read_file_by_file(write: Write, tmp_path: Path) -> None:
    write(conversation("b", (300, [1, 2])), name="trace_0002.json")
    write(conversation("a", (300, [1, 2])), name="trace_0001.json.gz")
    write("hit rates", name="cache_hit_rates.txt")
    write("{", name="._trace_0001.json")
    assert [program.program_id for program in read(tmp_path, "block_runs")] == ["a", "b"]


def test_an_indented_file_is_one_record(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(conversation("a", (300, [1, 2])), indent=2), encoding="utf-8")
    (program,) = read(path, "block_runs")
    assert program.turns == (Turn(300, 300, 7, 0),)
