"""Generated programs against real ones that were not used for fitting (``split: test``).

The rule: a Kolmogorov-Smirnov distance of at most .12, or one that is not significant at 1 %, where
the rows are few; the final context's median and 90th percentile within 25 %.

Rows come in clusters (the turns of a program, the programs of a task), so significance is judged
by clusters: the critical value is the 99th percentile of the distance between as many whole
clusters as the test split has, drawn from the train rows, and the other train rows.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from agentserve_gym.workloads import (
    GeneratedWorkload,
    PoissonArrivals,
    Program,
    build_workload,
)
from tests.data_sets import needed_data_set

pytestmark = pytest.mark.no_cover

Row = dict[str, Any]
Measure = Callable[[Row], list[float]]
GENERATED = 1500
LIMIT = 0.12


# --------------------------------------------------------------------------------- what is measured


def turns(row: Row) -> list[float]:
    return [len(row["turns"])]


def output(row: Row) -> list[float]:
    return [max(1, turn["output_tokens"]) for turn in row["turns"]]


def new_input(row: Row) -> list[float]:
    return [turn["new_input_tokens"] for turn in row["turns"][1:]]


def growth(row: Row) -> list[float]:
    """Growth of the context per turn, compactions and side branches aside."""
    steps = [
        after["input_tokens"] - before["input_tokens"]
        for before, after in pairwise(row["turns"])
        if not after.get("reset")
    ]
    return [step for step in steps if step > 0]


def final_context(row: Row) -> list[float]:
    last = row["turns"][-1]
    return [last["input_tokens"] + last["output_tokens"]]


def as_row(program: Program) -> Row:
    """A generated program in the shape of the trace rows."""
    rows = [
        {
            "input_tokens": turn.input_tokens,
            "new_input_tokens": turn.new_input_tokens,
            "output_tokens": turn.output_tokens,
            "reset": 0 < turn.reuse_tokens <= program.shared_prefix_tokens,
        }
        for turn in program.turns
    ]
    return {"turns": rows}


# ---------------------------------------------------------------------------------------- the data


@cache
def trace_rows(path: Path) -> list[Row]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def rows_of(agent_class: str) -> list[Row]:
    if agent_class == "coding_interactive":
        rows = trace_rows(needed_data_set("coding-sessions"))
        return [row for row in rows if row["fresh_start"]]
    rows = trace_rows(needed_data_set("tau2"))
    domains = {
        "function_calling": ("retail", "airline"),
        "function_calling_telecom": ("telecom",),
    }
    return [row for row in rows if row["domain"] in domains[agent_class]]


@cache
def generated_rows(agent_class: str) -> list[Row]:
    spec = GeneratedWorkload(mix={agent_class: 1.0}, programs=GENERATED, sub_agents=False)
    workload = build_workload(spec, PoissonArrivals(rate_per_s=1.0), seed=2024)
    return [as_row(workload.program(index)) for index in range(GENERATED)]


def pool(rows: list[Row], measure: Measure) -> np.ndarray:
    return np.array([value for row in rows for value in measure(row)], dtype=float)


def critical_distance(train: list[Row], test: list[Row], measure: Measure) -> float:
    def task(row: Row) -> str:
        return str(row.get("task", row["program_id"]))

    names = sorted({task(row) for row in train})
    count = len({task(row) for row in test})
    values = {name: pool([r for r in train if task(r) == name], measure) for name in names}
    rng = np.random.default_rng(0)
    distances = []
    for _ in range(200):
        order = rng.permutation(len(names))
        drawn, rest = (
            np.concatenate([values[names[i]] for i in part])
            for part in (order[:count], order[count:])
        )
        distances.append(ks_2samp(drawn, rest).statistic)
    return float(np.quantile(distances, 0.99))


def split(rows: list[Row], name: str) -> list[Row]:
    return [row for row in rows if row["split"] == name]


# --------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize(
    ("agent_class", "measure"),
    [
        ("coding_interactive", turns),
        ("coding_interactive", output),
        ("coding_interactive", new_input),
        ("coding_interactive", growth),
        ("coding_interactive", final_context),
        ("function_calling", turns),
        ("function_calling", output),
        ("function_calling", new_input),
        ("function_calling", final_context),
        ("function_calling_telecom", turns),
        ("function_calling_telecom", new_input),
        ("function_calling_telecom", final_context),
    ],
)
def test_distributions_match_unseen_rows(agent_class: str, measure: Measure) -> None:
    rows = rows_of(agent_class)
    train, test = split(rows, "train"), split(rows, "test")
    distance = ks_2samp(pool(test, measure), pool(generated_rows(agent_class), measure)).statistic
    allowed = LIMIT
    if distance > LIMIT:
        allowed = max(LIMIT, critical_distance(train, test, measure))
    assert distance <= allowed


@pytest.mark.parametrize(
    ("agent_class", "measure"),
    [
        ("coding_interactive", turns),
        ("coding_interactive", output),
        ("coding_interactive", new_input),
        ("coding_interactive", growth),
        ("function_calling", turns),
        ("function_calling", output),
        ("function_calling", new_input),
        ("function_calling", final_context),
    ],
)
def test_distributions_match_the_rows_they_were_fitted_on(
    agent_class: str, measure: Measure
) -> None:
    train = split(rows_of(agent_class), "train")
    real, generated = pool(train, measure), pool(generated_rows(agent_class), measure)
    assert ks_2samp(real, generated).statistic <= 0.10


@pytest.mark.parametrize(
    "agent_class", ["coding_interactive", "function_calling", "function_calling_telecom"]
)
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_the_final_context_is_right_within_a_quarter(agent_class: str, quantile: float) -> None:
    test = split(rows_of(agent_class), "test")
    real = np.quantile(pool(test, final_context), quantile)
    generated = np.quantile(pool(generated_rows(agent_class), final_context), quantile)
    assert generated == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize(
    ("agent_class", "p50", "p90"),
    [
        # Published over all rows; the rows themselves are not redistributed.
        ("coding_auto", 48_000, 78_000),
        ("coding_auto_gpu_host", 55_000, 84_000),
        ("web_research", 29_000, 54_000),
        ("function_calling", 7_800, 12_500),
        ("coding_interactive", 108_000, 168_000),
    ],
)
def test_the_final_context_has_the_published_quantiles(
    agent_class: str, p50: float, p90: float
) -> None:
    generated = pool(generated_rows(agent_class), final_context)
    assert np.quantile(generated, 0.5) == pytest.approx(p50, rel=0.25)
    assert np.quantile(generated, 0.9) == pytest.approx(p90, rel=0.25)


@pytest.mark.parametrize(
    ("agent_class", "p50", "p90"),
    [
        ("coding_interactive", 68, 183),
        ("coding_auto", 27, 64),
        ("coding_auto_gpu_host", 45, 92),
        ("function_calling", 10, 15),
        ("function_calling_telecom", 15, 24),
        ("function_calling_bfcl", 10, 13),
        ("web_research", 18, 33),
    ],
)
def test_the_number_of_turns_has_the_published_quantiles(
    agent_class: str, p50: float, p90: float
) -> None:
    generated = pool(generated_rows(agent_class), turns)
    assert np.quantile(generated, 0.5) == pytest.approx(p50, rel=0.15)
    assert np.quantile(generated, 0.9) == pytest.approx(p90, rel=0.15)
