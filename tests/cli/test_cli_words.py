"""What the command line says beside its tables: version, invalid answers, unfinished programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from agentserve_gym import __version__
from agentserve_gym.compiled import kernel
from agentserve_gym.sim import load_scenario

POLICIES = """
from agentserve_gym.sim import KEEP, Route, RouteDecision

class Ninetynine:
    def decide(self, decision):
        return 99

class Forgetful:
    def decide(self, decision):
        return Route(0) if isinstance(decision, RouteDecision) else None
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with two faulty policies."""
    (tmp_path / "faulty_policies.py").write_text(POLICIES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("here")
def test_a_policy_whose_every_answer_is_invalid_is_refused(refused):
    message = refused("run", "--scenario", "toy", "--policy", "faulty_policies:Ninetynine")
    assert "'faulty_policies:Ninetynine'" in message
    assert "answers are invalid; the first is 99 to a RouteDecision" in message


@pytest.mark.usefixtures("here")
def test_invalid_answers_stand_in_table_and_json(agentserve):
    command = ("run", "--scenario", "toy", "--policy", "lru", "--policy",
               "faulty_policies:Forgetful")  # fmt: skip
    table = agentserve(*command)
    (row,) = [line.split() for line in table.stdout.splitlines() if line.startswith("invalid")]
    assert row[:3] == ["invalid", "answers", "0"]
    assert int(row[3]) > 0
    (warning,) = table.stderr.splitlines()
    assert warning.startswith(f"faulty_policies:Forgetful: {row[3]} of ")
    assert "None to a PlacementDecision" in warning
    good, bad = json.loads(agentserve(*command, "--json").stdout)["runs"]
    assert good["invalid_answers"] == 0
    assert bad["invalid_answers"] == int(row[3])


def test_no_word_of_invalid_answers_where_there_are_none(agentserve):
    assert "invalid" not in agentserve("run", "--scenario", "toy").stdout


@pytest.mark.usefixtures("here")
def test_the_benchmark_counts_and_refuses_too(agentserve):
    quick = ("bench", "--suite", "quick", "--scenario", "toy", "--seeds", "2", "--jobs", "1")
    counted = agentserve(*quick, "--policy", "faulty_policies:Forgetful", "--out", "a", "--json")
    assert counted.code == 0, counted.stderr
    (cell,) = json.loads(counted.stdout)["cells"]
    assert cell["invalid_answers"]["faulty_policies:Forgetful"] > 0
    assert cell["invalid_answers"]["affinity"] == 0
    failed = agentserve(*quick, "--policy", "faulty_policies:Ninetynine", "--out", "b")
    assert failed.code == 2
    first, last = failed.stderr.splitlines()
    assert "'faulty_policies:Ninetynine': all" in first
    assert "(and 1 like it)" in first
    assert last.startswith("agentserve: 2 of ")


def test_jct_of_finished_programs_only_is_marked(agentserve, tmp_path):
    scenario = load_scenario("toy").model_copy(update={"horizon_s": 3.0})
    file = tmp_path / "cut.json"
    file.write_text(scenario.model_dump_json(exclude_none=True), encoding="utf-8")
    outcome = agentserve("run", "--scenario", file)
    assert "JCT mean, s*" in outcome.stdout
    assert "* finished programs only" in outcome.stdout
    assert "JCT mean, s, all programs" in outcome.stdout
    assert "its mean over all is" in outcome.stderr
    assert "unfinished programs" in outcome.stdout
    assert "horizon ended the run" in outcome.stderr


def test_version(agentserve):
    lines = agentserve("--version").stdout.splitlines()
    assert lines[:2] == [f"agentserve {__version__}", f"Python {platform.python_version()}"]
    assert lines[2] == f"kernel: {kernel()}"


def _process(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    source = f"from agentserve_gym.cli import app; app({list(arguments)!r}, prog_name='agentserve')"
    return subprocess.run(
        [sys.executable, "-c", source], check=False, text=True, stderr=subprocess.PIPE, **settings
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["policies"]])
def test_a_full_disk_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        outcome = _process(*arguments, stdout=full)
    assert outcome.returncode == 2
    assert outcome.stderr == "agentserve: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--help"], ["policies"], ["scenarios", "--json"]])
def test_a_reader_that_leaves_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    try:
        assert _process(*arguments, stdout=write).stderr == ""
    finally:
        os.close(write)


def test_the_shell_can_complete_commands():
    environment = {
        **os.environ,
        "_AGENTSERVE_COMPLETE": "complete_bash",
        "COMP_WORDS": "agentserve re",
        "COMP_CWORD": "1",
    }
    assert _process(env=environment, stdout=subprocess.PIPE).stdout.split() == ["replay"]
