"""What choosing a policy for each cell is worth: found by a search, or the best curated."""

from __future__ import annotations

import pytest
from bench_helpers import outcomes, said, toy_suite

from agentserve_gym.bench import Study
from agentserve_gym.bench import suite as suites
from agentserve_gym.bench.choice import best_single, choice_sentences, search_section, searched
from agentserve_gym.bench.page import benchmark_page

FOUND = "lmetric+lru+thunderagent+plas"
LEARNED = "learned"
FIRST, SECOND = "toy", "functions-8b-4"
JCT_S = {
    FIRST: {
        "random": [20.0, 22.0, 21.0, 24.0],
        "affinity": [10.0, 11.0, 10.5, 12.0],
        "ttl": [9.0, 9.9, 9.4, 10.8],
        "lmetric": [7.0, 7.7, 7.3, 8.4],
        FOUND: [6.3, 6.9, 6.6, 7.5],
        LEARNED: [5.6, 6.1, 5.8, 6.8],
    },
    SECOND: {
        "random": [40.0, 44.0, 42.0, 48.0],
        "affinity": [20.0, 22.0, 21.0, 24.0],
        "ttl": [10.0, 11.1, 10.4, 12.0],
        "lmetric": [15.0, 16.4, 15.8, 18.1],
        FOUND: [18.0, 19.9, 18.8, 21.5],
        LEARNED: [11.0, 12.2, 11.4, 13.3],
    },
}


@pytest.fixture
def record(monkeypatch) -> dict:
    """A ``found.toml`` that names a combination for the first cell."""
    content = {
        "version": "0.0.9",
        "code": ["abc"],
        "stock": "affinity",
        "seeds": [9500, 9501],
        "found": {FIRST: {"policy": FOUND, "tried": 321, "change": -0.4321}},
    }
    read = suites._data
    monkeypatch.setattr(suites, "_data", lambda n: content if n == "found.toml" else read(n))
    return content


def study(*left_out: str, seeds: int = 4, learned: bool = False) -> Study:
    """Two cells in which unlike policies are best; ``FOUND`` was found for the first."""
    levers = {"random": "stock", "affinity": "stock", "ttl": "residency", "lmetric": "routing"}
    levers[FOUND] = "mixed"
    if learned:
        levers[LEARNED] = "learned"
    labels = [label for label in levers if label not in left_out]
    policies = [{"label": name, "policy": name, "lever": levers[name]} for name in labels]
    cells = [{"scenario": name, "load": "saturated"} for name in (FIRST, SECOND)]
    both = toy_suite(seeds=seeds, policies=policies, cells=cells)
    runs = []
    for cell in both.cells:
        one = both.model_copy(update={"cells": [cell]})
        jct_s = {label: JCT_S[cell.scenario][label][:seeds] for label in labels}
        runs += outcomes(one, jct_s, scenario=cell.scenario)
    return Study(both, runs)


def test_the_best_single_policy_has_the_smallest_geometric_mean() -> None:
    """sqrt(.7 * .75), against sqrt(.9 * .5) and sqrt(.63 * .9)."""
    assert best_single(study()) == "ttl"
    assert best_single(study("ttl")) == "lmetric"
    assert best_single(study("ttl", "lmetric", FOUND)) is None


def test_learned_policies_are_compared_with_those_that_nobody_trained(record) -> None:
    with_learned = study(learned=True)
    assert best_single(with_learned) == "ttl"
    (found,) = searched(with_learned, "ttl")
    assert found.against_curated.label == "lmetric"
    lines = choice_sentences(with_learned)
    (line,) = [line for line in lines if line.startswith("Learned, `learned` changes it by")]
    assert "(a gain in 1 of 2 cells, a loss in 1); against the best curated policy" in line
    assert not any("Learned" in line for line in choice_sentences(study()))


def test_what_was_found_is_compared_with_curated_and_single(record) -> None:
    (found,) = searched(study(), "ttl")
    assert (found.cell.name, found.label, found.tried) == (FIRST, FOUND, 321)
    assert found.against_stock.value == pytest.approx(0.628, abs=0.01)
    assert found.against_single.value == pytest.approx(0.7, abs=0.01)
    assert found.against_curated.label == "lmetric"
    assert found.against_curated.estimate.value == pytest.approx(0.9, abs=0.01)
    assert found.against_curated.estimate.high < 1.0


def test_what_was_found_is_not_among_the_curated_even_where_it_is_best(record) -> None:
    record["found"][SECOND] = {"policy": "lmetric", "tried": 5, "change": -0.2}
    first, second = searched(study(), "ttl")
    assert first.against_curated.label == "lmetric"
    # A search may find a curated policy, which then loses to a better one.
    assert (second.label, second.against_curated.label) == ("lmetric", "ttl")
    assert second.against_curated.estimate.low > 1.0


def test_the_sentences_pool_cells_and_count_gains_and_losses(record) -> None:
    text = said(study())
    assert "Against the best single policy, `ttl` (smallest geometric mean of JCT over" in text
    assert (
        "(held-out choice) changes mean JCT by **-11.8 % [-11.9, -11.8]** (a gain in 1 of" in text
    )
    assert "on seeds of its own, changes mean JCT by **-30.2 % " in text
    assert "against the best curated policy of the cell, by **-10.2 % " in text
    record["found"][SECOND] = {"policy": "lmetric", "tried": 5, "change": -0.2}
    assert "(a gain in 1 of 2 cells, a loss in 1)" in said(study())


def test_the_section_has_a_row_for_each_found_and_names_the_others(record) -> None:
    page = benchmark_page(study(), "benchmark")
    assert f"| `{FIRST}` | `{FOUND}` | 321 | -43.2% | **-37." in page
    assert f"Nothing was found for, or has run in, `{SECOND}`." in page
    assert "(agentserve-gym 0.0.9, simulation `abc`, another version than that of this" in page
    assert "on seeds 9500 to 9501, which this run does not use" in page


def test_seeds_that_chose_and_measure_are_said(record) -> None:
    record["seeds"] = [3, 9500]
    section = search_section(study())
    assert "on seeds 3, 9500 (this run uses 3, too, which flatters the choice)" in section


def test_a_search_that_has_not_run_is_no_section(record) -> None:
    assert "What a search found" not in benchmark_page(study(FOUND), "benchmark")
    assert "a search found" not in said(study(FOUND))
    record.clear()
    assert "What a search found" not in benchmark_page(study(), "benchmark")


def test_one_seed_chooses_nothing(record) -> None:
    assert "best single policy" not in said(study(seeds=1))
    assert "[one seed]" in search_section(study(seeds=1))
