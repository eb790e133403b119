"""The fit that made the parameter files: correct on known samples, and reproducible."""

from __future__ import annotations

import gzip
import json
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from agentserve_gym.workloads import AGENT_CLASSES
from agentserve_gym.workloads.fit import main
from agentserve_gym.workloads.fitting.common import fit_lognormal_mixture
from tests.data_sets import needed_data_set


def test_a_mixture_is_recovered_from_its_sample() -> None:
    rng = np.random.default_rng(0)
    sample = np.exp(
        np.concatenate([rng.normal(1.0, 0.3, size=3000), rng.normal(5.0, 1.0, size=7000)])
    )
    fit = fit_lognormal_mixture(sample, 2)
    assert fit["w"] == pytest.approx([0.3, 0.7], abs=0.02)
    assert fit["mu"] == pytest.approx([1.0, 5.0], abs=0.06)
    assert fit["sigma"] == pytest.approx([0.3, 1.0], abs=0.05)
    assert fit["cap"] == pytest.approx(sample.max(), rel=1e-3)


def test_the_fit_depends_on_the_values_only() -> None:
    sample = np.exp(np.random.default_rng(1).normal(size=500))
    assert fit_lognormal_mixture(sample, 3) == fit_lognormal_mixture(sample[::-1], 3)


@pytest.fixture
def traces() -> Path:
    """The folder of everything that is fitted to."""
    needed = ("coding-sessions", "tau2", "bfcl-multi-turn", "deerflow", "generator-fits")
    (folder,) = {needed_data_set(name).parent for name in needed}
    return folder


def shipped_and_made(traces: Path, out: Path) -> dict[str, tuple[str, str]]:
    """Agent class -> the parameter file of the package, and what a fit to ``traces`` makes."""
    main(["--traces", str(traces), "--out", str(out)])
    assert sorted(path.stem for path in out.iterdir()) == sorted(AGENT_CLASSES)
    folder = files("agentserve_gym.workloads.generators") / "parameters"
    return {
        name: (
            (folder / f"{name}.toml").read_text(encoding="utf-8"),
            (out / f"{name}.toml").read_text(encoding="utf-8"),
        )
        for name in AGENT_CLASSES
    }


def test_the_shipped_parameters_are_what_the_fit_makes(traces: Path, tmp_path: Path) -> None:
    for name, (shipped, made) in shipped_and_made(traces, tmp_path).items():
        assert shipped == made, name
        assert tomllib.loads(shipped)["source"]


def test_only_train_rows_are_fitted(traces: Path, tmp_path: Path) -> None:
    """Test rows are made absurd; the fit does not notice."""
    absurd, out_folder = tmp_path / "traces", tmp_path / "made"
    absurd.mkdir()
    out_folder.mkdir()
    for path in traces.glob("programs_*.gz"):
        with (
            gzip.open(path, "rt") as lines,
            gzip.open(absurd / path.name, "wt", compresslevel=1) as out,
        ):
            for line in lines:
                row = json.loads(line)
                if row["split"] == "test":
                    row["turns"] = row["turns"][:1] * 3
                    line = json.dumps(row) + "\n"
                out.write(line)
    shutil.copy(traces / "generator_params.json", absurd)
    for name, (shipped, made) in shipped_and_made(absurd, out_folder).items():
        assert shipped == made, name
