"""``agentserve data``: what is listed, what is checked, what is copied, and what is never lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agentserve_gym.datasets import (
    MissingDataError,
    State,
    data_folder,
    data_sets,
    find_data_set,
    require_data_set,
)
from agentserve_gym.workloads import Program, Turn, read_programs, write_programs
from tests.data_sets import needed_data_set


@pytest.fixture(scope="module")
def measured_runs() -> Path:
    return needed_data_set("vllm-runs")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    place = tmp_path / "data"
    monkeypatch.setenv("AGENTSERVE_DATA", str(place))
    return place


def write_trace(path: Path, count: int = 1) -> Path:
    turn = Turn(100, 100, 5, 0, 0.0, "end")
    write_programs([Program(f"p{number}", "chat", (turn,)) for number in range(count)], path)
    return path


def test_the_folder_is_the_users_cache_unless_the_variable_names_another(
    folder, tmp_path, monkeypatch
):
    assert data_folder() == folder
    monkeypatch.delenv("AGENTSERVE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder().name == "data"
    assert "agentserve" in data_folder().parts


def test_every_data_set_says_what_it_is_and_where_it_comes_from(agentserve):
    document = json.loads(agentserve("data", "--json").stdout)
    assert [row["name"] for row in document["data_sets"]] == list(data_sets())
    for row in document["data_sets"]:
        assert row["state"] == "absent"
        assert row["what"]
        assert row["source"]
        assert row["licence"]
        assert row["size_bytes"] > 0
    text = agentserve("data").stdout
    assert all(name in text for name in data_sets())
    assert "not here" in text
    assert "docs/data.md" in text


def test_a_missing_data_set_is_said_in_one_line():
    assert find_data_set("tau2") is None
    with pytest.raises(MissingDataError, match="the data set tau2 is not in"):
        require_data_set("tau2")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_trace_is_added_packed(agentserve, folder, tmp_path, suffix):
    source = write_trace(tmp_path / f"own.jsonl{suffix}")
    outcome = agentserve("data", "add", "tau2", source)
    assert "tau2: here, another copy" in outcome.stderr
    stored = require_data_set("tau2")
    assert stored.parent == folder / "traces"
    assert gzip.decompress(stored.read_bytes())
    assert read_programs(stored) == read_programs(source)


def test_what_is_there_is_replaced_with_force_only(agentserve, refused, tmp_path):
    agentserve("data", "add", "tau2", write_trace(tmp_path / "a.jsonl"))
    more = write_trace(tmp_path / "b.jsonl", 2)
    assert "exists; replace it with --force" in refused("data", "add", "tau2", more)
    assert len(read_programs(require_data_set("tau2"))) == 1
    agentserve("data", "add", "tau2", more, "--force")
    assert len(read_programs(require_data_set("tau2"))) == 2


def test_wrong_files_are_refused_and_nothing_is_written(refused, folder, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no trace\n", encoding="utf-8")
    assert "unknown data set 'tau3'; did you mean 'tau2'?" in refused("data", "add", "tau3", bad)
    assert "there is no" in refused("data", "add", "tau2", tmp_path / "none.jsonl")
    assert "bad.jsonl" in refused("data", "add", "tau2", bad)
    assert "is one file; 2 are given" in refused("data", "add", "tau2", bad, bad)
    assert "not valid JSON" in refused("data", "add", "generator-fits", bad)
    assert "no profile tables" in refused("data", "add", "gpu-profiles", bad)
    assert "requests.jsonl" in refused("data", "add", "vllm-runs", bad)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_folders_are_checked_and_join_what_is_there(agentserve, refused, folder, measured_runs):
    by_kind = sorted(measured_runs.iterdir(), key=lambda path: path.is_file())
    first, second, *workloads = by_kind
    assert "no workload file" in refused("data", "add", "vllm-runs", first)
    assert find_data_set("vllm-runs") is None
    agentserve("data", "add", "vllm-runs", first, *workloads)
    assert data_sets()["vllm-runs"].state() is State.OTHER
    agentserve("data", "add", "vllm-runs", second)
    assert data_sets()["vllm-runs"].state() is State.VERIFIED
    assert sorted(path.name for path in folder.iterdir()) == ["vllm_runs"]
    (folder / "vllm_runs" / first.name / "meta.json").write_text("{}", encoding="utf-8")
    assert data_sets()["vllm-runs"].state() is State.OTHER
