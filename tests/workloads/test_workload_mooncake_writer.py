"""Programs written as a Mooncake trace, and what is read back of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentserve_gym.cli import app
from agentserve_gym.workloads import (
    PrefixSegment,
    Program,
    ToolCall,
    Turn,
    detect_format,
    read_programs,
    write_mooncake,
    write_programs,
)

CHAT = Program(
    "chat",
    "toy",
    (
        Turn(1100, 1100, 300, 0, 1.25, "tool"),
        Turn(2000, 600, 40, 1400, 3.0, "user"),
        Turn(900, 388, 7, 512),  # a reset
    ),
    arrival_s=0.5,
)


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_have_sessions_delays_and_ids_of_full_blocks(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_mooncake([CHAT], path)
    first, second, third = rows(path)
    assert (first["session_id"], first["timestamp"], first["input_length"]) == ("chat", 500, 1100)
    assert "delay" not in first
    assert (second["delay"], third["delay"]) == (1250, 3000)
    assert "timestamp" not in second
    ids = [row["hash_ids"] for row in (first, second, third)]
    assert [len(found) for found in ids] == [3, 4, 2]
    # Two full blocks of the first prompt are reused, its third was not full.
    assert ids[1][:2] == ids[0][:2]
    assert ids[1][2] != ids[0][2]
    # The reset keeps one block.
    assert ids[2][0] == ids[0][0]
    assert ids[2][1] not in ids[0] + ids[1]


def test_lengths_delays_and_arrivals_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    write_mooncake([CHAT, replace(CHAT, program_id="other", arrival_s=1 / 3)], path)
    assert detect_format(path) == "mooncake"
    first, second = read_programs(path)
    assert (first.program_id, second.program_id) == ("session-chat", "session-other")
    assert (first.arrival_s, second.arrival_s) == (0.5, pytest.approx(1 / 3, abs=1e-9))
    for written, found in zip(CHAT.turns, first.turns, strict=True):
        assert (found.input_tokens, found.output_tokens, found.gap_s) == (
            written.input_tokens,
            written.output_tokens,
            written.gap_s,
        )
    assert [turn.reuse_tokens for turn in first.turns] == [0, 1024, 512]
    assert first.prefix == second.prefix == ()


def test_shared_prefixes_share_ids_level_by_level(tmp_path: Path) -> None:
    tools, system = PrefixSegment("tools", 1100), PrefixSegment("system", 600)
    turn = (Turn(2000, 2000, 5, 0),)
    both = Program("a", "toy", turn, (tools, system), arrival_s=0.0)
    path = tmp_path / "t.jsonl"
    write_mooncake(
        [
            both,
            replace(both, program_id="b"),
            replace(both, program_id="c", prefix=(tools, PrefixSegment("another", 600))),
        ],
        path,
    )
    a, b, c = (row["hash_ids"] for row in rows(path))
    assert a[:3] == b[:3]
    assert c[:2] == a[:2]
    assert not {*c[2:]} & {*a, *b}
    assert not {*a[3:]} & {*b[3:]}
    assert [p.shared_prefix_tokens for p in read_programs(path)] == [1536, 1536, 1024]


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ([replace(CHAT, arrival_s=None)], "program 'chat': arrival_s is None"),
        ([CHAT, CHAT], "program_id 'chat' occurs twice"),
        ([replace(CHAT, turns=())], "turns is empty"),
        (
            [
                replace(
                    CHAT,
                    turns=(
                        Turn(9, 9, 1, 0, 1.0, "tool", (), (replace(CHAT, arrival_s=0.0),)),
                        Turn(12, 2, 1, 10),
                    ),
                )
            ],
            "turn 0: children has 1 entries",
        ),
    ],
)
def test_what_the_form_cannot_hold_is_refused(
    tmp_path: Path, programs: list[Program], message: str
) -> None:
    path = tmp_path / "t.jsonl"
    with pytest.raises(ValueError, match=message):
        write_mooncake(programs, path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_converts(tmp_path: Path) -> None:
    source, target = tmp_path / "own.jsonl", tmp_path / "mooncake.jsonl"
    tool = Turn(1100, 1100, 300, 0, 1.25, "tool", (ToolCall("shell", 1.25),))
    write_programs([replace(CHAT, turns=(tool, *CHAT.turns[1:]))], source)
    arguments = ["trace", str(source), "--to", str(target), "--to-format", "mooncake", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert detect_format(target) == "mooncake"
    assert [turn.gap_s for turn in read_programs(target)[0].turns] == [1.25, 3.0, 0.0]
