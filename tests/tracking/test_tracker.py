"""What services are told, and by which ids they know a run again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentserve_gym.cli import app
from agentserve_gym.tracking import LogTo, check_services, note_log, open_tracker, services
from agentserve_gym.tracking.mlflow_runs import parameters, valid_name
from agentserve_gym.tracking.services import require_package
from tests.tracking_recorder import recorder


def test_a_training_that_is_logged_nowhere_tells_nobody(tmp_path: Path) -> None:
    note_log(tmp_path, LogTo())
    with open_tracker(tmp_path, "name", {}) as tracker:
        assert tracker.services == []
        tracker.log({"cost": 1.0}, 0)
    assert list(tmp_path.iterdir()) == []


def test_every_service_is_told_and_knows_the_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [recorder(monkeypatch, name) for name in ("one", "other")]
    note_log(tmp_path, LogTo(("one", "other"), group="seeds"))

    def stopped() -> None:
        with open_tracker(tmp_path, "name", {"seed": 3}) as tracker:
            tracker.log({"cost": 2.0}, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with open_tracker(tmp_path, "name", {"seed": 3}) as tracker:
        tracker.log({"cost": 1.0}, 20)
        tracker.summarize({"teacher": "lru"})
    for each in both:
        (run,) = each.runs
        assert run.curves == {"cost": [(10, 2.0), (20, 1.0)]}
        assert run.summary == {"teacher": "lru"}
        assert run.ends == [True, False]
        described = run.described[0]
        assert (described.name, described.group, described.config) == ("name", "seeds", {"seed": 3})
    saved = json.loads((tmp_path / "tracking.json").read_text())
    assert saved == {"group": "seeds", "ids": {"one": "run-0", "other": "run-0"}}


def test_a_service_that_fails_is_given_up_and_the_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (recorder(monkeypatch, name) for name in ("bad", "good"))
    note_log(tmp_path, LogTo(("bad", "good")))
    with open_tracker(tmp_path, "name", {}) as tracker:
        bad.runs[0].broken = True
        with pytest.warns(UserWarning, match="no longer logged to bad: ConnectionError"):
            tracker.log({"cost": 1.0}, 1)
        assert tracker.services == ["good"]
        tracker.log({"cost": 2.0}, 2)
    assert good.runs[0].curves == {"cost": [(1, 1.0), (2, 2.0)]}
    assert (bad.runs[0].ends, good.runs[0].ends) == ([True], [False])


def test_services_are_checked_once_each_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = recorder(monkeypatch)
    assert check_services(["recorder", "recorder"]) == ("recorder",)
    assert made.checks == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--log", "mlflw"), "unknown service in log 'mlflw'; did you mean 'mlflow'?"),
        (("--log", "wandb"), "wandb is not installed; it comes with the extra 'log'"),
        (("--recipe", "default", "--log", "mlflow"), "mlflow is not installed; it comes with"),
        (("--resume", "runs/x", "--log", "wandb"), "give it alone"),
    ],
)
def test_what_cannot_be_logged_is_one_line(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    outcome = CliRunner().invoke(app, ["train", *arguments])
    assert outcome.exit_code == 2
    assert len(outcome.stderr.splitlines()) == 1
    assert message in outcome.stderr


def test_a_folder_of_the_name_of_a_package_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "just_a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError):
        require_package("just_a_folder")


def test_mlflow_gets_names_and_values_that_it_takes() -> None:
    config = {"ppo": {"gamma": 1.0, "cells": ["a"]}, "scenario": "toy", "text": "x" * 7000}
    found = dict(parameters(config))
    assert found["ppo.gamma"] == "1.0"
    assert found["ppo.cells"] == '["a"]'
    assert found["scenario"] == "toy"
    assert len(found["text"]) == 6000
    assert valid_name("evaluation/learned(weights=a.json)+lru/jct") == (
        "evaluation/learned_weights_a.json__lru/jct"
    )
