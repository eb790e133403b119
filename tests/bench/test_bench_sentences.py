"""No sentence of the report claims what was not run: small studies of every shape."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from bench_helpers import outcomes, said, toy_suite

from agentserve_gym.bench import Study, tuning_page, write_report
from agentserve_gym.bench.cell_pages import cells_page
from agentserve_gym.bench.page import benchmark_page
from agentserve_gym.bench.report import summary

POLICIES = {
    "random": ("random", "stock"),
    "affinity": ("affinity", "stock"),
    "least-loaded": ("least_loaded", "routing"),
    "ttl": ("ttl", "residency"),
    "continuum": ("continuum", "mixed"),
    "write-through": ("write_through", "tiers"),
    "plas": ("plas", "order"),
    "gate": ("gate", "admission"),
    "belady": ("belady", "oracle"),
}
JCT_S = {
    "random": [20.0, 22.0, 21.0],
    "affinity": [10.0, 11.0, 10.5],
    "least-loaded": [9.0, 9.8, 9.5],
    "ttl": [8.0, 8.8, 8.5],
    "write-through": [7.0, 7.8, 7.4],
    "plas": [9.5, 10.4, 10.0],
    "gate": [9.6, 10.5, 10.1],
    "belady": [7.0, 7.7, 7.4],
}
HBM_ONLY, WITH_DRAM = "functions-8b-4", "toy"


def make(*labels: str, scenario: str = HBM_ONLY, seeds: int = 3, **changes: object) -> Study:
    """A study of one cell, 81 % busy, under these policies beside random and affinity."""
    names = ("random", "affinity", *labels)
    suite = toy_suite(
        seeds=seeds,
        cells=[{"scenario": scenario, "load": "saturated"}],
        policies=[
            {"label": name, "policy": POLICIES[name][0], "lever": POLICIES[name][1]}
            for name in names
        ],
    )
    jct_s = {**JCT_S, **changes}
    found = {name: jct_s[name][:seeds] for name in names}
    return Study(suite, outcomes(suite, found, scenario=scenario, busy=0.81))


def test_two_policies_say_nothing_about_levers():
    text = said(make())
    assert "nothing separates" not in text
    assert "beats" not in text
    assert "moves one of these alone: routing, residency, tiers, order, admission" in text
    assert "`affinity` scores highest" in text
    assert "the stock policy `affinity`" not in text  # it is the first already


def test_a_single_policy_beside_the_reference_is_no_control():
    assert not make().cells[0].is_control


def test_policies_that_do_not_differ_are_said_to_be_alike_not_the_load_light():
    text = said(make("ttl", ttl=[10.0, 11.0, 10.5]))
    assert "no policy is ranked" in text
    assert f"less than 1% of mean JCT: `{HBM_ONLY}` (0.00% over 2, 81% busy)" in text
    assert "scarce" not in text


def test_a_reference_at_the_lower_bound_leaves_no_room():
    study = make("ttl", random=[5.0, 5.0, 5.0])
    assert study.cells[0].is_control
    assert "the reference `random` is at the lower bound already" in said(study)
    benchmark_page(study, "benchmark")


def test_one_lever_is_compared_with_no_other():
    text = said(make("least-loaded"))
    assert "**Routing** alone beats the stock policy in 1 of 1 cell" in text
    assert "worth most" not in text
    assert "alone: residency, tiers, order, admission" in text


def test_the_strongest_is_named_among_those_that_were_moved():
    text = said(make("least-loaded", "ttl"))
    assert (
        "of those that were moved (routing, residency) that is worth most: residency in 1" in text
    )


def test_every_lever_needs_no_such_words():
    text = said(make("least-loaded", "ttl", "write-through", "plas", "gate", scenario=WITH_DRAM))
    assert "The single lever that is worth most: tiers in 1" in text
    assert "was run that moves" not in text


def test_no_gain_is_said_of_the_levers_that_ran():
    worse = [10.5, 11.5, 11.0]
    text = said(make("least-loaded", "ttl", ttl=worse, **{"least-loaded": worse}))
    assert "No single lever of those that were moved (routing, residency) beats" in text


def test_a_tier_is_not_judged_where_there_is_none():
    text = said(make("write-through"))
    assert "A lower tier** alone" not in text
    assert "No cell that ranks has a lower tier for KV" in text
    assert "A lower tier** alone beats" in said(make("write-through", scenario=WITH_DRAM))


def test_one_seed_separates_nothing():
    text = said(make("least-loaded", "belady", seeds=1))
    assert "One seed has no interval" in text
    assert f"One seed was run in `{HBM_ONLY}`: nothing is said of levers there" in text
    assert "beats" not in text
    assert "No oracle ran" not in text


def test_the_largest_effect_of_a_lever_is_said_even_where_it_is_none():
    text = said(make("ttl", ttl=[10.0, 11.8, 10.4]))
    assert "in 0 of 1 cell (interval below 1); at best it is +2.0 % [-8.4, +13.7] in" in text
    assert "No lever that was moved is worth 25% or more of mean JCT in any cell." in text


def test_levers_that_are_decisive_somewhere_are_told_from_those_that_are_not():
    text = said(make("least-loaded", "ttl", ttl=[7.0, 7.7, 7.4]))
    assert "Worth 25% or more of mean JCT in some cell: residency in HBM (in 1 cell); " in text
    assert "nowhere: routing." in text
    noisy = said(make("ttl", ttl=[4.0, 12.0, 7.4]))
    assert "No lever that was moved is worth 25%" in noisy


def test_pins_with_their_order_are_held_against_order_alone():
    pins = {"continuum": [7.5, 8.3, 7.9]}
    text = said(make("continuum", "plas", **pins))
    assert "**Pins with the queue order of their authors** beat the best policy that" in text
    assert "by 21 % [20, 22] of mean JCT (`continuum`)" in text
    assert "Pins with" not in said(make("continuum", **pins))
    study = make("continuum", "plas", **pins)
    (cell,) = study.cells
    moved = [replace(run, offloaded_gb=1.0) for run in cell.outcomes["continuum"]]
    cell.outcomes["continuum"] = moved
    assert "Pins with" not in said(study)  # a lower tier may have done it


def test_the_most_widespread_policy_is_named_with_its_cells():
    assert "in more cells than `ttl`: 1 of 1." in said(make("ttl"))
    assert "more cells than" not in said(make("ttl", seeds=1))


@pytest.mark.parametrize(
    ("best", "end"),
    [
        (("ttl", "ttl", "affinity"), "2 of 3, more than half; in the other 1 another is better."),
        (("ttl", "plas", "affinity"), "1 of 3, not more than half: none should be chosen without"),
    ],
)
def test_a_policy_that_is_best_in_most_cells_is_told_from_one_that_is_not(best, end):
    names = (HBM_ONLY, "coding-8b-hbm", WITH_DRAM)
    cells = [{"scenario": n, "load": "saturated"} for n in names]
    policies = [entry.model_dump() for entry in make("ttl", "plas").suite.policies]
    suite = toy_suite(cells=cells, policies=policies)
    found = []
    for cell, first in zip(suite.cells, best, strict=True):
        jct_s = dict.fromkeys(("affinity", "ttl", "plas"), JCT_S["affinity"])
        jct_s |= {"random": JCT_S["random"], first: JCT_S["ttl"]}
        one = suite.model_copy(update={"cells": [cell]})
        found += outcomes(one, jct_s, scenario=cell.scenario)
    assert end in said(Study(suite, found))


@pytest.mark.parametrize(
    ("spread", "end"),
    [(0.001, f"luck in 1 of 1 cell (`{HBM_ONLY}`)."),
     (0.02, f"luck in 0 of 1 cell; elsewhere it takes 7.3% (`{HBM_ONLY}`).")],
)  # fmt: skip
def test_what_luck_hides_is_said(spread: float, end: str):
    study = make("ttl")
    assert "told from luck" not in said(study)
    study.cells[0].luck = {"affinity": spread}
    assert f"A difference of 3% between two policies can be told from {end}" in said(study)


def test_no_oracle_means_no_section_of_headroom():
    study = make("ttl")
    assert "No oracle ran" in said(study)
    assert "## Headroom" not in benchmark_page(study, "benchmark")
    assert "## Headroom" in benchmark_page(make("ttl", "belady"), "benchmark")


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("scenario", [HBM_ONLY, WITH_DRAM])
@pytest.mark.parametrize("labels", [(), ("ttl",), ("write-through",), ("least-loaded", "belady")])
def test_every_report_is_written_and_its_tables_are_whole(labels, scenario, seeds, tmp_path):
    study = make(*labels, scenario=scenario, seeds=seeds)
    page = write_report(study, tmp_path).read_text(encoding="utf-8")
    for text in (page, cells_page(study)):
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({row.count("|") for row in block.splitlines()}) == 1, block
    assert not re.search(r"\b(nan|inf)\b", page)
    for picture in re.findall(r"!\[\w+\]\((\S+)\)", page):
        assert (tmp_path / picture).is_file()
    summary(study)


def test_parallel_cells_without_a_tier_policy_are_reported():
    suite = make().suite
    pair = [
        {"scenario": name, "load": "saturated", "parallel": "pair"}
        for name in (HBM_ONLY, "coding-8b-hbm")
    ]
    both = toy_suite(cells=pair, policies=[entry.model_dump() for entry in suite.policies])
    found = []
    for cell in both.cells:
        one = both.model_copy(update={"cells": [cell]})
        jct_s = {label: JCT_S[label] for label in ("random", "affinity")}
        found += outcomes(one, jct_s, scenario=cell.scenario)
    assert "The same work on other tiers: pair" in benchmark_page(Study(both, found), "benchmark")


def test_tuning_is_told_of_policies_that_ran(monkeypatch):
    assert "## Tuning" not in benchmark_page(make(), "benchmark")
    entry = {"default": "ttl", "policy": "ttl", "tried": 6, "change": -0.0123}
    record = {
        "version": "0.0.9", "code": ["abc"], "cells": ["toy"], "seeds": [9000],
        "tuned": {"ttl": entry},
    }  # fmt: skip
    monkeypatch.setattr(tuning_page, "tuning_record", lambda: record)
    page = benchmark_page(make("ttl"), "benchmark")
    assert "`agentserve bench --tune` (agentserve-gym 0.0.9, simulation `abc`, another" in page
    assert "in `toy` on seed 9000, which this run does not use, and" in page
    assert "| `ttl` | `ttl` | 6 | -1.2% |" in page
    del record["code"]  # a file of an older version
    assert "(agentserve-gym 0.0.9) tried" in benchmark_page(make("ttl"), "benchmark")


def test_invalid_answers_are_told_where_there_are_some():
    study = make("ttl")
    assert "Answers that were not possible" not in benchmark_page(study, "benchmark")
    (cell,) = study.cells
    first, *others = cell.outcomes["ttl"]
    cell.outcomes["ttl"] = [replace(first, invalid_answers=1234), *others]
    page = benchmark_page(study, "benchmark")
    assert "| `ttl` | 1,234 |" in page
    assert "| `affinity` | 0 |" not in page
