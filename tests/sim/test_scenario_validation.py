"""Bad scenarios are refused before anything runs, with a message that names what to change."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from agentserve_gym.sim import Scenario, Simulation, cell_names, load_scenario, preset_names
from agentserve_gym.sim.loading import load_cell
from agentserve_gym.sim.scenario import ClusterSpec

GOOD: dict[str, Any] = {
    "name": "good",
    "cluster": {
        "model": "llama-3.1-8b",
        "nodes": [
            {
                "name": "n0",
                "instances": [{"accelerator": "rtx-4090", "count": 2, "kv_blocks": 100}],
                "dram": {"capacity_gib": 1.0},
                "peer_link": {"bandwidth_gbps": 100.0},
            }
        ],
        "cxl": {"nodes": ["n0"], "capacity_gib": 1.0, "bandwidth_gbps": 20.0},
        "network": {"bandwidth_gbps": 10.0},
    },
    "workload": {
        "kind": "inline",
        "programs": [{"arrival_s": 0.0, "turns": [{"new_input_tokens": 50, "output_tokens": 5}]}],
    },
    "arrivals": {"kind": "trace"},
    "engine": {},
    "router": {},
    "tools": {},
    "objective": {},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good scenario with one value replaced; numbers in the path index lists."""
    scenario = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    at: Any = scenario
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]
    at[last] = value
    return scenario


def without(path: str) -> dict[str, Any]:
    scenario = changed(path, None)
    *parents, last = path.split(".")
    at: Any = scenario
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]
    del at[last]
    return scenario


def test_the_good_scenario_is_good() -> None:
    scenario = load_scenario(GOOD)
    simulation = Simulation(scenario)
    assert len(simulation.engines) == 2


def test_a_scenario_survives_serialization() -> None:
    scenario = load_scenario(GOOD)
    again = load_scenario(json.loads(scenario.model_dump_json()))
    assert again == scenario
    assert load_scenario(scenario) is scenario


def test_a_scenario_is_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_scenario(GOOD).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_starts(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.description
    decision = Simulation(scenario, 0).advance()
    assert decision is not None


# --- keys and names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key", "nearest"),
    [
        ("", "horizont_s", "horizon_s"),
        ("engine", "max_num_seq", "max_num_seqs"),
        ("cluster.nodes.0", "drem", "dram"),
        ("cluster.nodes.0.instances.0", "kv_block", "kv_blocks"),
        ("cluster.cxl", "capacity_gb", "capacity_gib"),
        ("router", "signal_delays", "signal_delay_s"),
        ("tools", "max_retry", "max_retries"),
        ("workload.programs.0.turns.0", "output_token", "output_tokens"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    path: str, key: str, nearest: str
) -> None:
    where = f"{path}.{key}" if path else key
    with pytest.raises(ValueError, match="unknown key") as caught:
        load_scenario(changed(where, 1))
    assert key in str(caught.value)
    assert f"did you mean {nearest!r}" in str(caught.value)


def test_an_unknown_key_like_no_other_is_named_alone() -> None:
    with pytest.raises(ValueError, match="unknown key 'zzzzzz'") as caught:
        load_scenario(changed("zzzzzz", 1))
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("path", ["cluster", "workload", "arrivals", "cluster.model", "name"])
def test_a_missing_part_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"{path.split('.')[-1]} is missing"):
        load_scenario(without(path))


def test_an_unknown_preset_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(ValueError, match="unknown scenario 'defualt'") as caught:
        load_scenario("defualt")
    assert "did you mean 'default'" in str(caught.value)
    for name in preset_names():
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("cluster.model", "llama-9", "llama-9"),
        ("cluster.nodes.0.instances.0.accelerator", "rtx-9999", "rtx-9999"),
        ("cluster.nodes.0.instances.0.timing", "guesswork", "guesswork"),
    ],
)
def test_unknown_hardware_is_named(path: str, value: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Simulation(load_scenario(changed(path, value)))


# --- numbers --------------------------------------------------------------------------------------

POSITIVE = [
    "horizon_s",
    "objective.jct_unit_s",
    "objective.slo_ttft_s",
    "tools.timeout_s",
    "cluster.nodes.0.dram.capacity_gib",
    "cluster.nodes.0.dram.bandwidth_gbps",
    "cluster.nodes.0.peer_link.bandwidth_gbps",
    "cluster.cxl.capacity_gib",
    "cluster.cxl.bandwidth_gbps",
    "cluster.cxl.pool_bandwidth_gbps",
    "cluster.network.bandwidth_gbps",
]
NOT_NEGATIVE = [
    "router.signal_delay_s",
    "tools.slowdown_per_call",
    "tools.retry_delay_s",
    "cluster.network.latency_us",
    "cluster.nodes.0.dram.latency_us",
    "workload.programs.0.arrival_s",
]
COUNTS = [
    "cluster.nodes.0.instances.0.count",
    "cluster.nodes.0.instances.0.kv_blocks",
    "cluster.nodes.0.instances.0.tensor_parallel",
    "engine.max_num_seqs",
    "engine.max_num_batched_tokens",
    "engine.block_size_tokens",
]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("path", POSITIVE + NOT_NEGATIVE)
@pytest.mark.parametrize("value", [NAN, INF, -INF, -1.0, "many"], ids=str)
def test_numbers_must_be_finite_and_not_negative(path: str, value: Any) -> None:
    with pytest.raises(ValueError, match=path.rsplit(".", 1)[-1]):
        load_scenario(changed(path, value))


@pytest.mark.parametrize("path", POSITIVE)
def test_zero_is_no_capacity_bandwidth_or_time(path: str) -> None:
    with pytest.raises(ValueError, match=path.rsplit(".", 1)[-1]):
        load_scenario(changed(path, 0.0))


@pytest.mark.parametrize("path", COUNTS)
@pytest.mark.parametrize("value", [0, -3, 1.5, NAN], ids=str)
def test_counts_are_whole_and_at_least_one(path: str, value: Any) -> None:
    with pytest.raises(ValueError, match=path.rsplit(".", 1)[-1]):
        load_scenario(changed(path, value))


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, NAN])
def test_memory_utilization_is_a_share(value: float) -> None:
    with pytest.raises(ValueError, match="memory_utilization"):
        load_scenario(changed("engine.memory_utilization", value))


@pytest.mark.parametrize("value", [1.0, -0.1, NAN])
def test_failures_must_end_some_time(value: float) -> None:
    with pytest.raises(ValueError, match="failure_probability"):
        load_scenario(changed("tools.failure_probability", value))


@pytest.mark.parametrize("ttls", [[0.0], [-2.0], [NAN], [2.0, INF]])
def test_pin_ttls_are_positive(ttls: list[float]) -> None:
    with pytest.raises(ValueError, match="pin_ttls_s"):
        load_scenario(changed("pin_ttls_s", ttls))


@pytest.mark.parametrize("limit_s", [0.0, -1.0, NAN, INF, None])
def test_pins_until_return_end_some_time(limit_s: float | None) -> None:
    with pytest.raises(ValueError, match="pin_until_return_s"):
        load_scenario(changed("pin_until_return_s", limit_s))


# --- what does not go together --------------------------------------------------------------------


def test_no_instances_or_nodes_is_no_cluster() -> None:
    with pytest.raises(ValueError, match="instances"):
        load_scenario(changed("cluster.nodes.0.instances", []))
    with pytest.raises(ValueError, match="nodes"):
        load_scenario(changed("cluster.nodes", []))


def test_node_names_must_differ() -> None:
    nodes = [GOOD["cluster"]["nodes"][0]] * 2
    with pytest.raises(ValueError, match="node names must differ"):
        load_scenario(changed("cluster.nodes", nodes))


def test_a_cxl_pool_must_name_nodes_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'n7'.*'n0'"):
        load_scenario(changed("cluster.cxl.nodes", ["n7"]))


NVME = {"name": "nvme", "capacity_gib": 1.0, "read_gbps": 8.0, "write_gbps": 4.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "dram"}, r"tiers\.0\.name is 'dram'.*no other tier has \(hbm, dram, cxl\)"),
        ({"name": "My SSD"}, r"tiers\.0\.name is 'My SSD'"),
        ({"nodes": ["n7"]}, r"tiers\.0\.nodes names 'n7'; the nodes are \['n0'\]"),
        ({"nodes": []}, r"tiers\.0\.nodes is \[\]"),
        ({"write_gbps": 0.0}, r"tiers\.0\.write_gbps is 0\.0"),
        ({"read_gbp": 1.0}, r"did you mean 'read_gbps'"),
    ],
)
def test_a_wrong_tier_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_scenario(changed("cluster.tiers", [{**NVME, **change}]))


def test_tiers_are_listed_nearest_first() -> None:
    cluster = load_scenario(changed("cluster.tiers", [NVME, {**NVME, "name": "object"}])).cluster
    assert cluster.tier_names == ("dram", "cxl", "nvme", "object")


def test_every_decode_must_fit_a_step() -> None:
    with pytest.raises(
        ValueError,
        match=r"max_num_batched_tokens is 64; .*max_num_seqs, which is 256 "
        r"\(the default on rtx-4090\)",
    ):
        Simulation(load_scenario(changed("engine.max_num_batched_tokens", 64)))
    with pytest.raises(
        ValueError, match=r"max_num_batched_tokens is 2048 \(the default on rtx-4090\).*is 4096$"
    ):
        Simulation(load_scenario(changed("engine.max_num_seqs", 4096)))


@pytest.mark.parametrize(
    ("accelerator", "limits"),
    [
        ("rtx-4090", (256, 2048)),
        ("l40s", (256, 2048)),
        ("a100-80", (256, 2048)),
        ("h100-sxm", (1024, 8192)),
        ("rtx-pro-6000", (1024, 8192)),
        ("b200", (1024, 8192)),
    ],
)
def test_steps_are_as_large_as_vllm_makes_them_on_the_gpu(
    accelerator: str, limits: tuple[int, int]
) -> None:
    scenario = load_scenario(changed("cluster.nodes.0.instances.0.accelerator", accelerator))
    for view in Simulation(scenario).cluster.instances:
        assert (view.max_num_seqs, view.max_num_batched_tokens) == limits


def test_limits_of_a_step_that_are_given_hold_on_every_gpu() -> None:
    given = {"max_num_seqs": 32, "max_num_batched_tokens": 512}
    instances = [{"accelerator": gpu, "kv_blocks": 100} for gpu in ("rtx-4090", "h100-sxm")]
    content = changed("cluster.nodes.0.instances", instances)
    views = Simulation(load_scenario({**content, "engine": given})).cluster.instances
    assert {(view.max_num_seqs, view.max_num_batched_tokens) for view in views} == {(32, 512)}
    seqs_only = load_scenario({**content, "engine": {"max_num_seqs": 32}})
    views = Simulation(seqs_only).cluster.instances
    assert [view.max_num_batched_tokens for view in views] == [2048, 8192]


def test_a_tier_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n0\.dram\.capacity_gib is 0\.001.*KV block"):
        Simulation(load_scenario(changed("cluster.nodes.0.dram.capacity_gib", 0.001)))
    with pytest.raises(ValueError, match=r"cxl\.capacity_gib is 0\.001.*KV block"):
        Simulation(load_scenario(changed("cluster.cxl.capacity_gib", 0.001)))
    small = {**NVME, "capacity_gib": 0.001}
    with pytest.raises(ValueError, match=r"tiers: nvme\.capacity_gib is 0\.001.*KV block"):
        Simulation(load_scenario(changed("cluster.tiers", [small])))


def test_a_program_that_cannot_fit_is_refused_with_its_name_tokens_and_the_pool() -> None:
    big = {
        "program_id": "giant",
        "arrival_s": 0.0,
        "turns": [
            {"new_input_tokens": 1000, "output_tokens": 100, "gap_s": 1.0},
            {"new_input_tokens": 500, "output_tokens": 7},
        ],
    }
    with pytest.raises(ValueError, match="'giant'") as caught:
        Simulation(load_scenario(changed("workload.programs", [big])))
    # 1,607 tokens; 99 usable blocks of 16.
    assert "1607 tokens" in str(caught.value)
    assert "instance 0 hbm holds 1584" in str(caught.value)


def test_a_sub_agent_that_cannot_fit_is_refused_too() -> None:
    child = {"program_id": "kid", "turns": [{"new_input_tokens": 5000, "output_tokens": 1}]}
    parent = {
        "arrival_s": 0.0,
        "turns": [
            {"new_input_tokens": 10, "output_tokens": 1, "gap_s": 1.0, "children": [child]},
            {"new_input_tokens": 10, "output_tokens": 1},
        ],
    }
    with pytest.raises(ValueError, match="'kid' needs 5001 tokens"):
        Simulation(load_scenario(changed("workload.programs", [parent])))


def test_a_program_that_just_fits_runs() -> None:
    """99 of 100 blocks: one is kept for a level of a prefix that may only be used in part."""
    fits = {"arrival_s": 0.0, "turns": [{"new_input_tokens": 1500, "output_tokens": 84}]}
    Simulation(load_scenario(changed("workload.programs", [fits])))
    fits["turns"][0]["output_tokens"] = 85  # type: ignore[index]
    with pytest.raises(ValueError, match="1585"):
        Simulation(load_scenario(changed("workload.programs", [fits])))


def test_a_generated_window_beyond_the_pool_is_refused() -> None:
    spec = {"kind": "generated", "mix": {"function_calling": 1.0}, "programs": 2}
    scenario = changed("workload", {**spec, "max_context_tokens": 99_999})
    scenario["arrivals"] = {"kind": "poisson", "rate_per_s": 1.0}
    with pytest.raises(ValueError, match=r"max_context_tokens is 99999.*instance 0 hbm"):
        Simulation(load_scenario(scenario))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed is -1"):
        Simulation(load_scenario(GOOD), -1)


# --- files ----------------------------------------------------------------------------------------


def test_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert load_scenario(path) == load_scenario(str(path)) == load_scenario(GOOD)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("bad.json", "{", "not valid JSON"),
        ("bad.toml", "a = = 1", "not valid TOML"),
        ("list.json", "[1]", "must hold a table of keys"),
        ("wrong.json", '{"name": 3}', "wrong.json"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, match: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=match) as caught:
        load_scenario(path)
    assert name in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read") as caught:
        load_scenario(tmp_path / "nowhere.toml")
    assert "nowhere.toml" in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, [], True, b"default"], ids=repr)
def test_what_is_no_scenario_is_refused_in_one_line(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^scenario is .*; allowed: the name of") as caught:
        load_scenario(value)
    assert "\n" not in str(caught.value)


def test_instances_are_counted_over_groups_and_nodes() -> None:
    group = {"accelerator": "h100-sxm", "count": 3, "data_parallel": 2, "tensor_parallel": 4}
    nodes = [{"name": name, "instances": [group, {"accelerator": "h200"}]} for name in "ab"]
    cluster = ClusterSpec.model_validate({"model": "llama-3.1-8b", "nodes": nodes})
    assert cluster.nodes[0].instances[0].num_instances == 6
    assert cluster.num_instances == 14


def test_every_field_can_be_given_by_its_scenario_type() -> None:
    assert isinstance(Scenario.model_validate(GOOD), Scenario)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cluster.nodes.0.instances.0.count", 1_000_000),
        ("cluster.nodes.0.instances.0.data_parallel", 1_000_000),
        ("cluster.nodes.0.dram.capacity_gib", 1e308),
        ("cluster.cxl.capacity_gib", 1e308),
        ("engine.block_size_tokens", 10**9),
        ("tools.max_retries", 10**9),
        ("arrivals", {"kind": "closed_loop", "concurrency": 10**9}),
        ("arrivals", {"kind": "gamma", "rate_per_s": 1.0, "cv": 1e200}),
        ("arrivals", {"kind": "diurnal", "rate_per_s": 1.0, "cv": 1e-200}),
        ("workload", {"kind": "generated", "mix": {"coding_auto": 1.0}, "programs": 10**12}),
    ],
)
def test_a_wrong_digit_does_not_take_all_memory(path: str, value: Any) -> None:
    field = path.rpartition(".")[2] if not isinstance(value, dict) else list(value)[-1]
    with pytest.raises(ValueError, match=f"{field} is .*(less|greater) than or equal to"):
        load_scenario(changed(path, value))


def test_instances_are_counted_over_all_nodes() -> None:
    group = {"accelerator": "rtx-4090", "count": 2500, "data_parallel": 2, "kv_blocks": 100}
    assert load_scenario(changed("cluster.nodes.0.instances", [group, group]))
    with pytest.raises(ValueError, match=r"15000 instances .* allowed: at most 10000"):
        load_scenario(changed("cluster.nodes.0.instances", [group, group, group]))


def test_a_thousand_instances_run() -> None:
    simulation = Simulation(load_scenario(changed("cluster.nodes.0.instances.0.count", 1000)))
    assert simulation.advance() is not None
    assert len(simulation.engines) == 1000


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"new_input_tokens": 10**12, "output_tokens": 5}, "input_tokens is 1000000000000"),
        (
            {"new_input_tokens": 5, "output_tokens": 5,
             "tools": [{"duration_s": 1.0, "failures": 10**9}]},
            "failures is 1000000000",
        ),
    ],
)  # fmt: skip
def test_programs_written_out_have_limits_too(turn: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Simulation(load_scenario(changed("workload.programs.0.turns", [turn])))


def test_cells_of_the_benchmark_go_by_name():
    cells = cell_names()
    assert "coding-70b-hbm" in cells
    assert not set(cells) & set(preset_names())
    assert [load_scenario(name).name for name in cells] == cells
    env = gymnasium.make("agentserve_gym:AgentServeRouting-v0", scenario="functions-8b-1-l40s")
    assert env.unwrapped.scenario == load_scenario("functions-8b-1-l40s")
    with pytest.raises(ValueError, match="unknown scenario 'coding-70b-hmb'; did you mean 'coding"):
        load_scenario("coding-70b-hmb")


def test_traces_of_cells_are_looked_for_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTSERVE_DATA", str(tmp_path))
    workload = load_scenario("trace-coding-8b-4").workload
    assert workload.path == str(tmp_path / "traces" / load_cell("trace-coding-8b-4").workload.path)
    with pytest.raises(ValueError, match=r"cannot be opened: .* says where to get it"):
        Simulation(load_scenario("trace-coding-8b-4"), 0)
