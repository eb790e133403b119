"""From outcomes to rankings, on numbers made by hand."""

from dataclasses import replace

import pytest
from bench_helpers import outcomes, said, toy_suite

from agentserve_gym.bench import Study
from agentserve_gym.bench.directions import FAILS, HOLDS, SIGN, UNDECIDED, Direction
from agentserve_gym.bench.page import benchmark_page
from agentserve_gym.report.statistics import Estimate

CLEAR = {
    "random": [20.0, 22.0, 21.0],
    "affinity": [10.0, 11.0, 10.5],
    "ttl": [8.0, 8.8, 8.5],
    "belady": [7.0, 7.7, 7.4],
}


def test_a_clear_winner_is_ranked_first_and_alone():
    study = Study(toy_suite(), outcomes(toy_suite(), CLEAR))
    cell = study.cells[0]
    assert cell.ranked == ["ttl", "affinity", "random"]
    assert cell.tied_with_best() == ["ttl"]
    assert [row.label for row in study.overall] == ["ttl", "affinity", "random"]
    assert study.overall[0].beats_stock.value == 1.0
    assert study.overall[2].score.value == pytest.approx(0.0)


def test_scores_are_of_the_way_from_random_to_the_bound():
    study = Study(toy_suite(), outcomes(toy_suite(), CLEAR))
    # Seed 0: (20 - 8) / (20 - 5).
    assert study.cells[0].scores("ttl")[0] == pytest.approx(0.8)


def test_oracles_are_never_ranked_and_give_headroom():
    study = Study(toy_suite(), outcomes(toy_suite(), CLEAR))
    assert "belady" not in study.cells[0].ranked
    label, estimate = study.headroom(study.cells[0])
    assert label == "belady"
    assert estimate.high < 1.0


def test_a_cell_where_nothing_separates_is_a_control():
    """Random may be far off: it is the zero of the score, not a contender."""
    flat = {**CLEAR, "affinity": [10.0, 10.0, 10.0], "ttl": [10.09, 10.05, 10.05]}
    study = Study(toy_suite(), outcomes(toy_suite(), flat))
    assert study.cells[0].is_control
    assert study.overall == []
    page = benchmark_page(study, "benchmark")
    assert "no policy is ranked" in page
    assert "Which lever" not in page
    apart = {**flat, "ttl": [10.2, 10.2, 10.2]}
    assert not Study(toy_suite(), outcomes(toy_suite(), apart)).cells[0].is_control


def test_only_seeds_that_every_policy_ran_count():
    unfinished = {**CLEAR, "ttl": CLEAR["ttl"][:2]}
    study = Study(toy_suite(), outcomes(toy_suite(), unfinished))
    assert study.cells[0].seeds == [0, 1]
    assert "this run has fewer" in benchmark_page(study, "benchmark")


def test_outcomes_of_another_scenario_or_policy_are_left_out():
    stale = [replace(outcome, digest="other") for outcome in outcomes(toy_suite(), CLEAR)]
    with pytest.raises(ValueError, match="finish the run"):
        Study(toy_suite(), stale)


def test_a_part_is_silent_if_no_seed_fired_it():
    runs = outcomes(toy_suite(), CLEAR)
    marked = [replace(run, silent="ttl") if run.label == "ttl" else run for run in runs]
    study = Study(toy_suite(), marked)
    assert study.cells[0].silent("ttl") == ["ttl"]
    assert "never fired" in benchmark_page(study, "benchmark")
    once = [replace(run, silent="") if run.seed == 1 else run for run in marked]
    assert Study(toy_suite(), once).cells[0].silent("ttl") == []


def test_sentences_claim_no_more_than_intervals_carry():
    noisy = {**CLEAR, "ttl": [8.0, 13.0, 9.0]}
    text = said(Study(toy_suite(), outcomes(toy_suite(), noisy)))
    assert "**Residency in HBM** alone beats the stock policy in 0 of 1 cell " in text
    text = said(Study(toy_suite(), outcomes(toy_suite(), CLEAR)))
    assert "**Residency in HBM** alone beats the stock policy in 1 of 1 cell " in text


def test_a_slow_oracle_is_compared_on_the_seeds_it_has():
    suite = toy_suite()
    entries = [e.model_dump() for e in suite.policies]
    entries[-1] |= {"seeds": 2}
    slow = toy_suite(policies=entries)
    study = Study(slow, outcomes(slow, {**CLEAR, "belady": [7.0, 7.7]}))
    assert study.cells[0].seeds == [0, 1, 2]
    assert study.headroom(study.cells[0]) is None
    assert study.cells[0].against("belady", "ttl").value < 1.0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.7, 0.8, HOLDS),
        (0.85, 0.95, SIGN),
        (0.2, 0.5, SIGN),
        (0.95, 1.1, FAILS),
        (0.85, 1.1, UNDECIDED),
    ],
)
def test_a_direction_needs_its_whole_interval(low: float, high: float, verdict: str):
    found = Direction("C0", "", (0.65, 0.9), "", Estimate((low + high) / 2, low, high))
    assert found.verdict == verdict


def test_outcomes_of_several_versions_are_said():
    runs = outcomes(toy_suite(), CLEAR)
    mixed = [replace(run, code="b" if run.seed == 2 else "a") for run in runs]
    page = benchmark_page(Study(toy_suite(), mixed), "benchmark")
    assert "2 versions of the simulation" in page
    assert "versions of" not in benchmark_page(Study(toy_suite(), runs), "benchmark")
