"""Outcomes and suites made by hand."""

from __future__ import annotations

from dataclasses import replace

from agentserve_gym.bench import Cell, Outcome, Study, Suite
from agentserve_gym.bench.conclusions import conclusions
from agentserve_gym.bench.runner import digest
from agentserve_gym.bench.suite import find_scenario

PLAIN = Outcome(
    scenario="toy", label="random", policy="random+lru", seed=0, digest="", code="",
    programs=2, turns=4, jct_mean_s=10.0, jct_p50_s=10.0, jct_p99_s=12.0, slowdown=2.0, ideal_s=5.0,
    ttft_mean_s=0.1, ttft_p95_s=0.2, tpot_p95_s=0.01, slo_goodput=1.0, hit_hbm=0.5,
    hit_lower="dram=0.0;cxl=0.0",
    prompt_tokens=1000, recomputed_tokens=100, offloaded_gb=0.0, loaded_gb=0.0,
    preemptions=0, holds=0, invalid_answers=0, busy=0.5, counters="", silent="",
    nudge=0, live=2.0, working_set=0.8, working_set_p90=1.2, drift=1.0,
)  # fmt: skip


def toy_suite(seeds: int = 3, **changes: object) -> Suite:
    """One cell (the preset ``toy``) and three policies and an oracle."""
    policies = [
        {"label": "random", "policy": "random", "lever": "stock"},
        {"label": "affinity", "policy": "affinity", "lever": "stock"},
        {"label": "ttl", "policy": "ttl", "lever": "residency"},
        {"label": "belady", "policy": "belady", "lever": "oracle"},
    ]
    return Suite.model_validate(
        {
            "name": "test",
            "description": "for tests",
            "seeds": seeds,
            "first_seed": 0,
            "cells": [{"scenario": "toy", "load": "light"}],
            "policies": policies,
            **changes,
        }
    )


def outcomes(suite: Suite, jct_s: dict[str, list[float]], **changes: object) -> list[Outcome]:
    """Outcomes of the suite's only cell with these mean JCTs by label, seed by seed."""
    cell: Cell = suite.cells[0]
    scenario = find_scenario(cell.scenario)
    made = []
    for label, values in jct_s.items():
        mark = digest(scenario, suite.entry(label).policy)
        made += [
            replace(PLAIN, label=label, seed=seed, jct_mean_s=value, digest=mark, **changes)
            for seed, value in enumerate(values)
        ]
    return made


def said(study: Study) -> str:
    """Every sentence of the report's conclusions."""
    return " ".join(line for lines in conclusions(study).values() for line in lines)
