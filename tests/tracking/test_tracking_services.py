"""Weights & Biases and MLflow themselves, without an account, a server or a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from wandb_files import WandbFile, wandb_files

from agentserve_gym.cli import app
from agentserve_gym.tracking import LogTo, note_log, open_tracker

WHY = "needs the extra log, which make test-log installs"
mlflow = pytest.importorskip("mlflow", reason=WHY)
wandb = pytest.importorskip("wandb", reason=WHY)

STEPS = (
    "train", "--scenario", "toy", "--steps", "128", "--imitate", "none", "--eval-seeds", "2",
    "--policy", "lru", "--set", "workers=2", "--set", "ppo.rollout_steps=32",
    "--set", "ppo.batch_size=32", "--set", "checkpoint_every=64",
    "--set", "evaluation.selection_seeds=2",
)  # fmt: skip
RECIPE = (
    "train", "--recipe", "default", "--set", 'cells=["toy"]', "--set", "updates=2",
    "--set", "pairs=2", "--set", "select_every=1", "--set", "selection_seeds=1",
)  # fmt: skip
BOTH = ("--log", "wandb", "--log", "mlflow")


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without accounts, and none of the services' own variables but MLflow's store."""
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    wandb.teardown()


def call(*arguments: object) -> dict[str, Any]:
    """What a command prints as JSON."""
    outcome = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert outcome.exit_code == 0, outcome.stderr
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def mlflow_run(folder: Path) -> Any:
    return mlflow.MlflowClient().get_run(ids(folder)["mlflow"])


def mlflow_curve(folder: Path, name: str) -> list[tuple[int, float]]:
    history = mlflow.MlflowClient().get_metric_history(ids(folder)["mlflow"], name)
    return [(point.step, point.value) for point in history]


def ids(folder: Path) -> dict[str, str]:
    content: dict[str, dict[str, str]] = json.loads((folder / "tracking.json").read_text())
    return content["ids"]


def only(folder: Path) -> WandbFile:
    (found,) = wandb_files(folder)
    return found


@pytest.mark.training
def test_a_training_is_logged_to_both_and_goes_on_in_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("agentserve_gym.train.runs.evaluate", killed)
        outcome = CliRunner().invoke(app, [*STEPS, *BOTH, "--out", str(folder)])
        assert outcome.exit_code == 130
    assert mlflow_run(folder).info.status == "FAILED"
    results = call("train", "--resume", folder)

    selection = [(entry["step"], entry["mean"]) for entry in results["selection"]["history"]]
    jct_s = [row["mean_jct"] for row in results["evaluation"]["policies"]]
    run = mlflow_run(folder)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "AgentServe-v0-toy-maskable-ppo-0"
    assert run.data.params["ppo.rollout_steps"] == "32"
    assert run.data.params["version"] == results["version"]
    assert mlflow_curve(folder, "selection/jct") == selection
    assert mlflow_curve(folder, "evaluation/jct") == [(128, jct_s[0])]
    assert run.data.metrics["evaluation/affinity_lru/jct"] == jct_s[1]
    assert run.data.tags["teacher"] == "none"

    first, second = wandb_files(folder)
    assert first.id == second.id == ids(folder)["wandb"]
    assert first.name == "AgentServe-v0-toy-maskable-ppo-0"
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert first.config["ppo"]["rollout_steps"] == 32
    assert first.config["algo"] == "MaskablePPO"  # by W&B's callback
    assert first.curves["selection/jct"] == selection
    assert [step for step, _ in first.curves["train/loss"]] == [64, 128]
    assert second.curves["evaluation/jct"] == [(128, jct_s[0])]
    assert second.summary["evaluation/affinity+lru/jct"] == jct_s[1]
    assert second.summary["teacher"] == "none"


def test_seeds_are_runs_of_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    call(*RECIPE, *BOTH, "--seeds", "2", "--jobs", "2", "--out", tmp_path / "both")
    experiment = mlflow.get_experiment_by_name("mine")
    for seed in (0, 1):
        folder = tmp_path / "both" / f"seed-{seed}"
        run = mlflow_run(folder)
        assert run.info.experiment_id == experiment.experiment_id
        assert run.info.status == "FINISHED"
        assert run.data.tags["group"] == "both"
        assert run.data.params["seed"] == str(seed)
        ours = only(folder)
        assert (ours.name, ours.group, ours.project) == (f"recipe-default-{seed}", "both", "mine")
        assert ours.exit_code == 0
        assert [step for step, _ in ours.curves["update/mean_cost"]] == [1, 2]
        assert ours.curves["update/mean_cost"] == mlflow_curve(folder, "update/mean_cost")
        assert [step for step, _ in ours.curves["selection/toy/change"]] == [0, 1, 2]
        assert "kept/change" in ours.summary


@pytest.mark.parametrize(
    ("service", "variable", "message"),
    [
        ("mlflow", "MLFLOW_TRACKING_URI", "cannot log to mlflow at nosuch:place: "),
        ("wandb", "WANDB_MODE", "cannot log to wandb: "),
    ],
)
def test_a_variable_that_leads_nowhere_is_one_line(
    service: str, variable: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "nosuch:place")
    outcome = CliRunner().invoke(app, [*RECIPE, "--log", service, "--out", str(tmp_path / "run")])
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[-1].startswith(f"agentserve: {message}")
    assert not (tmp_path / "run").exists()


def test_a_server_that_does_not_answer_is_given_up_as_often_as_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        out = str(tmp_path / "run")
        outcome = CliRunner().invoke(app, [*RECIPE, "--log", "mlflow", "--out", out])
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()[-1:]
    assert line.startswith(f"agentserve: cannot log to mlflow at {address}: ")


def test_a_run_that_mlflow_loses_is_given_up_and_the_next_one_begins(tmp_path: Path) -> None:
    for number, name in enumerate(("lost", "next")):
        folder = tmp_path / name
        folder.mkdir()
        note_log(folder, LogTo(("mlflow",)))
        with open_tracker(folder, name, {"seed": number}) as tracker:
            if name == "lost":
                mlflow.MlflowClient().delete_run(ids(folder)["mlflow"])
                with pytest.warns(UserWarning, match="no longer logged to mlflow"):
                    tracker.log({"cost": 1.0}, 1)
            tracker.log({"cost": 2.0}, 2)
    assert mlflow_curve(tmp_path / "next", "cost") == [(2, 2.0)]
    assert mlflow_run(tmp_path / "next").info.status == "FINISHED"
