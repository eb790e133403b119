"""The engine, step for step against what vLLM's scheduler did in the same cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import golden, ours
from conformance.cases import Case
from conformance.trace import Trace, first_difference

CASES = {case.name: case for case in golden.golden_cases()}


@pytest.mark.parametrize("name", CASES)
def test_the_engine_takes_the_steps_that_vllm_took(name: str) -> None:
    found = ours.play(CASES[name])
    theirs = Trace(golden.read(CASES[name]), found.trace.turns)
    assert first_difference(found.trace, theirs) == ""


@pytest.mark.parametrize("name", CASES)
def test_fused_steps_are_the_same_steps(name: str) -> None:
    stepped = ours.play(CASES[name]).trace
    fused = ours.play_fused(CASES[name])
    assert fused.engines[0].steps == len(stepped.steps)
    assert fused.engines[0].preemptions == stepped.preemptions
    times = ours.turn_times(fused)
    assert times.keys() == stepped.turns.keys()
    for turn, expected in stepped.turns.items():
        assert times[turn] == pytest.approx(expected, abs=1e-9)


def test_every_kept_trace_has_its_case() -> None:
    assert {golden.path_of(case) for case in CASES.values()} == set(golden.FOLDER.iterdir())


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    case = CASES["tiny pool, asynchronous"]
    steps = golden.read(case)
    assert sum(step.preemptions for step in steps) > 0
    golden.write(case, steps, "0", tmp_path)
    assert golden.read(case, tmp_path) == steps


def test_steps_of_another_case_are_refused(tmp_path: Path) -> None:
    case = CASES["tiny pool, asynchronous"]
    golden.write(case, [], "0", tmp_path)
    other = Case(case.name, case.programs, case.kv_blocks + 1)
    with pytest.raises(ValueError, match="of another case"):
        golden.read(other, tmp_path)
