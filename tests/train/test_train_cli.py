"""``agentserve train`` and ``agentserve evaluate``."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
from agentserve_gym.cli import app

SMALL = (
    "--steps", "64", "--eval-seeds", "2", "--policy", "affinity+lru", "--imitate", "affinity+dram",
    "--set", "workers=2", "--set", "ppo.rollout_steps=32", "--set", "ppo.batch_size=32",
    "--set", "imitation.episodes=2", "--set", "imitation.epochs=2",
    "--set", "evaluation.selection_seeds=2",
)  # fmt: skip


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.training
def test_train_and_evaluate_print_one_json_document(scenario_file, tmp_path):
    run = tmp_path / "run"
    trained = call("train", "--scenario", scenario_file, *SMALL, "--out", run, "--json")
    assert trained.exit_code == 0, trained.stderr
    document = json.loads(trained.stdout)
    assert document["run"] == str(run)
    assert document["steps"] == 64
    assert document["teacher"] == "affinity+dram"
    difference = document["evaluation"]["policies"][1]["difference"]
    assert difference["bootstrap"]["low"] <= difference["mean"] <= difference["bootstrap"]["high"]

    judged = call("evaluate", "--model", run, "--policy", "lru", "--seeds", "2", "--json")
    assert judged.exit_code == 0, judged.stderr
    again = json.loads(judged.stdout)
    figures = [part["policies"][0]["by_seed"] for part in (document["evaluation"], again)]
    assert figures[0] == figures[1]

    table = call("evaluate", "--model", run / "model.zip", "--policy", "lru", "--seeds", "2")
    assert "2 held-out seeds" in table.stdout
    assert "affinity+lru" in table.stdout

    elsewhere = call("evaluate", "--model", run, "--env", "AgentServeRouting-v0")
    assert elsewhere.exit_code == 2
    assert "was trained in AgentServe-v0" in elsewhere.stderr


@pytest.mark.training
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on(scenario_file, tmp_path, monkeypatch, request, number):
    run = tmp_path / "a run"
    if number == signal.SIGINT:  # ignored where the tests run in the background
        before = signal.signal(number, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(number, before))

    def stopped(*_):
        os.kill(os.getpid(), number)

    monkeypatch.setattr("agentserve_gym.train.callbacks.BetweenRollouts._on_step", stopped)
    outcome = call("train", "--scenario", scenario_file, *SMALL, "--out", run)
    assert outcome.exit_code == 128 + number
    last = outcome.stderr.splitlines()[-1]
    assert last == f"stopped; to go on: agentserve train --resume '{run}'"
    monkeypatch.undo()
    shutil.copytree(run / "checkpoints" / "step_000000000", run / "checkpoints" / "step_000000032")
    (run / "checkpoints" / "step_000000032" / "model.zip").write_bytes(b"")
    resumed = call("train", "--resume", run)
    assert resumed.exit_code == 0
    warnings = [line for line in resumed.stderr.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "going on from" in warnings[0]
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["damaged_step_000000032", "step_000000000", "step_000000064"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--algorithm", "sac"), "algorithm is 'sac'"),
        (("train", "--algorithm", "dqn"), "discrete actions"),
        (("train", "--set", "ppo.gama=1"), "unknown key 'ppo.gama'; did you mean 'gamma'?"),
        (("train", "--set", "gamma"), "write KEY=VALUE"),
        (("train", "--set", "workers=100000"), "workers is 100000"),
        (("train", "--set", "ppo.rollout_steps=1000000000"), "at most 125000"),
        (("train", "--resume", "no/such/run"), "holds no run"),
        (("train", "--resume", "runs/x", "--steps", "5"), "give it alone"),
        (("train", "--settings", "no-such.toml"), "cannot read no-such.toml"),
        (("evaluate", "--model", "no/such/run"), "no run folder or model file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message):
    outcome = call(*arguments)
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert len(outcome.stderr.splitlines()) == 1
    assert message in outcome.stderr


def test_seeds_are_trained_side_by_side_and_go_on_by_the_same_command(tmp_path: Path) -> None:
    command = [
        "train", "--scenario", "toy", "--steps", "64", "--seed", "3", "--seeds", "2", "--jobs", "1",
        "--set", "workers=2", "--set", "ppo.rollout_steps=32", "--set", "ppo.batch_size=32",
        "--set", "imitate=none", "--set", "evaluation.selection_seeds=2", "--eval-seeds", "2",
        "--policy", "lru", "--policy", "sglang", "--out", str(tmp_path),
    ]  # fmt: skip
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [each["seed"] for each in document["seeds"]] == [3, 4]
    kept = [tmp_path / f"seed-{seed}" / "results.json" for seed in (3, 4)]
    assert [json.loads(path.read_text()) for path in kept] == document["seeds"]
    kept[1].unlink()  # stopped before it was judged
    written = kept[0].stat().st_mtime_ns
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("3", "4")] == ["3", "4"]
    again = json.loads(kept[1].read_text())
    assert again["evaluation"] == document["seeds"][1]["evaluation"]
    assert kept[0].stat().st_mtime_ns == written
    result = CliRunner().invoke(app, [*command, "--reward", "slo"])
    assert result.exit_code == 2
    assert "set otherwise" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("agentserve: 2 of 2 trainings failed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray"], "give --seeds or --recipe"),
        (["--ray", "auto", "--steps", "5"], "give --seeds or --recipe"),
        (["--resume", "run", "--seeds", "2"], "give the same command again"),
    ],
)
def test_what_runs_side_by_side_is_said(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
