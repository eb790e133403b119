"""Many bad inputs, one by one: exit code 2, one short line that names what is wrong, no traceback.

`test_cli_bad_input` has the cases whose words matter; these are the many others.
"""

from __future__ import annotations

import copy
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agentserve_gym.bench.results import COLUMNS
from agentserve_gym.sim import load_scenario

NAN, INFINITY = float("nan"), float("inf")
NODE = "cluster.nodes.0"
INSTANCE = f"{NODE}.instances.0"
TURN = "workload.programs.0.turns.0"
MOST_LETTERS = 500


def preset(name: str) -> dict[str, Any]:
    return load_scenario(name).model_dump(mode="json", exclude_none=True)


TOY, GENERATED = preset("toy"), preset("default")


def changed(scenario: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with one value replaced or added."""
    content = copy.deepcopy(scenario)
    *parents, last = path.split(".")
    place: Any = content
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return content


@pytest.fixture
def said(refused, tmp_path, monkeypatch):
    """The refusal of a command that runs in an empty folder; it must be short."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> str:
        message: str = refused(*arguments)
        assert 0 < len(message) <= MOST_LETTERS, message
        return message

    return call


def write(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


# --- scenarios: values ---------------------------------------------------------------------------

COUNTS = [f"{INSTANCE}.{key}" for key in ("tensor_parallel", "data_parallel", "expert_parallel")]
COUNTS += [f"{INSTANCE}.count", f"{INSTANCE}.kv_blocks", "tools.max_retries"]
COUNTS += [
    f"engine.{key}"
    for key in ("max_num_seqs", "max_num_batched_tokens", "block_size_tokens")
]  # fmt: skip
AMOUNTS = [f"{NODE}.host_link.{key}" for key in ("bandwidth_gbps", "latency_us")]
AMOUNTS += [f"{NODE}.dram.{key}" for key in ("capacity_gib", "bandwidth_gbps")]
AMOUNTS += ["horizon_s", "objective.slo_ttft_s", "tools.timeout_s", "engine.memory_utilization"]
AMOUNTS += ["tools.failure_probability", f"{TURN}.gap_s"]
TABLES = ["cluster", "engine", "workload", "arrivals", "router", "tools", "objective", NODE]
TABLES += [INSTANCE, f"{NODE}.host_link", f"{NODE}.dram", "workload.programs.0", TURN]


@pytest.mark.parametrize("value", ["x", -1, 1.5, NAN, [], {}], ids=repr)
@pytest.mark.parametrize("path", COUNTS)
def test_counts(said, path, value):
    write("scenario.json", json.dumps(changed(TOY, path, value)))
    message = said("run", "--scenario", "scenario.json")
    assert f"scenario.json: {path} is {value!r}" in message


@pytest.mark.parametrize("value", ["x", -1, NAN, INFINITY, [], {}], ids=repr)
@pytest.mark.parametrize("path", AMOUNTS)
def test_amounts(said, path, value):
    write("scenario.json", json.dumps(changed(TOY, path, value)))
    message = said("run", "--scenario", "scenario.json")
    assert f"scenario.json: {path} is {value!r}" in message


@pytest.mark.parametrize("path", TABLES)
def test_unknown_keys(said, path):
    write("scenario.json", json.dumps(changed(TOY, f"{path}.zzz", 1)))
    message = said("run", "--scenario", "scenario.json")
    assert f"unknown key '{path}.zzz'; allowed: " in message


@pytest.mark.parametrize("path", [path for path in TABLES if "." not in path])
def test_tables_that_are_none(said, path):
    write("scenario.json", json.dumps(changed(TOY, path, 3)))
    assert f"{path} is 3" in said("run", "--scenario", "scenario.json")


CXL = {"nodes": ["node0"], "capacity_gib": 1.0, "bandwidth_gbps": 1.0}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 3, "name is 3"),
        ("cluster.nodes", 3, "cluster.nodes is 3"),
        ("cluster.cxl", {**CXL, "nodes": ["nope"]}, "cluster: cxl.nodes names 'nope'; the nodes"),
        ("cluster.cxl", {**CXL, "nodes": "node0"}, "cluster.cxl.nodes is 'node0'"),
        ("cluster.cxl", {**CXL, "nodes": []}, "cluster.cxl.nodes is []"),
        ("cluster.cxl", {**CXL, "latenc_us": 1}, "did you mean 'latency_us'"),
        ("cluster.model", "llama-3.1-9b", "did you mean 'llama-3.1-8b'"),
        (f"{INSTANCE}.accelerator", "h100", "unknown accelerator 'h100'"),
        (f"{INSTANCE}.accelerator", "none.toml", "cannot read none.toml"),
        (f"{INSTANCE}.timing", "compcat", "did you mean 'compact'"),
        (f"{INSTANCE}.timing", ".", "has no dense.csv"),
        (f"{NODE}.dram.capacity_gib", 1e300, "less than or equal to"),
        ("router.held_order", "fifo", "router.held_order is 'fifo'"),
        ("arrivals", {}, "arrivals.kind is missing"),
        ("arrivals", {"kind": "posson"}, "arrivals.kind is 'posson'; allowed: 'poisson'"),
        ("arrivals", {"kind": "poisson"}, "arrivals.rate_per_s is missing"),
        ("arrivals", {"kind": "poisson", "rate_per_s": 0}, "arrivals.rate_per_s is 0"),
        ("arrivals", {"kind": "poisson", "rate_per_s": 1, "cv": 2}, "unknown key 'arrivals.cv'"),
        ("arrivals", {"kind": "closed_loop", "concurrency": 0}, "arrivals.concurrency is 0"),
        ("workload", {"kind": "trace"}, "workload.path is missing"),
        ("workload", {"kind": "trace", "path": "none.jsonl"}, "none.jsonl: cannot be opened"),
        ("workload", {"kind": "trace", "path": "."}, "scenario.json, line 1: unknown format"),
        ("workload", {"kind": "trace", "path": "x", "format": "z"}, "workload.format is 'z'"),
        ("workload", {"kind": "inline", "programs": []}, "workload.programs is []"),
        ("workload.programs.0.program_id", "second", "program_id is 'second', as in"),
        ("workload.programs.0.turns", [], "workload.programs.0.turns is []"),
        (f"{TURN}.output_tokens", 0, "output_tokens is 0"),
        (f"{TURN}.new_input_tokens", 10**30, "program 'first', turn 0: input_tokens is 1000"),
        (f"{TURN}.tools", [{"kind": "x"}], "tools.0.duration_s is missing"),
        (f"{TURN}.children", [{}], "children.0.turns is missing"),
        ("tools.concurrency", {"bash": 0}, "tools.concurrency.bash is 0"),
        ("pin_ttls_s", [0], "pin_ttls_s.0 is 0"),
    ],
)  # fmt: skip
def test_other_values(said, path, value, message):
    write("scenario.json", json.dumps(changed(TOY, path, value)))
    assert message in said("run", "--scenario", "scenario.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mix", {}, "workload.mix is {}"),
        ("mix", {"coding": 1}, "unknown agent class 'coding'"),
        ("mix", {"coding_auto": NAN}, "workload.mix.coding_auto is nan"),
        ("programs", 0, "workload.programs is 0"),
        ("max_context_tokens", 10, "workload.max_context_tokens is 10"),
        ("max_context_tokens", 300, "max_context_tokens is 300; class"),
        ("max_context_tokens", 10**9, "max_context_tokens is 1000000000, but instance"),
        ("token_scale", 1e300, "workload.token_scale is 1e+300"),
        ("gap_scale", 1e308, "workload.gap_scale is 1e+308"),
    ],
)
def test_generated_workloads(said, key, value, message):
    write("scenario.json", json.dumps(changed(GENERATED, f"workload.{key}", value)))
    assert message in said("run", "--scenario", "scenario.json")


def test_a_pool_that_is_too_small_is_not_blamed_on_a_window_that_was_never_set(said):
    content = changed(GENERATED, f"{INSTANCE}.kv_blocks", 3)
    del content["workload"]["max_context_tokens"]
    write("scenario.json", json.dumps(content))
    message = said("run", "--scenario", "scenario.json")
    assert "kv_blocks: instance 0 hbm holds 32 tokens (3 blocks of 16)" in message
    assert "max_context_tokens" not in message


# --- scenarios: files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.toml", bytes(range(256)), "b.toml: byte 128 is not UTF-8 text"),
        ("b.json", b"\x80", "b.json: byte 0 is not UTF-8 text"),
        ("u.toml", 'name = "x"'.encode("utf-16"), "not UTF-8 text"),
        ("e.toml", "", "e.toml: name is missing"),
        ("e.json", "", "e.json is not valid JSON"),
        ("n.json", "null", "n.json must hold a table of keys, got NoneType"),
        ("d.json", "[" * 100_000, "nested too deeply"),
        ("d.toml", "a = " + "[" * 5000, "d.toml is not valid TOML"),
        ("t.toml", "name = 'a'\nname = 'b'", "t.toml is not valid TOML"),
        ("9.json", '{"name": ' + "9" * 5000 + "}", "9.json is not valid JSON"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [("run", "--scenario"), ("train", "--settings")])
def test_files(said, name, content, message, command):
    if command[0] == "train":
        pytest.importorskip("torch")
        message = message.replace("name is missing", "")
        if name == "e.toml":
            pytest.skip("empty settings are the defaults")
    write(name, content)
    assert message in said(*command, name)


def test_a_byte_order_mark_is_passed_over(agentserve, tmp_path):
    file = tmp_path / "scenario.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(TOY).encode())
    assert agentserve("run", "--scenario", file, "--json").code == 0


@pytest.mark.parametrize("name", ["", "../default", "x.yaml", "/dev/zero", "a\0b", ".", "defalt"])
def test_names_that_are_no_scenario(said, name):
    assert "unknown scenario" in said("run", "--scenario", name)


def test_folders_pipes_and_forbidden_files(said):
    Path("folder.toml").mkdir()
    assert "folder.toml: it is a folder" in said("run", "--scenario", "folder.toml")
    os.mkfifo("pipe.toml")
    assert "pipe.toml: it is a device or pipe" in said("run", "--scenario", "pipe.toml")
    write("locked.toml", "").chmod(0)
    if not os.access("locked.toml", os.R_OK):
        assert "locked.toml: Permission denied" in said("run", "--scenario", "locked.toml")


# --- policies ------------------------------------------------------------------------------------

MINE = """
class NoDecide: pass
class NeedsArgument:
    def __init__(self, x): pass
    def decide(self, decision): pass
class Fails:
    def __init__(self): raise KeyError("k")
"""


@pytest.mark.parametrize(
    "name",
    ["", "+", "lru+", "lru+lru", "lru+ttl", "ttl(", "ttl)", "ttl()x", "ttl(seconds)", "LRUU",
     "ttl(seconds=)", "ttl(seconds=x)", "ttl(seconds=nan)", "ttl(seconds=0)", "ttl(secs=1)",
     "ttl(seconds=1,seconds=2)", "ttl(seconds=true)", "ttl(seconds=[1])", "x:y", "os:path", ":x",
     "json:loads", "agentserve_gym:nothing", "builtins:int", "two words", "a" * 3000],
)  # fmt: skip
def test_policy_names(said, name):
    said("run", "--scenario", "toy", "--policy", name)


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (MINE, "NoDecide", "has no method decide"),
        (MINE, "NeedsArgument", "cannot be built: TypeError"),
        (MINE, "Fails", "cannot be built: KeyError: 'k'"),
        (MINE, "Nowhere", "has no class 'Nowhere'"),
        ("raise RuntimeError('boom')", "X", "cannot import 'user_{n}': RuntimeError: boom"),
        ("raise SystemExit(3)", "X", "cannot import 'user_{n}': SystemExit: 3"),
        ("import nowhere_at_all", "X", "No module named 'nowhere_at_all'"),
        ("def (", "X", "SyntaxError"),
    ],
)
def test_policies_of_a_users_module(said, source, name, message, monkeypatch, request):
    number = abs(hash(request.node.name))
    write(f"user_{number}.py", source)
    monkeypatch.syspath_prepend(".")
    said_ = said("run", "--scenario", "toy", "--policy", f"user_{number}:{name}")
    assert message.format(n=number) in said_


# --- suites and results --------------------------------------------------------------------------

HEAD = 'name = "s"\ndescription = "d"\nseeds = 1\nfirst_seed = 0\n'
POLICIES = 'policies = ["random", "affinity"]\n'
CELL = '[[cells]]\nscenario = "toy"\nload = "light"\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "name is missing"),
        (HEAD + CELL, "policies is missing"),
        (HEAD + POLICIES, "cells is missing"),
        (HEAD + "policies = [3]\n" + CELL, "policies.0 is 3"),
        (HEAD + "policies = 3\n" + CELL, "policies is 3"),
        (HEAD + "policies = []\n" + CELL, "policies is []"),
        (HEAD + "cells = [3]\n" + POLICIES, "cells.0 is 3"),
        (
            HEAD + POLICIES + CELL.replace("toy", "toyy"),
            "unknown scenario 'toyy'; did you mean 'toy'",
        ),
        (HEAD + POLICIES + CELL.replace("light", "heavy"), "cells.0.load is 'heavy'"),
        (HEAD + POLICIES + CELL + CELL, "cells names toy twice"),
        (HEAD + POLICIES + CELL + "loud = 1\n", "did you mean 'load'"),
        (HEAD + "seed = 1\n" + POLICIES + CELL, "unknown key 'seed'; did you mean 'seeds'"),
        (HEAD.replace("= 1", "= 0") + POLICIES + CELL, "seeds is 0"),
        (HEAD + 'policies = ["affinity"]\n' + CELL, "policies must hold 'random'"),
        (HEAD + 'policies = ["random", "afinity"]\n' + CELL, "did you mean 'affinity'"),
        (HEAD + 'stock = "nope"\n' + POLICIES + CELL, "policies must hold 'nope'"),
        ("x =", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_suites(said, content, message):
    write("suite.toml", content)
    found = said("bench", "--suite", "suite.toml", "--jobs", 1, "--out", "out")
    assert message in found
    assert "suite.toml" in found or "toy" in found
    assert not Path("out").exists()


TABLE = ",".join(COLUMNS) + "\n"
_REST = ",dram=0.0,1000,100,0.0,0.0,0,0,0,0.5,,,0,1.0,1.0,1.0,1.0\n"
ROW = "toy,affinity,a,0,d,c,2,4" + ",1.0" * 10 + _REST


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the columns are ''"),
        ("a,b\n1,2\n", "the columns are 'a, b'"),
        (TABLE + "garbage\n", "line 2: 1 cells"),
        (TABLE + ROW + ROW.replace(",2,4", ",two,4"), "line 3: programs is 'two'; allowed"),
        (TABLE + ROW.replace("1.0", "nan", 1), "line 2: jct_mean_s is 'nan'; allowed: a finite"),
        (TABLE + "a," * 200 + "\n", "line 2: 201 cells"),
        (b"\xff\xfe\x00" + TABLE.encode(), "out/results.csv: it is not UTF-8 text"),
    ],
)  # fmt: skip
def test_results_of_another_hand_are_refused_and_left_alone(said, content, message):
    write("suite.toml", HEAD + POLICIES + CELL)
    results = write("out/results.csv", content)
    before = results.read_bytes()
    command = ("bench", "--suite", "suite.toml", "--jobs", 1, "--out", "out", "--resume")
    found = said(*command)
    assert message in found
    assert "results.csv" in found
    assert results.read_bytes() == before


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    ["x", "=1", "steps=", "steps=x", "steps=-1", "steps=1.5", "steps=NaN", "ppo=3", "ppo.x=1",
     "ppo.gama=0.9", "ppo.gamma=2", "ppo.batch_size=100000000", "steps.x=1", "a.b=1",
     "evaluation.policies=3", 'evaluation.policies=["nope"]', "evaluation.seeds=1", "imitate=nope",
     "baseline=nope", "reward=speed", "env=AgentServe-v1", "scenario=defualt", "scenario=3",
     "algorithm=sac", "seed=4294967296", "workers=0", "device=gpu", "..=1"],
)  # fmt: skip
def test_settings(said, setting):
    pytest.importorskip("torch")
    message = said("train", "--set", setting, "--out", "run")
    assert setting.partition("=")[0].rpartition(".")[2] in message
    assert not Path("run").exists()


@pytest.mark.parametrize("content", ["{", '{"stepz": 1}', b"\xff", "[]"])
def test_settings_of_a_run_to_resume(said, content):
    pytest.importorskip("torch")
    write("run/settings.json", content)
    assert "run/settings.json" in said("train", "--resume", "run")


@pytest.mark.parametrize("card", [None, "", "{", "[]", "{}", '{"env": 3}', b"\xff"])
def test_models(said, card):
    pytest.importorskip("torch")
    with zipfile.ZipFile("model.zip", "w") as archive:
        if card is not None:
            archive.writestr("agentserve.json", card)
    message = said("evaluate", "--model", "model.zip")
    assert "model.zip" in message
    assert "agentserve.json" in message


# --- replay, calibrate, validate -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [["--tp", 0], ["--tp", 3], ["--dp", 0], ["--ep", 2], ["--max-num-seqs", 0], ["--kv-blocks", 1],
     ["--max-num-batched-tokens", 1], ["--timing", "x"], ["--timing", "profile"],
     ["--timing", "profile", "--profile", "none"], ["--timing", "roofline", "--profile", "none"],
     ["--accelerator", "rtx4090"], ["--model", "llama"]],
)  # fmt: skip
def test_replays(said, options):
    write("t.jsonl", '{"timestamp": 0, "input_length": 100, "output_length": 5}\n')
    said("replay", "t.jsonl", "--accelerator", "rtx-4090", "--model", "llama-3.1-8b", *options)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dense.csv", ""),
        ("dense.csv", "x\n1\n"),
        ("dense.csv", "layer,tokens,time_us\nqkv,1,x\n"),
        ("dense.csv", "layer,tokens,time_us\nqkv,1\n"),
        ("dense.csv", b"\xff"),
        ("attention.csv", "x\n1\n"),
        ("attention.csv", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n1,1,1,1,1\n"),
        ("../meta.yaml", "variant: fp8"),
        ("../meta.yaml", "a: ["),
        ("../meta.yaml", b"\xff"),
    ],
)
def test_profiles(said, name, content):
    folder = "rtx-4090/llama-3.1-8b/tp1"
    write(f"{folder}/dense.csv", "layer,tokens,time_us\nqkv,1,1\n")
    write(f"{folder}/per_sequence.csv", "layer,sequences,time_us\nsampler,1,1\n")
    write(f"{folder}/{name}", content)
    said("calibrate", "fit", folder, "-o", "x.toml")
    assert not Path("x.toml").exists()


@pytest.mark.parametrize(
    "meta",
    ["", "{}", "[]", '{"engine_kwargs": 3}', '{"engine_kwargs": {}}', b"\xff",
     '{"engine_kwargs": {"model": "llama-3.1-8b", "max_num_seqs": 0}}'],
)  # fmt: skip
def test_measured_runs(said, meta):
    write("runs/rtx-4090_x/meta.json", meta)
    write("runs/rtx-4090_x/requests.jsonl", "{}")
    assert "rtx-4090_x" in said("validate", "runs")


def test_folders_without_runs(said):
    Path("empty").mkdir()
    assert "empty" in said("validate", "empty")
    assert "none" in said("validate", "none")
