"""The small scenario as a file, and settings of runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from train_helpers import SMALL_RUN, small_scenario

if TYPE_CHECKING:
    from agentserve_gym.train import TrainSettings


@pytest.fixture(scope="session")
def scenario_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small scenario as a file."""
    file = tmp_path_factory.mktemp("scenario") / "small.json"
    file.write_text(json.dumps(small_scenario()))
    return file


@pytest.fixture(scope="session")
def small_run(scenario_file: Path) -> Callable[..., TrainSettings]:
    """Settings of a run of a few seconds, with changes."""

    def make(**changes: Any) -> TrainSettings:
        from agentserve_gym.train import make_settings  # needs torch, which may not be here

        return make_settings({"scenario": str(scenario_file), **SMALL_RUN, **changes})

    return make
