"""Where recorded traces and measured runs are; tests that need them are skipped without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data_sets import needed_data_set


@pytest.fixture(scope="session")
def measured_runs() -> Path:
    return needed_data_set("vllm-runs")
