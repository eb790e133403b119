"""``agentserve run``: its table, JSON document and picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from agentserve_gym.baselines import parse_policy
from agentserve_gym.sim import Simulation, load_scenario, run

RUN = ("run", "--scenario", "toy", "--policy", "lru", "--policy", "round_robin+dram", "--seed", "0")


def without_wall_time(document):
    for entry in document["runs"]:
        assert entry.pop("wall_s") > 0
    return document


def test_json_is_one_document_with_the_promised_keys(agentserve):
    outcome = agentserve(*RUN, "--json")
    assert outcome.code == 0
    document = json.loads(outcome.stdout)
    assert document["scenario"] == "toy"
    assert [entry["policy"] for entry in document["runs"]] == ["lru", "round_robin+dram"]
    for entry in document["runs"]:
        assert entry["seed"] == 0
        assert (entry["programs"], entry["turns"]) == (2, 4)
        assert list(entry["hit_rate"]) == ["hbm", "dram"]
        for key in ("jct_s", "ttft_s"):
            assert {"mean", "p50", "p99"} <= set(entry[key])
        assert entry["makespan_s"] > 0
        assert entry["recomputed_tokens"] >= 0


def test_json_holds_what_the_simulation_reports(agentserve):
    entry = json.loads(agentserve("run", "--policy", "sglang+dram", "--json").stdout)["runs"][0]
    report = run(Simulation(load_scenario("default"), 0), parse_policy("sglang+dram"))
    for key in ("jct_s", "ttft_s", "makespan_s", "hit_rate", "recomputed_tokens", "phase_s"):
        assert entry[key] == report[key]


def test_only_wall_time_differs_between_two_processes():
    documents = []
    for hash_seed in ("1", "2"):
        command = "from agentserve_gym.cli import app; app()"
        output = subprocess.run(
            [sys.executable, "-c", command, *RUN, "--json"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        documents.append(without_wall_time(json.loads(output)))
    assert documents[0] == documents[1]


def test_another_seed_gives_another_run(agentserve):
    documents = [json.loads(agentserve("run", "--seed", s, "--json").stdout) for s in (0, 1)]
    first, second = (document["runs"][0] for document in documents)
    assert first["jct_s"] != second["jct_s"]


def test_table_shows_every_policy_and_metric(agentserve):
    outcome = agentserve(*RUN)
    assert outcome.code == 0
    for text in ("lru", "round_robin+dram", "JCT p99", "TTFT mean", "hit rate DRAM", "wall time"):
        assert text in outcome.stdout


def test_a_run_that_the_horizon_cuts_says_so(agentserve, tmp_path):
    scenario = load_scenario("toy").model_dump(mode="json") | {"horizon_s": 2.0}
    file = tmp_path / "short.json"
    file.write_text(json.dumps(scenario), encoding="utf-8")
    outcome = agentserve("run", "--scenario", file)
    assert outcome.code == 0
    assert "2 programs unfinished" in outcome.stderr


def test_picture_is_a_png_and_leaves_the_results_as_they_are(agentserve, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "runs.png"
    drawn = agentserve(*RUN, "--json", "--picture", picture)
    assert drawn.code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in drawn.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs.png"]
    plain = agentserve(*RUN, "--json")
    assert without_wall_time(json.loads(drawn.stdout)) == without_wall_time(
        json.loads(plain.stdout)
    )


def test_same_runs_draw_the_same_picture(agentserve, tmp_path):
    pytest.importorskip("matplotlib")
    pictures = [tmp_path / name for name in ("a.png", "b.png")]
    for picture in pictures:
        assert agentserve(*RUN, "--picture", picture).code == 0
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.parametrize(("name", "beginning"), [("run.pftrace", b"\x0a"), ("run.json", b"{")])
def test_trace_is_written_and_leaves_the_results_as_they_are(agentserve, tmp_path, name, beginning):
    if name.endswith(".pftrace"):
        pytest.importorskip("perfetto")
    trace = tmp_path / name
    one = ("run", "--scenario", "toy", "--policy", "round_robin+dram", "--json")
    contents = []
    for _ in range(2):  # it may replace one of its own
        traced = agentserve(*one, "--trace", trace)
        assert traced.code == 0
        assert str(trace) in traced.stderr
        contents.append(trace.read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(beginning)
    assert b"round_robin+dram" in contents[0]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    plain = agentserve(*one)
    assert without_wall_time(json.loads(traced.stdout)) == without_wall_time(
        json.loads(plain.stdout)
    )


def test_a_policy_of_the_working_directory(agentserve, tmp_path, monkeypatch):
    source = (
        "from agentserve_gym.sim import KEEP, Route, RouteDecision\n"
        "class Last:\n"
        "    def decide(self, decision):\n"
        "        if isinstance(decision, RouteDecision):\n"
        "            return Route(len(decision.cluster.instances) - 1)\n"
        "        return KEEP\n"
    )
    (tmp_path / "policy_of_a_test.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    outcome = agentserve("run", "--policy", "policy_of_a_test:Last", "--json")
    busy_s = json.loads(outcome.stdout)["runs"][0]["busy_s"]
    assert busy_s[-1] > 0
    assert not any(busy_s[:-1])
