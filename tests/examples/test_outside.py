"""The installed package from an empty folder, with nothing of the checkout on the path."""

from __future__ import annotations

import subprocess
import sys

import pytest

IDS = ("AgentServe-v0", "AgentServeRouting-v0", "AgentServeOffload-v0")

SCRIPT = """
import sys
import gymnasium as gym

env = gym.make("agentserve_gym:{id}")
observation, info = env.reset(seed=3)
assert env.observation_space.contains(observation)
done = False
steps = 0
while not done:
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    done = terminated or truncated
    steps += 1
assert "torch" not in sys.modules
print(steps, info["metrics"]["programs"])
"""


def run_script(folder, source):
    script = folder / "script.py"
    script.write_text(source, encoding="utf-8")
    # -I: neither the script's folder, nor the working directory, nor PYTHONPATH is on the path.
    return subprocess.run(
        [sys.executable, "-I", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode(env_id, tmp_path):
    finished = run_script(tmp_path, SCRIPT.format(id=env_id))
    assert finished.returncode == 0, finished.stderr
    steps, programs = finished.stdout.split()
    assert int(steps) > 0
    assert float(programs) > 0


def test_bare_id_after_import(tmp_path):
    source = SCRIPT.format(id=IDS[0]).replace('"agentserve_gym:', '"')
    finished = run_script(tmp_path, "import agentserve_gym\n" + source)
    assert finished.returncode == 0, finished.stderr


def test_command_line_module_outside(tmp_path):
    source = "from agentserve_gym.cli import app\napp(['run', '--scenario', 'toy', '--json'])"
    finished = run_script(tmp_path, source)
    assert finished.returncode == 0, finished.stderr
    assert '"scenario": "toy"' in finished.stdout
