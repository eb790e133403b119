"""Readers on recorded traces, where the data sets are here."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agentserve_gym.datasets import data_sets
from agentserve_gym.workloads import read_programs, validate_program
from tests.data_sets import needed_data_set

PROGRAMS = {"coding-sessions": 485, "mooncake-conversation": 12_031}


@pytest.mark.parametrize(
    "name", [name for name, entry in data_sets().items() if entry.kind == "programs"]
)
def test_every_data_set_of_programs_can_be_read(name: str) -> None:
    programs = read_programs(needed_data_set(name))
    for program in programs:
        validate_program(program)
    assert len(programs) == PROGRAMS.get(name, len(programs)) > 0


def test_block_runs_agree_with_the_reduced_trace() -> None:
    """Two files of the same sessions: exact blocks, and reuse already reduced to tokens."""
    exact = read_programs(needed_data_set("coding-session-blocks"))
    reduced = read_programs(needed_data_set("coding-sessions"))
    inputs = reused = 0
    for a, b in zip(exact, reduced, strict=True):
        assert (a.program_id, a.prefix) == (b.program_id, b.prefix)
        assert set(a.labels) == {label for label in b.labels if not label.startswith("split:")}
        for s, t in zip(a.turns, b.turns, strict=True):
            assert (s.input_tokens, s.output_tokens, s.reuse_tokens) == (
                t.input_tokens,
                t.output_tokens,
                t.reuse_tokens,
            )
            assert (s.gap_s, s.gap_kind) == (t.gap_s, t.gap_kind)
        inputs += sum(turn.input_tokens for turn in a.turns[1:])
        reused += sum(turn.reuse_tokens for turn in a.turns[1:])
    # Published: 97.4 % of input tokens are reusable prefix.
    assert reused / inputs == pytest.approx(0.974, abs=0.005)


def test_measured_requests_share_as_their_block_ids_say(measured_runs: Path) -> None:
    path = measured_runs / "sharegpt-300-llama-tokenizer.jsonl.gz"
    programs = read_programs(path)
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    seen = [set(row["block_ids"]) for row in rows]
    for index, (program, row) in enumerate(zip(programs, rows, strict=True)):
        others = set().union(*(blocks for i, blocks in enumerate(seen) if i != index))
        shared = sum(block in others for block in row["block_ids"])
        assert program.shared_prefix_tokens == 16 * shared
        assert program.turns[0].input_tokens == row["input_tokens"]
