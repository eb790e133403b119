"""``agentserve scenarios``, ``policies``, ``hardware`` and ``trace``."""

from __future__ import annotations

import json

import pytest

from agentserve_gym.baselines import parse_policy
from agentserve_gym.hardware import list_accelerators, list_models
from agentserve_gym.sim import Scenario, preset_names
from agentserve_gym.workloads import Program, ToolCall, Turn, read_programs, write_programs


def test_scenarios_lists_every_preset(agentserve):
    table = agentserve("scenarios").stdout
    listed = json.loads(agentserve("scenarios", "--json").stdout)
    assert [entry["name"] for entry in listed] == preset_names()
    for entry in listed:
        assert entry["name"] in table
        assert entry["description"]
        assert sum(entry["gpus"].values()) >= 1


def test_one_scenario_is_shown_whole(agentserve):
    shown = agentserve("scenarios", "toy").stdout
    assert "kv_blocks = 64" in shown
    assert "new_input_tokens = 320" in shown
    assert "max_num_batched_tokens = 8192" in agentserve("scenarios", "default").stdout
    document = json.loads(agentserve("scenarios", "toy", "--json").stdout)
    assert Scenario.model_validate(document).name == "toy"


def test_policies_lists_names_that_run_takes(agentserve):
    table = agentserve("policies").stdout
    listed = json.loads(agentserve("policies", "--json").stdout)
    families = {entry["family"] for entry in listed}
    assert {"routing", "residency", "admission", "scheduling"} <= families
    for entry in listed:
        assert entry["name"] in table
        assert entry["rule"]
        assert entry["source"]
        parse_policy(entry["name"])


@pytest.fixture
def trace(tmp_path):
    """Three programs of two turns, written in our own format."""
    programs = [
        Program(
            f"p{number}",
            "chat" if number else "function_calling",
            (
                Turn(
                    100, 100, 10, 0, 2.0 + number, "tool", (ToolCall("search", 2.0 + number, 20),)
                ),
                Turn(150, 40, 20, 110),
            ),
            arrival_s=float(number),
        )
        for number in range(3)
    ]
    path = tmp_path / "programs.jsonl"
    write_programs(programs, path)
    return path


def test_trace_tells_counts_and_quantiles(agentserve, trace):
    summary = json.loads(agentserve("trace", trace, "--json").stdout)
    assert summary["format"] == "agentserve"
    assert (summary["programs"], summary["turns"]) == (3, 6)
    assert summary["tool_gap_s"]["p50"] == 3.0
    table = agentserve("trace", trace).stdout
    for text in ("3 programs", "6 turns", "tool_gap_s", "search x 3", "1 programs/s"):
        assert text in table


def test_trace_converts_and_keeps_every_program(agentserve, trace, tmp_path):
    target = tmp_path / "copy.jsonl.gz"
    outcome = agentserve("trace", trace, "--to", target, "--json")
    assert outcome.code == 0
    json.loads(outcome.stdout)
    assert f"wrote 3 programs to {target}" in outcome.stderr
    assert target.read_bytes().startswith(b"\x1f\x8b")
    assert read_programs(target) == read_programs(trace)


def test_hardware_lists_the_catalogue(agentserve):
    table = agentserve("hardware").stdout
    listed = json.loads(agentserve("hardware", "--json").stdout)
    assert [entry["name"] for entry in listed["models"]] == list_models()
    assert [entry["name"] for entry in listed["accelerators"]] == list_accelerators()
    assert "b200/llama-3.3-70b-nvfp4/tp1-kv-fp8" in listed["timing"]
    by_name = {entry["name"]: entry for entry in listed["models"]}
    quantized = by_name["llama-3.3-70b-nvfp4"]
    assert (quantized["kv_dtype"], quantized["kv_bytes_per_token"]) == ("fp8", 163_840)
    assert by_name["gpt-oss-120b"]["blocks_besides"] == 9
    for entry in (*listed["models"], *listed["accelerators"]):
        assert entry["name"] in table
    assert "163,840" in table
