"""Headroom: what is run, how gains are told from luck, and the page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bench_helpers import PLAIN, toy_suite

from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench import Outcome, Suite, plan_jobs, run_jobs
from agentserve_gym.bench.headroom import BASE, LEVERS, LOOKAHEAD, HeadroomStudy, headroom_suite
from agentserve_gym.bench.headroom_page import (
    headroom_page,
    headroom_summary,
    write_headroom_page,
)


def suite(seeds: int = 3) -> Suite:
    return headroom_suite(toy_suite(seeds), "least_loaded+ttl", 0.5)


def made(looking: Suite, jct_s: dict[str, list[float]]) -> list[Outcome]:
    """Outcomes with these mean JCTs by label, seed by seed."""
    marks = {job.label: job.digest for job in plan_jobs(looking)}
    return [
        replace(PLAIN, label=label, seed=seed, jct_mean_s=value, digest=marks[label])
        for label, values in jct_s.items()
        for seed, value in enumerate(values)
    ]


def test_a_base_runs_beside_all_that_looks_ahead_from_it() -> None:
    looking = suite()
    assert [entry.label for entry in looking.policies][:2] == [BASE, LOOKAHEAD]
    assert len(looking.policies) == 2 + 2 * len(LEVERS)
    for entry in looking.policies:
        policy = parse_policy(entry.policy)
        assert policy.is_oracle == (entry.lever == "oracle")
        assert policy.is_oracle == entry.label.startswith(("clairvoyant", "placebo"))
        if entry.label != BASE:
            assert "base=least_loaded+ttl,share=0.5" in entry.policy
    with pytest.raises(ValueError, match="an oracle"):
        headroom_suite(toy_suite(), "belady", 0.5)


def test_the_net_gain_leaves_out_what_luck_gains() -> None:
    looking = suite()
    study = HeadroomStudy(
        looking,
        made(
            looking,
            {
                BASE: [100.0, 200.0, 400.0],
                "clairvoyant routing": [80.0, 160.0, 320.0],
                "placebo routing": [90.0, 180.0, 360.0],
                LOOKAHEAD: [95.0, 190.0],
            },
        ),
    )
    (found,) = study.levers()
    assert (found.cell, found.lever, found.seeds) == ("toy", "routing", 3)
    assert found.clairvoyant.value == pytest.approx(0.8)
    assert found.placebo.value == pytest.approx(0.9)
    assert found.net.value == pytest.approx(0.8 / 0.9)
    assert found.base_s == pytest.approx(700.0 / 3)
    (ahead,) = study.deployable()
    assert (ahead.seeds, ahead.against_base.value) == (2, pytest.approx(0.95))
    page = headroom_page(study)
    assert "| `toy` | routing | 3 | 233.3 | **-20.0 % [-20.0, -20.0]** |" in page
    assert "`least_loaded+ttl`" in page
    summary = headroom_summary(study)
    assert json.loads(json.dumps(summary))["levers"][0]["net"]["value"] == found.net.value


def test_outcomes_of_another_base_or_share_do_not_count() -> None:
    looking, other = suite(), headroom_suite(toy_suite(), "lru", 0.5)
    runs = made(other, {BASE: [1.0] * 3, LOOKAHEAD: [1.0] * 3})
    study = HeadroomStudy(looking, runs)
    assert study.levers() == []
    assert study.deployable() == []


def test_it_is_run_and_written_like_any_benchmark(tmp_path) -> None:
    looking = suite(seeds=1)
    runs: list[Outcome] = []
    failures: list[Exception] = []
    run_jobs(plan_jobs(looking), 1, runs.append, lambda _, error: failures.append(error))
    assert failures == []
    study = HeadroomStudy(looking, runs)
    assert [found.lever for found in study.levers()] == list(LEVERS)
    path = write_headroom_page(study, tmp_path)
    assert path == tmp_path / "benchmark" / "headroom.md"
    assert path.read_text().startswith("# Headroom by looking ahead")
    assert "[one seed]" in path.read_text()
