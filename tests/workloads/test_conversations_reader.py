"""Conversations of closed-loop benchmarks: CSV rows to programs, chat templates, and bad files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from agentserve_gym.workloads import (
    ClosedLoopArrivals,
    TraceError,
    TraceWorkload,
    build_workload,
    detect_format,
    read_programs,
)

HEADER = "conversation,turn,prompt_tokens,output_tokens"
ROWS = "7,0,100,20\n3,0,40,5\n7,1,150,30\n7,2,400,10\n"


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    path = tmp_path / "conversations.csv"
    path.write_text(f"{HEADER}\n{ROWS}")
    return path


def test_a_conversation_is_a_program(conversations: Path) -> None:
    assert detect_format(conversations) == "conversations"
    first, second = read_programs(conversations)
    assert (first.program_id, second.program_id) == ("conversation-7", "conversation-3")
    assert [turn.input_tokens for turn in first.turns] == [100, 150, 400]
    assert [turn.reuse_tokens for turn in first.turns] == [0, 120, 180]
    assert [turn.gap_s for turn in first.turns] == [0, 0, 0]


def test_it_may_be_packed_and_say_how_long_clients_think(tmp_path: Path) -> None:
    path = tmp_path / "conversations.csv.gz"
    text = f"{HEADER},think_time_s\n1,0,10,5,2.5\n1,1,20,5,9\n"
    path.write_bytes(gzip.compress(text.encode()))
    (program,) = read_programs(path)
    assert program.turns[0].gap_s == 2.5
    assert program.turns[0].gap_kind == "user"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conversation,turn,prompt_tokens\n", "unknown format|not valid JSON"),
        (f"{HEADER}\n", "bad.csv: no row follows the header"),
        (f"{HEADER}\n1,0,10\n", "line 2: 3 cells; the header has 4 columns"),
        (f"{HEADER}\n1,1,10,5\n", "line 2: turn is 1; allowed: 0, the next turn"),
        (f"{HEADER}\n1,0,many,5\n", "line 2: prompt_tokens is 'many'; allowed: an integer"),
        (f"{HEADER}\n1,0,10,-5\n", "line 2: output_tokens is -5; allowed: an integer"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        read_programs(path)


def test_a_chat_template_comes_on_top(conversations: Path) -> None:
    spec = TraceWorkload(path=str(conversations), template_start_tokens=35, template_turn_tokens=9)
    workload = build_workload(spec, ClosedLoopArrivals(concurrency=1), 0)
    turns = workload.program(0).turns
    assert [turn.input_tokens for turn in turns] == [135, 194, 453]
    assert [turn.reuse_tokens for turn in turns] == [0, 155, 224]
    assert [turn.new_input_tokens for turn in turns] == [135, 39, 229]


def test_gaps_can_be_lengthened(conversations: Path) -> None:
    spec = TraceWorkload(path=str(conversations), further_gap_s=0.5, further_gap_token_s=0.001)
    arrivals = ClosedLoopArrivals(concurrency=1, pause_s=0.25, pause_token_s=0.001)
    workload = build_workload(spec, arrivals, 0)
    assert [turn.gap_s for turn in workload.program(0).turns] == [0.65, 0.9, 0.0]
    assert workload.pause_before_s(1) == pytest.approx(0.29)
