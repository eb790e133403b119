"""Reading measured runs, and what is said when one is wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from validation_helpers import meta, small_case

from agentserve_gym.validation import find_cases, read_case, replay
from agentserve_gym.validation.targets import PUBLISHED_RUNS


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return small_case(tmp_path)


def change_row(case: Path, number: int, **values: Any) -> None:
    """Change one line of requests.jsonl."""
    path = case / "requests.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **values})
    path.write_text("\n".join(lines), encoding="utf-8")


def test_settings_follow_the_engines_arguments(case: Path) -> None:
    settings = read_case(case).settings
    assert (settings.accelerator, settings.model) == ("rtx-4090", "llama-3.1-8b")
    assert (settings.max_num_seqs, settings.max_num_batched_tokens) == (128, 2048)
    assert settings.workload.name == "workload.jsonl"


def test_the_published_pool_is_used_where_meta_names_none(case: Path) -> None:
    assert read_case(case).settings.kv_blocks == 2588
    (case / "meta.json").write_text(json.dumps({**meta(), "kv_blocks": 3000}), encoding="utf-8")
    assert read_case(case).settings.kv_blocks == 3000


def test_the_pool_that_the_engines_reported_is_shared_among_them(case: Path) -> None:
    pool = {"kv_cache": {"num_gpu_blocks": 4001, "block_size": 16}}
    (case / "meta.json").write_text(json.dumps(meta(data_parallel_size=2) | pool), encoding="utf-8")
    assert read_case(case).settings.kv_blocks == 2000
    pool["kv_cache"]["block_size"] = 32
    (case / "meta.json").write_text(json.dumps(meta() | pool), encoding="utf-8")
    with pytest.raises(ValueError, match=r"kv_cache\.block_size is 32; allowed: 16"):
        read_case(case)


def test_runs_are_read_as_they_were_published(case: Path, tmp_path: Path) -> None:
    """<GPU>/<model>/vllm, and a workload of token ids that meta.json names from the root."""
    published = tmp_path / "repository" / "examples" / "RTX4090" / "Llama-3.1-8B" / "vllm"
    shutil.copytree(case, published)
    name = "workloads/sharegpt.jsonl"
    (published / "meta.json").write_text(
        json.dumps(meta() | {"dataset_path": name}), encoding="utf-8"
    )
    rows = [json.loads(line) for line in (case.parent / "workload.jsonl").read_text().splitlines()]
    workload = tmp_path / "repository" / name
    workload.parent.mkdir()
    workload.write_text("".join(json.dumps(_with_ids(row)) + "\n" for row in rows))
    measured, reduced = read_case(published), read_case(case)
    assert find_cases(tmp_path / "repository") == [published]
    assert measured.name == "RTX4090_Llama-3.1-8B"
    assert measured.settings.workload == workload
    assert measured.settings == replace(reduced.settings, workload=workload)
    exact, same = replay(measured.settings), replay(reduced.settings)  # but for whole nanoseconds
    assert exact.e2e_s() == pytest.approx(same.e2e_s(), abs=1e-8)
    assert exact.report["hit_tokens"] == same.report["hit_tokens"]
    workload.unlink()
    with pytest.raises(ValueError, match=rf"looked at none \(meta\.json names {name}\)"):
        read_case(published)


def _with_ids(row: dict[str, Any]) -> dict[str, Any]:
    """A request with token ids that share what its block ids share."""
    tokens = [16 * block + place for block in row["block_ids"] for place in range(16)]
    alone = range(10**6 * row["block_ids"][-1], 10**6 * row["block_ids"][-1] + 400)
    ids = [*tokens, *alone][: row["input_tokens"]]
    output = row["output_tokens"]
    return {
        "input_toks": len(ids),
        "output_toks": output,
        "arrival_time_ns": round(row["arrival_s"] * 1e9),
        "input_tok_ids": ids,
        "output_tok_ids": [7] * output,
    }


def test_experts_spread_over_the_group(case: Path) -> None:
    engine = meta(data_parallel_size=2, enable_expert_parallel=True, max_num_seqs=None)
    (case / "meta.json").write_text(json.dumps(engine), encoding="utf-8")
    settings = read_case(case).settings
    assert (settings.data_parallel, settings.expert_parallel) == (2, 2)
    assert settings.max_num_seqs == 128


def test_requests_are_ordered_by_arrival(case: Path) -> None:
    """The file lists them backwards; their waits are positive and in workload order."""
    measured = read_case(case)
    assert len(measured.ttft_s) == 24
    assert (measured.ttft_s > 0).all()
    assert (measured.e2e_s >= measured.ttft_s).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"first_token_ts": "soon"}, r"line 3: first_token_ts is 'soon'; allowed: a number"),
        ({"output_toks": None}, r"line 3: output_toks is None"),
        ({"queued_ts": float("nan")}, r"line 3: queued_ts is nan"),
        ({"last_token_ts": 0.0}, r"line 3: queued_ts, first_token_ts and last_token_ts"),
    ],
)
def test_a_bad_request_is_named(case: Path, values: dict[str, Any], message: str) -> None:
    change_row(case, 2, **values)
    with pytest.raises(ValueError, match=message):
        read_case(case)


def test_a_line_that_is_no_json_is_named(case: Path) -> None:
    (case / "requests.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"requests\.jsonl, line 1: not valid JSON"):
        read_case(case)


def test_an_empty_run_is_refused(case: Path) -> None:
    (case / "requests.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is empty; at least 1 request"):
        read_case(case)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("{}", "has no engine_kwargs"),
        (json.dumps({"engine_kwargs": {}}), r"engine_kwargs\.model is None"),
        (json.dumps(meta(tensor_parallel_size=0)), r"tensor_parallel_size is 0; allowed"),
        (json.dumps(meta(max_num_seqs="many")), r"max_num_seqs is 'many'; allowed"),
    ],
)
def test_a_bad_meta_file_is_refused(case: Path, content: str, message: str) -> None:
    (case / "meta.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_case(case)


def test_a_run_without_its_workload_is_refused(case: Path) -> None:
    change_row(case, 0, input_toks=99_999)
    with pytest.raises(ValueError, match=r"no workload file .* looked at workload\.jsonl"):
        read_case(case)


def test_files_that_are_no_workload_are_passed_over(case: Path) -> None:
    (case.parent / "a.jsonl").write_text("not a workload\n", encoding="utf-8")
    assert read_case(case).settings.workload.name == "workload.jsonl"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder of measured runs"):
        find_cases(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no folder with meta\.json and requests\.jsonl"):
        find_cases(tmp_path)


def test_published_runs_name_known_hardware(tmp_path: Path) -> None:
    from agentserve_gym.hardware import list_accelerators, list_models

    for run in PUBLISHED_RUNS:
        assert run.accelerator in list_accelerators()
        assert run.model in list_models()
        assert run.is_of(run.settings(tmp_path))
