"""Where the shared traces are; tests that need them are skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
MEASURED_RUNS = TRACES.parent / "vllm_runs"


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"the shared data are absent ({path.name})")
    return path


@pytest.fixture(scope="session")
def traces() -> Path:
    return _folder(TRACES)


@pytest.fixture(scope="session")
def measured_runs() -> Path:
    return _folder(MEASURED_RUNS)
