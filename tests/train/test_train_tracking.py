"""What a training through an environment is logged as."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")
from agentserve_gym.tracking import LogTo
from agentserve_gym.train import resume, train
from agentserve_gym.train.runs import silent
from tests.tracking_recorder import RecordedRun, Recorder, recorder

if TYPE_CHECKING:
    from agentserve_gym.train import TrainSettings

LOG = LogTo(("recorder",))


class Killed(Exception):
    """Stands for the end of the process."""


def selections(run: Path) -> list[tuple[int, float]]:
    history = json.loads((run / "selection.json").read_text())["history"]
    return [(entry["step"], entry["mean"]) for entry in history]


def only(made: Recorder) -> RecordedRun:
    (run,) = made.runs
    return run


@pytest.mark.training
def test_settings_curves_and_results_are_logged(
    small_run: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorder(monkeypatch)
    settings = small_run(steps=128)
    evaluation, results = train(settings, tmp_path / "logged", silent, LOG)
    run = only(made)
    described = run.described[0]
    assert described.name == "AgentServe-v0-small-maskable-ppo-0"
    assert described.config["seed"] == 0
    assert described.config["ppo"]["gamma"] == settings.ppo.gamma
    assert described.config["version"] == results["version"]
    assert run.curves["selection/jct"] == selections(tmp_path / "logged")
    assert [step for step, _ in run.curves["train/loss"]] == [64, 128]
    assert run.curves["evaluation/jct"] == [(128, evaluation.policy.mean("jct"))]
    assert "time/total_timesteps" not in run.curves
    assert run.summary["evaluation/affinity+lru/jct"] == evaluation.others[0].mean("jct")
    assert run.summary["evaluation/affinity+lru/relative"] == evaluation.differences[0].relative
    assert run.summary["selection/best_step"] == results["selection"]["best_step"]
    assert run.summary["teacher"] == results["teacher"]
    assert run.ends == [False]

    _, unlogged = train(settings, tmp_path / "not", silent)
    assert unlogged["evaluation"] == {**results["evaluation"], "policies": [
        {**row, "policy": row["policy"].replace("logged", "not")}
        for row in results["evaluation"]["policies"]
    ]}  # fmt: skip


@pytest.mark.training
def test_a_resumed_training_is_the_same_run(
    small_run: Callable[..., TrainSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorder(monkeypatch)

    def stop(what: str, done: int, total: int) -> None:
        if what == "learning: decisions" and done == 128:
            raise Killed

    with pytest.raises(Killed):
        train(small_run(), tmp_path / "run", stop, LOG)
    assert only(made).ends == [True]
    resume(tmp_path / "run", silent)
    run = only(made)
    assert run.ends == [True, False]
    assert run.curves["selection/jct"] == selections(tmp_path / "run")
    assert [step for step, _ in run.curves["evaluation/slo"]] == [256]
