"""The engine, step for step against what vLLM's scheduler did in the same cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from conformance import dynamo_router, golden, host_cases, host_tier, ours, sglang_router
from conformance.cases import Case
from conformance.routers import drawn
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


HOST_CASES = {case.case.name: case for case in host_cases.kept_cases()}


@pytest.mark.parametrize("name", HOST_CASES)
def test_the_host_tier_does_what_vllm_did(name: str) -> None:
    case = HOST_CASES[name]
    history = host_tier.play(case)
    answers = golden.read_answers(case)
    assert len(answers) == len(history.answers)
    assert host_cases.first_difference(history, answers) == ""
    assert any(isinstance(each, host_tier.Stored) and each.evicted > 0 for each in answers)


DYNAMO = [(n, seed) for n in dynamo_router.SHARED_TOKENS.values() for seed in dynamo_router.KEPT]
SGLANG = [(n, seed) for n in sglang_router.SHARED_TOKENS.values() for seed in sglang_router.KEPT]


@pytest.mark.parametrize(("shared", "seed"), SGLANG)
def test_the_rule_sglang_chooses_as_the_router_did(shared: int, seed: int) -> None:
    case, rule = sglang_router.drawn_case(seed, shared)
    tally: Counter[str] = Counter()
    choices = golden.read_choices(f"sglang {shared} {seed}", case)
    sglang_router.compare_case(case, rule, choices, tally)
    assert tally["the same"] == tally["choices"] == len(choices) > 40


@pytest.mark.parametrize(("shared", "seed"), DYNAMO)
def test_dynamo_chose_by_the_formula(shared: int, seed: int) -> None:
    case = drawn(seed, shared)
    tally: Counter[str] = Counter()
    choices = golden.read_choices(f"dynamo {shared} {seed}", case)
    dynamo_router.compare_case(case, choices, tally)
    assert tally["formula"] == tally["choices"] == len(choices) > 40
    assert tally["as it is"] < tally["choices"]
    assert tally["told of all"] > tally["as it is"]


def test_choices_of_another_case_are_refused(tmp_path: Path) -> None:
    golden.write_choices("some", ["case"], [1, 2], tmp_path)
    assert golden.read_choices("some", ["case"], tmp_path) == [1, 2]
    with pytest.raises(ValueError, match="of another case"):
        golden.read_choices("some", ["other"], tmp_path)


def test_every_kept_trace_has_its_case() -> None:
    paths = {golden.path_of(case) for case in CASES.values()}
    paths |= {golden.answers_path(case) for case in HOST_CASES.values()}
    paths |= {golden.choices_path(f"dynamo {shared} {seed}") for shared, seed in DYNAMO}
    paths |= {golden.choices_path(f"sglang {shared} {seed}") for shared, seed in SGLANG}
    assert paths == set(golden.FOLDER.iterdir())


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
