"""Tuning of baselines on seeds of their own, so that none of them is a straw man.

Every combination of a grid's values runs in the same cells on the same seeds; the smallest
geometric mean of JCT wins. The result is data: ``tuned.toml``, with what was tried and how much it
gained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import agentserve_gym
from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench.logs import JctLogs, runs_of
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.runner import Job, plan_jobs
from agentserve_gym.bench.suite import Suite, curated_policies, load_suite
from agentserve_gym.tables import toml_value

_NOT_VALUES = ("label", "policy")


@dataclass(frozen=True, slots=True)
class Grid:
    """The candidates of one label; the first has the published parameters."""

    label: str
    default: str
    candidates: tuple[str, ...]


def read_grids(content: dict[str, Any]) -> list[Grid]:
    """Every grid as its candidates.

    Raises:
        ValueError: for an unknown label, or a value that a policy refuses.
    """
    curated = curated_policies()
    grids = []
    for grid in content["grids"]:
        values = {name: tried for name, tried in grid.items() if name not in _NOT_VALUES}
        if grid["label"] not in curated:
            raise ValueError(f"grids: unknown label {grid['label']!r}")
        candidates = [
            grid["policy"].format(**dict(zip(values, chosen, strict=True)))
            for chosen in product(*values.values())
        ]
        for candidate in candidates:
            parse_policy(candidate)
        grids.append(Grid(grid["label"], curated[grid["label"]], tuple(candidates)))
    return grids


def tuning_suite(content: dict[str, Any], grids: list[Grid], traces: Path | None = None) -> Suite:
    """The tuning runs as a suite whose labels are the candidates.

    Raises:
        ValueError: if a seed is also one of the standard suite.
    """
    standard = load_suite("standard", traces)
    candidates = dict.fromkeys(candidate for grid in grids for candidate in grid.candidates)
    suite = standard.only(content["cells"], list(candidates), content["seeds"])
    suite = suite.model_copy(update={"name": "tuning", "first_seed": content["first_seed"]})
    shared = set(suite.seed_numbers()) & set(standard.seed_numbers())
    if shared:
        raise ValueError(f"first_seed: {sorted(shared)} are also seeds of the standard suite")
    return suite


def tuning_jobs(suite: Suite, grids: list[Grid], traces: Path | None = None) -> list[Job]:
    """The jobs of the candidates alone."""
    wanted = {candidate for grid in grids for candidate in grid.candidates}
    return [job for job in plan_jobs(suite, traces) if job.label in wanted]


def tuned_document(suite: Suite, grids: list[Grid], outcomes: Iterable[Outcome]) -> str:
    """``tuned.toml``: the best candidate of every grid, and where that comes from.

    Raises:
        ValueError: if a candidate has not run everywhere.
    """
    logs = JctLogs(outcomes)
    runs = runs_of([cell.scenario for cell in suite.cells], suite.seed_numbers())
    lines = [
        "# Written by `agentserve bench --tune` from grids.toml: per label the parameters with the",
        "# smallest geometric mean of JCT, and `change`, that mean relative to the default's.",
        "",
        f"version = {toml_value(agentserve_gym.__version__)}",
        f"code = {toml_value(logs.codes(runs))}",
        f"cells = {toml_value([cell.scenario for cell in suite.cells])}",
        f"seeds = {toml_value(list(suite.seed_numbers()))}",
    ]
    for grid in grids:
        means = {candidate: logs.mean(candidate, runs) for candidate in grid.candidates}
        best = min(means, key=lambda candidate: means[candidate])
        change = logs.change(best, grid.candidates[0], runs)
        lines += [
            "",
            f"[tuned.{toml_value(grid.label)}]",
            f"default = {toml_value(grid.default)}",
            f"policy = {toml_value(parse_policy_name(best))}",
            f"tried = {len(grid.candidates)}",
            f"change = {change:.4f}",
        ]
    return "\n".join(lines) + "\n"


def parse_policy_name(policy: str) -> str:
    """The policy without what ``parse_policy`` adds by itself, and without default parameters."""
    parts = parse_policy(policy).name.split("+")
    added = [part for part in ("affinity", "lru") if part not in policy.split("+")]
    return "+".join(part for part in parts if part not in added) or policy
