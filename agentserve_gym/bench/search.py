"""A search over combinations of parts, cell by cell, so that a cell's best heuristic is one that
nobody could trivially improve.

Parts of every family are crossed, and successive halving spends seeds on the promising: every rung
runs what the rung before kept on more seeds (Karnin et al., ICML 2013). The result is data:
``found.toml``, which suites take in by the label ``found``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import agentserve_gym
from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench.logs import JctLogs, Run, runs_of
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.suite import (
    Entry,
    LuckPlan,
    Suite,
    find_scenario,
    tuned_parts,
    with_tuned_parts,
)
from agentserve_gym.tables import toml_value

Candidates = dict[str, list[str]]
"""By a cell's scenario, the policies that are still in the running there."""


@dataclass(frozen=True, slots=True)
class Rung:
    """On how many seeds the candidates run, and how many of them go on."""

    seeds: int
    keep: int


def read_rungs(content: Mapping[str, Any]) -> list[Rung]:
    """The rungs of a search.

    Raises:
        ValueError: if a rung has no fewer candidates, or no more seeds, than the one before.
    """
    rungs = [Rung(**rung) for rung in content["rungs"]]
    for before, after in pairwise(rungs):
        if after.seeds <= before.seeds or after.keep >= before.keep:
            raise ValueError(f"rungs: {after} follows {before}; allowed: more seeds, fewer kept")
    return rungs


def searched_cells(suite: Suite) -> Suite:
    """The suite without its light cells, where no combination can gain much.

    Raises:
        ValueError: if no cell is left.
    """
    cells = [cell for cell in suite.cells if cell.load != "light"]
    if not cells:
        raise ValueError(f"suite {suite.name!r}: all cells are light; there is nothing to search")
    return suite.model_copy(update={"cells": cells})


def combinations(content: Mapping[str, Any], suite: Suite) -> Candidates:
    """Every combination of parts, for each of the suite's cells."""
    tuned = tuned_parts()
    found: Candidates = {}
    for cell in suite.cells:
        tiers = find_scenario(cell.scenario).cluster.tier_names
        residency = content["residency"][min(len(tiers), 2)]
        crossed: dict[str, str] = {}
        for parts in product(content["routing"], residency, content["admission"], content["order"]):
            named = "+".join(part for part in parts if part not in ("", "lru"))
            policy = with_tuned_parts(named, tuned)
            crossed.setdefault(parse_policy(policy).name, policy)
        found[cell.scenario] = list(crossed.values())
    return found


def rung_suite(
    content: Mapping[str, Any], suite: Suite, candidates: Candidates, rung: Rung
) -> Suite:
    """A rung's runs as a suite whose labels are the candidates and, everywhere, the stock policy.

    Raises:
        ValueError: if a seed is also one of the suite.
    """
    cells_of: dict[str, list[str]] = {}
    stock = suite.entry(suite.stock).policy
    for scenario, policies in candidates.items():
        for policy in dict.fromkeys([stock, *policies]):
            cells_of.setdefault(policy, []).append(scenario)
    entries = [
        Entry(label=policy, policy=policy, lever="mixed", scenarios=cells)
        for policy, cells in cells_of.items()
    ]
    first_seed = content["first_seed"]
    shared = set(suite.seed_numbers()) & set(range(first_seed, first_seed + rung.seeds))
    if shared:
        raise ValueError(f"first_seed: {sorted(shared)} are also seeds of suite {suite.name!r}")
    changes = {"policies": entries, "seeds": rung.seeds, "first_seed": first_seed}
    return suite.model_copy(update={**changes, "name": "search", "luck": LuckPlan()})


def survivors(
    rung: Suite, candidates: Candidates, keep: int, outcomes: Iterable[Outcome]
) -> Candidates:
    """Of each cell the candidates with the smallest geometric means of JCT, best first.

    Raises:
        ValueError: if one has not run on every seed of the rung.
    """
    logs = JctLogs(outcomes)
    kept: Candidates = {}
    for scenario, policies in candidates.items():
        runs = _runs(scenario, rung)
        means = {policy: logs.mean(policy, runs) for policy in policies}
        kept[scenario] = sorted(policies, key=lambda policy: means[policy])[:keep]
    return kept


def found_document(
    rung: Suite, stock: str, tried: Candidates, best: Candidates, outcomes: Iterable[Outcome]
) -> str:
    """``found.toml``: the best of every cell after the last rung, and where that comes from."""
    logs = JctLogs(outcomes)
    runs = {scenario: _runs(scenario, rung) for scenario in best}
    lines = [
        "# Written by `agentserve bench --search` from search.toml: per cell the combination of",
        "# parts with the smallest geometric mean of JCT, and `change`, that mean relative to the",
        "# stock policy's.",
        "",
        f"version = {toml_value(agentserve_gym.__version__)}",
        f"code = {toml_value(logs.codes([run for of_cell in runs.values() for run in of_cell]))}",
        f"stock = {toml_value(stock)}",
        f"seeds = {toml_value(list(rung.seed_numbers()))}",
    ]
    for scenario, policies in best.items():
        change = logs.change(policies[0], stock, runs[scenario])
        lines += [
            "",
            f"[found.{toml_value(scenario)}]",
            f"policy = {toml_value(policies[0])}",
            f"tried = {len(tried[scenario])}",
            f"change = {change:.4f}",
        ]
    return "\n".join(lines) + "\n"


def _runs(scenario: str, rung: Suite) -> list[Run]:
    return runs_of([scenario], rung.seed_numbers())
