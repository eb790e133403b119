"""Replay of request workloads, and the comparison with measured runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from validation_helpers import small_case, write_workload

from agentserve_gym.validation import (
    Replay,
    ReplaySettings,
    compare,
    find_cases,
    read_case,
    replay,
)
from agentserve_gym.validation.ablations import pool_error, run_ablations
from agentserve_gym.validation.study import run_case


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ReplaySettings:
    workload = write_workload(tmp_path_factory.mktemp("replay") / "requests.jsonl")
    return ReplaySettings(workload, "rtx-4090", "llama-3.1-8b", kv_blocks=2588)


@pytest.fixture(scope="module")
def replayed(settings: ReplaySettings) -> Replay:
    return replay(settings)


def test_figures_are_those_of_the_turns(replayed: Replay) -> None:
    figures = replayed.as_dict()
    ttft_ms = [(turn.first_token_s - turn.ready_s) * 1e3 for turn in replayed.turns]
    e2e_s = [turn.end_s - turn.ready_s for turn in replayed.turns]
    assert figures["turns"] == 24
    assert figures["ttft_ms"]["mean"] == pytest.approx(np.mean(ttft_ms))
    assert figures["ttft_ms"]["p90"] == pytest.approx(np.percentile(ttft_ms, 90))
    assert figures["e2e_s"]["p99"] == pytest.approx(np.percentile(e2e_s, 99))
    tokens = sum(turn.output_tokens for turn in replayed.turns)
    assert figures["output_tokens_per_s"] == pytest.approx(tokens / figures["makespan_s"])


def test_equal_first_blocks_are_hit(replayed: Replay) -> None:
    """All but the first request find the common block of 16 tokens."""
    assert replayed.as_dict()["prefix_hit_tokens"] == 23 * 16


def test_arrivals_are_the_files(replayed: Replay, settings: ReplaySettings) -> None:
    first = replayed.turns[0]
    assert 0.0 < first.ready_s < 1.0
    assert first.first_token_s > first.ready_s
    assert replayed.makespan_s() == max(t.end_s for t in replayed.turns) - first.ready_s
    assert replay(settings).as_dict() == replayed.as_dict()


def test_a_data_parallel_group_uses_every_engine(settings: ReplaySettings) -> None:
    group = replay(replace(settings, data_parallel=2))
    assert {turn.instance for turn in group.turns} == {0, 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timing": "profile"}, "timing is 'profile', but no profile folder is given"),
        ({"timing": "compact", "profile": Path("tables")}, "profile is tables, but timing is"),
        ({"timing": "fast"}, "unknown timing source 'fast'"),
        ({"accelerator": "rtx-9090"}, "rtx-9090"),
        ({"model": "llama-9"}, "llama-9"),
        ({"tensor_parallel": 0}, "tensor_parallel"),
        ({"expert_parallel": 3}, "expert_parallel is 3"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"max_num_batched_tokens": 16}, "max_num_batched_tokens is 16"),
        ({"kv_blocks": 5}, "tokens of KV"),
        ({"workload": Path("nowhere.jsonl")}, "nowhere.jsonl"),
    ],
)
def test_bad_settings_are_refused(
    settings: ReplaySettings, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replay(replace(settings, **changes))  # type: ignore[arg-type]


def test_a_run_compared_with_itself_has_no_error(tmp_path: Path) -> None:
    case = read_case(small_case(tmp_path))
    errors = compare(case, replay(case.settings))
    for part in (errors.mean, errors.p50, errors.p99, errors.per_request):
        assert part == pytest.approx({"ttft": 0.0, "tpot": 0.0, "e2e": 0.0}, abs=1e-5)
    assert errors.makespan == pytest.approx(0.0, abs=1e-6)


def test_errors_are_shares_of_the_measured_value(tmp_path: Path) -> None:
    """The engine took 1.25 times as long as simulated: simulated / measured - 1 = -20 %."""
    case = read_case(small_case(tmp_path, stretch=1.25))
    errors = compare(case, replay(case.settings))
    assert errors.mean == pytest.approx({"ttft": -0.2, "tpot": -0.2, "e2e": -0.2}, abs=1e-4)
    assert errors.per_request["e2e"] == pytest.approx(0.2, abs=1e-4)


def test_comparing_other_requests_is_refused(tmp_path: Path, settings: ReplaySettings) -> None:
    case = read_case(small_case(tmp_path))
    fewer = replay(replace(settings, workload=write_workload(tmp_path / "few.jsonl", requests=3)))
    with pytest.raises(ValueError, match="24 requests measured, 3 simulated"):
        compare(case, fewer)


def test_ablations_change_the_errors(tmp_path: Path) -> None:
    result = run_case(read_case(small_case(tmp_path)), "compact", None)
    (ablation,) = run_ablations(result.case, result.errors)
    assert ablation.name.startswith("synchronous scheduling")
    assert ablation.without.mean["ttft"] != pytest.approx(result.errors.mean["ttft"], abs=1e-3)


def test_a_wrong_pool_is_harmless_without_pressure(settings: ReplaySettings) -> None:
    error = pool_error("small", settings)
    assert (error.blocks, error.wrong_blocks) == (2588, 3390)
    assert (error.ttft, error.e2e) == (0.0, 0.0)


def test_cases_are_found_wherever_they_lie(tmp_path: Path) -> None:
    small_case(tmp_path / "deep" / "er")
    assert [path.name for path in find_cases(tmp_path)] == ["rtx-4090_small"]
