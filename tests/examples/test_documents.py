"""What the README and docs say holds: code runs, scenarios load, names and links exist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from agentserve_gym import ENV_IDS, __version__
from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench.suite import curated_policies
from agentserve_gym.compiled import FOLDER
from agentserve_gym.sim import Simulation, load_scenario, preset_names

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def test_readme_snippet_runs_as_it_stands(tmp_path):
    (snippet,) = blocks(README, "python")
    script = tmp_path / "snippet.py"
    script.write_text(snippet, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-I", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert float(finished.stdout) > 0


def test_readme_names_every_environment():
    text = README.read_text(encoding="utf-8")
    assert all(f"`{env_id}`" in text for env_id in ENV_IDS)


def test_example_scenarios_load():
    texts = blocks(ROOT / "docs" / "scenarios.md", "toml")
    simulations = [Simulation(load_scenario(tomllib.loads(text))) for text in texts]
    assert [simulation.scenario.name for simulation in simulations] == ["mine", "two-models"]


def test_every_preset_is_described():
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w.-]+)` \|", text, re.MULTILINE)) == set(preset_names())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_policies_and_scenarios_that_documents_name_exist(document):
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r'--policy "?([^\s"`]+)', text):
        # A label of the benchmark, a class of the reader's own, weights of a run, or a policy.
        if name not in curated_policies() and ":" not in name and "=runs/" not in name:
            parse_policy(name)
    for name in re.findall(r"--scenario (\S+)", text):
        assert name in preset_names() or name.endswith((".toml", ".json"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in citation


def test_every_data_file_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["agentserve_gym"]
    package = ROOT / "agentserve_gym"
    for path in package.rglob("*"):
        if path.is_dir() or path.suffix in (".py", ".pyc") or package / FOLDER in path.parents:
            continue
        name = path.relative_to(package).as_posix()
        if name.startswith(f"{FOLDER}/"):
            continue  # the build puts it into a wheel
        assert any(fnmatch(f"/{name}", f"/{p}".replace("/**/", "/*")) for p in patterns), name


def test_torch_is_pinned_alike_in_makefile_and_constraints():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = re.findall(r"torch==\S+", makefile)
    assert pin in constraints
