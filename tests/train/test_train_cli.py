"""``agentserve train`` and ``agentserve evaluate``."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--algorithm", "sac"), "algorithm is 'sac'"),
        (("train", "--algorithm", "dqn"), "discrete actions"),
        (("train", "--set", "ppo.gama=1"), "unknown key 'ppo.gama'; did you mean 'gamma'?"),
        (("train", "--set", "gamma"), "write KEY=VALUE"),
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
