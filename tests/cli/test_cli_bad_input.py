"""Bad input of every kind: exit code 2 and one line that says what is wrong and what is allowed."""

from __future__ import annotations

import copy
import gzip
import json
import subprocess
import sys

import pytest

from agentserve_gym.cli.errors import one_line
from agentserve_gym.sim import load_scenario

TOY = load_scenario("toy").model_dump(mode="json", exclude_none=True)


@pytest.fixture
def run_changed(refused, tmp_path):
    """Run the toy scenario with one value changed; returns the refusal."""

    def run(path: str, value: object) -> str:
        content = copy.deepcopy(TOY)
        *parents, last = path.split(".")
        place = content
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[int(last) if isinstance(place, list) else last] = value
        file = tmp_path / "scenario.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        return refused("run", "--scenario", file)

    return run


# --- names ---------------------------------------------------------------------------------------


def test_unknown_preset_names_the_nearest(refused):
    message = refused("run", "--scenario", "defualt")
    assert "unknown scenario 'defualt'" in message
    assert "did you mean 'default'" in message


def test_unknown_key_names_the_nearest(run_changed):
    message = run_changed("engine.max_num_seq", 4)
    assert "unknown key 'engine.max_num_seq'" in message
    assert "did you mean 'max_num_seqs'" in message


def test_unknown_policy_names_the_nearest(refused):
    message = refused("run", "--scenario", "toy", "--policy", "continum")
    assert "'continum'" in message
    assert "did you mean 'continuum'" in message


def test_every_policy_is_checked_before_the_first_runs(refused):
    assert "'nonsense'" in refused("run", "--policy", "lru", "--policy", "nonsense")


def test_bad_policy_parameter(refused):
    message = refused("run", "--policy", "ttl(seconds=-1)")
    assert "seconds is -1" in message


def test_unknown_accelerator(run_changed):
    message = run_changed("cluster.nodes.0.instances.0.accelerator", "h100-sxn")
    assert "h100-sxn" in message
    assert "h100-sxm" in message


def test_missing_scenario_file(refused, tmp_path):
    message = refused("run", "--scenario", tmp_path / "none.toml")
    assert "none.toml" in message
    assert "No such file" in message


def test_scenario_file_that_is_no_toml(refused, tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text("name = \n[cluster", encoding="utf-8")
    assert "not valid TOML" in refused("run", "--scenario", file)


def test_unknown_command_and_option(refused):
    assert "No such command 'rum'" in refused("rum")
    assert "--seeds" in refused("run", "--seeds", "3")


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "path",
    [
        "pin_ttls_s.0",
        "router.signal_delay_s",
        "tools.slowdown_per_call",
        "objective.jct_unit_s",
        "workload.programs.0.arrival_s",
        "workload.programs.0.turns.0.gap_s",
        "cluster.nodes.0.host_link.latency_us",
    ],
)
def test_negative_and_not_finite_numbers(run_changed, path, value):
    message = run_changed(path, value)
    assert path.rpartition(".")[2] in message.partition(" is ")[0]
    assert f"is {value}" in message


def test_negative_seed(refused):
    assert "seed is -1" in refused("run", "--scenario", "toy", "--seed", "-1")


def test_seed_that_is_no_number(refused):
    assert "--seed" in refused("run", "--seed", "one")


def test_tier_of_zero_capacity(run_changed):
    message = run_changed("cluster.nodes.0.dram.capacity_gib", 0)
    assert "dram.capacity_gib is 0" in message
    assert "greater than 0" in message


def test_cxl_tier_of_zero_capacity(run_changed):
    cxl = {"nodes": ["node0"], "capacity_gib": 0.0, "bandwidth_gbps": 25.0}
    assert "cxl.capacity_gib is 0.0" in run_changed("cluster.cxl", cxl)


def test_tier_below_one_block(run_changed):
    message = run_changed("cluster.nodes.0.dram.capacity_gib", 1e-6)
    assert "node0.dram.capacity_gib is 1e-06" in message
    assert "one KV block" in message


def test_hbm_pool_of_zero_blocks(run_changed):
    assert "kv_blocks is 0" in run_changed("cluster.nodes.0.instances.0.kv_blocks", 0)


@pytest.mark.parametrize("path", ["cluster.nodes.0.instances", "cluster.nodes"])
def test_zero_instances(run_changed, path):
    message = run_changed(path, [])
    assert f"{path} is []" in message
    assert "at least 1 item" in message


def test_zero_instances_by_count(run_changed):
    assert "count is 0" in run_changed("cluster.nodes.0.instances.0.count", 0)


def test_link_of_zero_bandwidth(run_changed):
    message = run_changed("cluster.nodes.0.host_link.bandwidth_gbps", 0.0)
    assert "host_link.bandwidth_gbps is 0.0" in message


# --- programs and traces -------------------------------------------------------------------------


def test_program_that_cannot_fit_names_program_tokens_and_pool(run_changed):
    message = run_changed("workload.programs.1.turns.0.new_input_tokens", 5000)
    assert "program 'second' needs 5082 tokens" in message
    assert "instance 0 hbm holds" in message


@pytest.fixture
def run_trace(refused, tmp_path):
    """Run the toy cluster on a trace file with this content; returns the refusal."""

    def run(name: str, content: bytes) -> str:
        trace = tmp_path / name
        trace.write_bytes(content)
        scenario = {**TOY, "workload": {"kind": "trace", "path": str(trace)}}
        file = tmp_path / "scenario.json"
        file.write_text(json.dumps(scenario), encoding="utf-8")
        message = refused("run", "--scenario", file)
        assert message == refused("trace", trace)
        assert name in message
        return message

    return run


GOOD_LINE = (
    b'{"schema": "agentserve/1", "program_id": "p", "agent_class": "chat", "arrival_s": 0.0, '
    b'"turns": [{"input_tokens": 10, "new_input_tokens": 10, "output_tokens": 2, '
    b'"reuse_tokens": 0}]}\n'
)


def good_lines(count: int) -> bytes:
    """As many programs, each with an id of its own."""
    return b"".join(GOOD_LINE.replace(b'"p"', b'"p%d"' % number) for number in range(count))


def test_empty_trace(run_trace):
    assert "the file is empty" in run_trace("empty.jsonl", b"")


def test_truncated_line(run_trace):
    message = run_trace("cut.jsonl", good_lines(2) + GOOD_LINE[:60])
    assert "line 3" in message
    assert "not valid JSON" in message


def test_truncated_gzip(run_trace):
    packed = gzip.compress(good_lines(2000))
    assert "truncated gzip" in run_trace("cut.jsonl.gz", packed[:-20])


def test_gzip_by_name_only(run_trace):
    assert "not a gzip file" in run_trace("plain.jsonl.gz", GOOD_LINE)


def test_bad_line_is_named_with_its_number(run_trace):
    bad = GOOD_LINE.replace(b'"output_tokens": 2', b'"output_tokens": -2')
    message = run_trace("bad.jsonl", GOOD_LINE + bad)
    assert "line 2" in message
    assert "output_tokens is -2" in message


def test_missing_trace(refused, tmp_path):
    assert "none.jsonl" in refused("trace", tmp_path / "none.jsonl")


def test_trace_of_unknown_format(refused, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(GOOD_LINE)
    assert "mooncak" in refused("trace", file, "--format", "mooncak")


def test_conversion_into_no_folder(refused, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(GOOD_LINE)
    assert "nowhere" in refused("trace", file, "--to", tmp_path / "nowhere" / "y.jsonl")


# --- pictures ------------------------------------------------------------------------------------


def test_picture_of_another_kind(refused, tmp_path):
    message = refused("run", "--scenario", "toy", "--picture", tmp_path / "runs.pdf")
    assert "ends in .png" in message


def test_picture_into_no_folder(refused, tmp_path):
    message = refused("run", "--scenario", "toy", "--picture", tmp_path / "nowhere" / "runs.png")
    assert "no folder" in message


def test_missing_matplotlib_names_the_extra(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = refused("run", "--scenario", "toy", "--picture", tmp_path / "runs.png")
    assert "in the checkout, pip install -c constraints.txt '.[plot]'" in message


# --- traces of runs ------------------------------------------------------------------------------


def test_trace_of_another_kind(refused, tmp_path):
    message = refused("run", "--scenario", "toy", "--trace", tmp_path / "run.txt")
    assert "ends in .pftrace (Perfetto's format) or .json (Chrome's)" in message


def test_trace_into_no_folder(refused, tmp_path):
    message = refused("run", "--scenario", "toy", "--trace", tmp_path / "nowhere" / "run.json")
    assert "no folder" in message


def test_trace_of_several_policies(refused, tmp_path):
    two = ("run", "--scenario", "toy", "--policy", "lru", "--policy", "round_robin+dram")
    message = refused(*two, "--trace", tmp_path / "run.json")
    assert "of 2 policies (lru, round_robin+dram); allowed: one policy a trace" in message


def test_missing_perfetto_names_the_extra(refused, tmp_path, monkeypatch):
    for name in ("perfetto", "perfetto.protos.perfetto.trace"):
        monkeypatch.setitem(sys.modules, name, None)
    message = refused("run", "--scenario", "toy", "--trace", tmp_path / "run.pftrace")
    assert "in the checkout, pip install -c constraints.txt '.[trace]'" in message


# --- optional parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["train"], ["evaluate", "--model", "runs/none"]])
def test_missing_torch_names_the_train_extra(command):
    source = (
        "import sys; sys.modules['torch'] = None\n"
        f"from agentserve_gym.cli import app; app({command!r})"
    )
    finished = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr == (
        "agentserve: torch is not installed; it comes with the extra 'train': in the checkout, "
        "pip install -c constraints.txt '.[train]'; of a wheel: pip install 'FILE.whl[train]'\n"
    )


def test_a_missing_module_of_no_extra_is_a_defect_and_is_not_hidden():
    error = ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
    with pytest.raises(ModuleNotFoundError):
        one_line(error)
