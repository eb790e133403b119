"""What contributors and releases go by: workflows, hooks and templates name what exists."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
GUIDES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "docs" / "releasing.md",
    GITHUB / "pull_request_template.md",
    *WORKFLOWS,
    *FORMS,
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
MADE = re.compile(r"(dist|build|checkpoints|runs|agentserve_gym/_compiled)/")
"""Folders that commands make."""


def pins() -> dict[str, str]:
    """Package -> version, of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in loaded(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_make_targets_that_guides_name_exist(guide):
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", guide.read_text(encoding="utf-8")))
    assert named <= TARGETS


def test_workflows_run_make_targets_alone():
    runs = [step["run"] for workflow in WORKFLOWS for step in steps(workflow) if "run" in step]
    assert len(runs) >= 6
    assert [run for run in runs if not re.fullmatch(r"make [\w${}. -]+(PYTHON=python)?", run)] == []
    chosen = loaded(GITHUB / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert set(chosen["target"]) <= TARGETS


def test_the_same_pythons_everywhere():
    stated = [
        line.rpartition(" ")[2]
        for line in PROJECT["project"]["classifiers"]
        if "Python :: 3." in line
    ]
    tested = loaded(GITHUB / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert tested["python"] == stated
    built = PROJECT["tool"]["cibuildwheel"]["build"].split()
    assert built == [f"cp{version.replace('.', '')}-*" for version in stated]


def test_hooks_have_the_versions_of_make_check():
    hooks = loaded(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    needed = dict(line.split("==") for hook in hooks for line in hook["additional_dependencies"])
    assert {"ruff", "codespell"} <= set(needed)
    assert {name: needed[name] for name in needed.keys() & pins()} == {
        name: pins()[name] for name in ("ruff", "codespell")
    }


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_files_and_modules_that_guides_name_exist(guide):
    text = guide.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\.?[\w-]+/)+[\w.-]*)`", text):
        if not MADE.match(name):
            assert any((folder / name).exists() for folder in (ROOT, ROOT / "agentserve_gym")), name
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert find_spec(module) is not None, module


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_forms_ask_by_unique_names(form):
    body = loaded(form).get("body", [])
    asked = [field["id"] for field in body if field["type"] != "markdown"]
    assert len(asked) == len(set(asked))


def test_a_wrong_number_comes_with_what_repeats_it():
    body = loaded(GITHUB / "ISSUE_TEMPLATE" / "wrong-number.yml")["body"]
    needed = {field["id"] for field in body if field.get("validations", {}).get("required")}
    assert {"number", "expected", "scenario", "seed", "policy", "trace", "version"} <= needed
