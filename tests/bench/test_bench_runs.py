"""Measuring, the results file, parallel runs, and the command."""

import csv
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from bench_helpers import PLAIN, toy_suite
from typer.testing import CliRunner

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.bench import ResultsFile, measure, plan_jobs, run_jobs
from agentserve_gym.cli import app
from agentserve_gym.scale import InThisProcess, processes
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.workloads.spec import GeneratedWorkload, PoissonArrivals


@pytest.fixture
def small():
    """Twelve short programs on one engine."""
    scenario = load_scenario("default")
    workload = GeneratedWorkload(
        mix={"function_calling": 1.0}, programs=12, max_turns=4, max_context_tokens=20_000,
        user_gaps="simulated",
    )  # fmt: skip
    return scenario.model_copy(
        update={"workload": workload, "arrivals": PoissonArrivals(rate_per_s=0.5)}
    )


def test_an_outcome_agrees_with_a_run_of_the_simulation(small):
    outcome = measure(small, "lru", parse_policy("lru"), 3)
    report = run_policy(Simulation(small, 3), parse_policy("lru"))
    assert outcome.jct_mean_s == report["mean_jct_s"]["all"]
    assert outcome.jct_p99_s == pytest.approx(report["jct_s"]["p99"])
    assert outcome.slowdown == pytest.approx(report["slowdown"]["mean"])
    assert outcome.ttft_p95_s == pytest.approx(report["ttft_s"]["p95"])
    assert outcome.tpot_p95_s == pytest.approx(report["tpot_s"]["p95"])
    assert outcome.slo_goodput == pytest.approx(report["slo_goodput"])
    assert outcome.turns == report["turns"]
    assert outcome.ideal_s < outcome.jct_mean_s


def test_programs_that_a_horizon_cuts_off_are_no_outcome(small):
    with pytest.raises(ValueError, match="horizon_s is 3, which ends the run before all of its 12"):
        measure(small.model_copy(update={"horizon_s": 3.0}), "lru", parse_policy("lru"), 0)


def test_silent_parts_are_named(small):
    outcome = measure(small, "x", parse_policy("affinity+write_through+gate"), 0)
    assert "gate" in outcome.silent.split()
    assert "write_through" not in outcome.silent.split()
    assert outcome.offloaded_gb > 0.0


# --- results -------------------------------------------------------------------------------------


def test_results_come_back_as_written(tmp_path):
    path = tmp_path / "results.csv"
    outcome = replace(PLAIN, policy="ttl(seconds=2.0,x=1)", counters="a=1;b=2", silent="x y")
    ResultsFile(path).append(outcome)
    assert ResultsFile(path).outcomes == [outcome]
    with path.open(newline="") as file:
        assert next(csv.DictReader(file))["policy"] == "ttl(seconds=2.0,x=1)"


def test_a_row_cut_off_is_dropped(tmp_path):
    path = tmp_path / "results.csv"
    file = ResultsFile(path)
    file.append(PLAIN)
    whole = path.read_text()
    file.append(replace(PLAIN, seed=1))
    path.write_text(path.read_text()[:-20])
    assert ResultsFile(path).outcomes == [PLAIN]
    assert path.read_text() == whole


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns are 'a, b', not those of this version"):
        ResultsFile(path)


# --- runs ----------------------------------------------------------------------------------------


def _collect(workers: int):
    outcomes, failures = [], []
    jobs = plan_jobs(toy_suite(seeds=2))
    with processes(workers) as pool:
        run_jobs(jobs, pool, outcomes.append, lambda job, error: failures.append((job, error)))
    assert failures == []
    return sorted((asdict(outcome) for outcome in outcomes), key=lambda row: json.dumps(row))


def test_processes_give_what_one_process_gives():
    """Started by spawn: nothing may depend on what the parent has imported or forked."""
    alone = _collect(1)
    assert len(alone) == 8
    assert _collect(2) == alone


def test_a_failing_run_does_not_stop_the_others():
    suite = toy_suite(seeds=1)
    jobs = plan_jobs(suite)
    jobs[1] = replace(jobs[1], policy="no_such_policy")
    outcomes, failures = [], []
    run_jobs(
        jobs,
        InThisProcess(),
        outcomes.append,
        lambda job, error: failures.append((job.label, str(error))),
    )
    assert len(outcomes) == len(jobs) - 1
    assert failures[0][0] == jobs[1].label
    assert "no_such_policy" in failures[0][1]


def test_workers_are_checked():
    with pytest.raises(ValueError, match="at least 1"), processes(0):
        pass


# --- the command ---------------------------------------------------------------------------------

TOY = ["bench", "--suite", "quick", "--scenario", "toy", "--policy", "ttl", "--policy", "belady",
       "--seeds", "2", "--jobs", "1"]  # fmt: skip


def test_the_command_runs_resumes_and_reports(tmp_path):
    out = tmp_path / "results"
    first = CliRunner().invoke(app, [*TOY, "--out", str(out), "--json"])
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    assert document["cells"][0]["seeds"] == [2000, 2001]
    assert set(document["cells"][0]["mean_jct_s"]) == {"random", "affinity", "ttl", "belady"}
    rows = (out / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 8 + 4  # with the runs that measure luck
    assert (out / "benchmark.md").is_file()
    assert "belady (oracle)" in (out / "benchmark" / "cells.md").read_text()

    (out / "results.csv").write_text("\n".join(rows[:-3]) + "\n")
    again = CliRunner().invoke(app, [*TOY, "--out", str(out), "--resume", "--json"])
    assert again.exit_code == 0
    assert json.loads(again.stdout) == document
    assert sorted((out / "results.csv").read_text().splitlines()) == sorted(rows)


def test_the_command_tells_what_a_cell_is_like(tmp_path):
    command = ["bench", "--suite", "quick", "--scenario", "toy", "--facts", "--seeds", "2",
               "--jobs", "1", "--out", str(tmp_path)]  # fmt: skip
    told = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert "smallest difference" in told.stdout
    assert "toy" in told.stdout
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert {row["label"] for row in rows} == {"random", "affinity"}
    assert sorted(row["nudge"] for row in rows if row["label"] == "affinity") == list("001234")


MINE = """
name = "mine"
description = "The toy alone."
seeds = 1
first_seed = 2000
policies = ["random", "affinity"]
[[cells]]
scenario = "toy"
load = "light"
"""


def test_levers_of_headroom_may_be_measured_one_by_one(tmp_path):
    """What commands before measured stays on the page."""
    suite = tmp_path / "mine.toml"
    suite.write_text(MINE)
    command = ["bench", "--headroom", "--suite", str(suite), "--scenario", "toy", "--seeds", "1",
               "--jobs", "1", "--out", str(tmp_path), "--json"]  # fmt: skip
    levers = []
    for lever, more in (("order", []), ("admission", ["--resume"])):
        done = CliRunner().invoke(app, [*command, "--lever", lever, *more])
        assert done.exit_code == 0, done.output
        levers.append({found["lever"] for found in json.loads(done.stdout)["levers"]})
    assert levers == [{"order"}, {"order", "admission"}]
    page = (tmp_path / "benchmark" / "headroom.md").read_text()
    assert "| `toy` | order | 1 |" in page


def test_a_policy_of_ones_own_is_compared(tmp_path):
    """Worker processes find modules of the working directory, too."""
    own = "custom_policy:Nearest"
    arguments = ["bench", "--suite", "quick", "--scenario", "toy", "--policy", own, "--seeds", "1",
                 "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    finished = subprocess.run(
        [sys.executable, "-c", "from agentserve_gym.cli import app; app()", *arguments],
        cwd=Path(__file__).parents[2] / "examples",
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert own in json.loads(finished.stdout)["cells"][0]["mean_jct_s"]


def test_results_are_not_overwritten(tmp_path):
    (tmp_path / "results.csv").write_text("kept")
    result = CliRunner().invoke(app, [*TOY, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "--resume" in result.output
    assert (tmp_path / "results.csv").read_text() == "kept"


def test_a_file_of_other_columns_is_left_as_it_is(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n3,4")
    with pytest.raises(ValueError, match="not those of this version"):
        ResultsFile(path)
    assert path.read_text() == "a,b\n1,2\n3,4"
