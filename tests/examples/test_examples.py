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
    "ppo_in_one_file.py": (("--steps", "1024"), "0 actions masked out"),
    "train_with_sb3.py": (("--steps", "256", "--workloads", "1"), "shortest_prefill: mean JCT"),
    "train_with_rllib.py": (("--steps", "200"), "actions masked out"),
    "train_with_tianshou.py": (("--steps", "200"), "actions masked out"),
    "train_with_torchrl.py": (("--steps", "200"), "0 actions masked out"),
    "record_with_minari.py": ((), "3 episodes, "),
}

# What a script needs besides the package: modules, and what brings them.
NEEDS = {
    "ppo_in_one_file.py": (("torch",), "the train extra"),
    "train_with_sb3.py": (("sb3_contrib",), "the train extra"),
    "train_with_rllib.py": (("torch", "ray.rllib", "tree"), "ray[rllib]"),
    "train_with_tianshou.py": (("torch", "tianshou"), "tianshou"),
    "train_with_torchrl.py": (("torchrl", "torch"), "torchrl"),
    "record_with_minari.py": (("minari", "h5py", "jax"), "minari[create,hdf5]"),
}


def missing(name: str) -> list[str]:
    """Modules that a script needs and that are not installed."""
    modules, _ = NEEDS.get(name, ((), ""))
    return [
        module
        for module in modules
        if find_spec(module.split(".")[0]) is None or find_spec(module) is None
    ]


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_example(name, tmp_path):
    if missing(name):
        pytest.skip(f"{missing(name)[0]} is not installed; it comes with {NEEDS[name][1]}")
    arguments, expected = CASES[name]
    finished = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert expected in finished.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_missing_is_said_in_one_line(name, tmp_path):
    """With the library hidden, whether it is installed or not."""
    module = NEEDS[name][0][0]
    hidden = (
        f"import runpy, sys; sys.modules[{module!r}] = None;"
        f"runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
    )
    finished = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert "pip install" in finished.stderr
