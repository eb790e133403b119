"""The formats that documents describe: their examples work, and no field is left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentserve_gym.bench.suite import Cell, LuckPlan, SuiteFile, load_suite
from agentserve_gym.workloads import read_programs, write_programs
from agentserve_gym.workloads.program import Program, ToolCall, Turn

DOCS = Path(__file__).parents[2] / "docs"


def block(document: str, language: str) -> str:
    text = (DOCS / document).read_text(encoding="utf-8")
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def documented(document: str) -> set[str]:
    """What the first columns of a document's tables name."""
    text = (DOCS / document).read_text(encoding="utf-8")
    return {
        name
        for line in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(?:\[\[)?(\w+)", line)
    }


# --- traces --------------------------------------------------------------------------------------


def test_the_example_trace_is_read_and_written_again(tmp_path):
    (tmp_path / "example.jsonl").write_text(block("traces.md", "json"), encoding="utf-8")
    (program,) = read_programs(tmp_path / "example.jsonl")
    assert program.shared_prefix_tokens == 500
    assert program.turns[1].reuse_tokens == 800 + 60
    assert program.turns[0].tools == (ToolCall("bash", 2.5, 140),)
    write_programs([program], tmp_path / "again.jsonl")
    assert read_programs(tmp_path / "again.jsonl") == [program]


def test_every_field_of_a_trace_is_documented():
    fields = set(Program.__dataclass_fields__) | set(Turn._fields)
    assert documented("traces.md") == fields | {"schema"}
    text = (DOCS / "traces.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in ToolCall._fields)


# --- suites --------------------------------------------------------------------------------------


def test_the_example_suite_runs(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "mine.toml").write_text(block("suites.md", "toml"), encoding="utf-8")
    assert load_suite(str(tmp_path / "mine.toml")).name == "mine"
    command = re.findall(
        r"^agentserve (.*)", (DOCS / "suites.md").read_text(encoding="utf-8"), re.MULTILINE
    )[0]
    # Without scipy, which no extra brings.
    source = "import sys; sys.modules['scipy'] = None\nfrom agentserve_gym.cli import app; app()"
    finished = subprocess.run(
        [sys.executable, "-c", source, *command.split()],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "mine" / "benchmark.md").is_file()


def test_every_key_of_a_suite_is_documented():
    models = (SuiteFile, Cell, LuckPlan)
    fields = {name for model in models for name in model.model_fields}
    assert documented("suites.md") | {"luck"} == fields
    assert "| `[luck]` |" in (DOCS / "suites.md").read_text(encoding="utf-8")


# --- entry points --------------------------------------------------------------------------------


def run_with(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = "from agentserve_gym.cli import app; app()"
    root = str(DOCS.parent)
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), root)), "COLUMNS": "200"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_package_registers_its_policy(tmp_path):
    package, target = tmp_path / "package", tmp_path / "installed"
    package.mkdir()
    (package / "pyproject.toml").write_text(block("policies.md", "toml"), encoding="utf-8")
    (package / "my_policies.py").write_text(block("policies.md", "python"), encoding="utf-8")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    made = subprocess.run(
        [sys.executable, "-m", "pip", *install, "--target", target, package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No module named" in made.stderr or "Cannot import 'setuptools" in made.stderr:
        pytest.skip("building a package needs pip and setuptools here")
    assert made.returncode == 0, made.stderr
    assert "quiet" in run_with(target, "policies").stdout
    for name in ("quiet", "quiet(last=true)"):
        ran = run_with(target, "run", "--scenario", "toy", "--policy", name)
        assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "cannot import 'broken': ModuleNotFoundError: No module named 'broken'"),
        ("1 / 0", "cannot import 'broken': ZeroDivisionError"),
        ("", "'broken' has no class 'Policy'"),
    ],
)
def test_an_entry_point_that_does_not_work_is_one_line(tmp_path, source, message):
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[agentserve_gym.policies]\nbad = broken:Policy\n")
    if source is not None:
        (tmp_path / "broken.py").write_text(source, encoding="utf-8")
    refused = run_with(tmp_path, "run", "--scenario", "toy", "--policy", "bad")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "policy 'bad', entry point 'broken:Policy'" in refused.stderr
    assert message in refused.stderr
    assert run_with(tmp_path, "policies").returncode == 0
