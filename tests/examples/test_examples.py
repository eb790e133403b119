"""Every script in ``examples/`` runs, in a process and a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# Script, its arguments, and what it must print.
CASES = {
    "bare_loop.py": ((), "mean JCT"),
    "custom_policy.py": ((), "nearest: mean JCT"),
    "custom_scenario.py": ((), "dram: mean JCT"),
    "async_workers.py": ((), "rewards of 2 workers"),
    "many_at_once.py": ((), "observations (8, "),
    "train_with_sb3.py": (("--steps", "256"), "after 256 steps: mean JCT"),
}


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_example(name, tmp_path):
    if name == "train_with_sb3.py" and find_spec("sb3_contrib") is None:
        pytest.skip("sb3-contrib is not installed; it comes with the train extra")
    arguments, expected = CASES[name]
    finished = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert expected in finished.stdout
    assert list(tmp_path.iterdir()) == []
