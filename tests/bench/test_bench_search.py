"""The search over combinations of parts: what is crossed, who survives, what suites take in."""

import tomllib
from dataclasses import replace

import pytest
from bench_helpers import PLAIN, toy_suite
from typer.testing import CliRunner

from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench import load_suite, plan_jobs
from agentserve_gym.bench import suite as suites
from agentserve_gym.bench.search import (
    Rung,
    combinations,
    found_document,
    read_rungs,
    rung_suite,
    searched_cells,
    survivors,
)
from agentserve_gym.bench.suite import search_space, tuning_grids
from agentserve_gym.cli import app
from agentserve_gym.sim import load_scenario

SPACE = {
    "first_seed": 9500,
    "routing": ["affinity", "lmetric"],
    "residency": [["ttl"], ["lru", "infercept_no_swap"], ["ttl"]],
    "admission": [""],
    "order": ["", "program_fcfs"],
    "rungs": [{"seeds": 1, "keep": 2}, {"seeds": 2, "keep": 1}],
}


def busy_suite(**changes):
    """``toy`` as a cell to be searched; it has DRAM."""
    cells = [{"scenario": "toy", "load": "saturated"}]
    return toy_suite(cells=cells, **changes)


def shipped(monkeypatch, file, content):
    """Let a file of the package say something else."""
    read = suites._data
    monkeypatch.setattr(suites, "_data", lambda name: content if name == file else read(name))


def test_the_shipped_space_crosses_parts_on_seeds_of_its_own():
    space = search_space()
    standard = searched_cells(load_suite("standard"))
    assert {cell.load for cell in standard.cells} <= {"near saturation", "saturated"}
    crossed = combinations(space, standard)
    for scenario, policies in crossed.items():
        tiers = len(suites.find_scenario(scenario).cluster.tier_names)
        assert any("write_through" in policy for policy in policies) == (tiers > 0)
        assert any("kvbm" in policy for policy in policies) == (tiers > 1)
        assert len({parse_policy(policy).name for policy in policies}) == len(policies) >= 100
    rungs = read_rungs(space)
    last = rung_suite(space, standard, crossed, rungs[-1])
    grids = tuning_grids()
    tuned = set(range(grids["first_seed"], grids["first_seed"] + grids["seeds"]))
    assert not set(last.seed_numbers()) & tuned


def test_combinations_that_are_the_same_policy_run_once():
    """InferCept's own order is that of program arrival."""
    assert combinations(SPACE, busy_suite()) == {
        "toy": [
            "affinity",
            "affinity+program_fcfs",
            "affinity+infercept_no_swap",
            "lmetric",
            "lmetric+program_fcfs",
            "lmetric+infercept_no_swap",
        ]
    }


def test_a_rung_runs_its_candidates_and_stock_and_keeps_the_best():
    suite = busy_suite()
    candidates = {"toy": ["lmetric", "affinity+infercept_no_swap", "affinity+program_fcfs"]}
    rung = rung_suite(SPACE, suite, candidates, Rung(seeds=2, keep=2))
    jobs = plan_jobs(rung)
    assert {job.policy for job in jobs} == {"affinity", *candidates["toy"]}
    assert sorted({job.seed for job in jobs}) == [9500, 9501]
    jct_s = dict(zip(candidates["toy"], ((10, 40), (12, 30), (25, 25)), strict=True))
    runs = [
        replace(PLAIN, label=label, seed=9500 + number, jct_mean_s=float(value), code="abc")
        for label, values in {**jct_s, "affinity": (40, 40)}.items()
        for number, value in enumerate(values)
    ]
    kept = survivors(rung, candidates, 2, runs)
    assert kept == {"toy": ["affinity+infercept_no_swap", "lmetric"]}  # 19 and 20 s
    document = tomllib.loads(found_document(rung, "affinity", candidates, kept, runs))
    assert document["found"]["toy"] == {
        "policy": "affinity+infercept_no_swap", "tried": 3, "change": -0.5257,
    }  # fmt: skip
    origin = {name: document[name] for name in ("code", "stock", "seeds")}
    assert origin == {"code": ["abc"], "stock": "affinity", "seeds": [9500, 9501]}
    with pytest.raises(ValueError, match="has not run"):
        survivors(rung, candidates, 2, runs[1:])


def test_a_search_needs_busy_cells_other_seeds_and_narrowing_rungs():
    with pytest.raises(ValueError, match="all cells are light"):
        searched_cells(toy_suite())
    with pytest.raises(ValueError, match="also seeds of suite 'test'"):
        rung_suite(SPACE, busy_suite(first_seed=9499), {"toy": []}, Rung(1, 1))
    with pytest.raises(ValueError, match="more seeds, fewer kept"):
        read_rungs({"rungs": [{"seeds": 2, "keep": 3}, {"seeds": 2, "keep": 1}]})


def test_suites_take_in_what_was_found(monkeypatch, tmp_path):
    content = (
        'name = "mine"\ndescription = "d"\nseeds = 1\nfirst_seed = 0\n'
        'policies = ["random", "affinity", "found"]\n'
        '[[cells]]\nscenario = "toy"\nload = "light"\n'
    )
    file = tmp_path / "mine.toml"
    file.write_text(content, encoding="utf-8")
    # The second is the first, written otherwise; the third is curated, and has a label.
    policies = ("lmetric+concur", "lmetric+lru+concur", "affinity+write_through")
    found = {str(number): {"policy": policy} for number, policy in enumerate(policies)}
    shipped(monkeypatch, "found.toml", {"found": found})
    entries = load_suite(str(file)).policies
    labels = ["random", "affinity", "lmetric+concur", "write-through"]
    assert [entry.label for entry in entries] == labels
    assert [entry.lever for entry in entries[2:]] == ["mixed", "tiers"]
    assert list(suites.found_labels().values()) == [labels[2], labels[2], labels[3]]


def test_the_command_searches_resumes_and_writes_what_it_found(monkeypatch, tmp_path):
    shipped(monkeypatch, "search.toml", SPACE)
    file = tmp_path / "cell.json"  # it names itself otherwise
    file.write_text(load_scenario("toy").model_dump_json(exclude_none=True), encoding="utf-8")
    arguments = ["bench", "--search", "--suite", "quick", "--scenario", str(file), "--jobs", "1"]
    arguments += ["--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    rows = (tmp_path / "results.csv").read_text().splitlines()
    # Six combinations, stock among them, on one seed; then two, and stock, on the second.
    assert len(rows) - 1 in (6 + 2, 6 + 3)
    document = tomllib.loads((tmp_path / "found.toml").read_text())
    assert document["found"][str(file)]["tried"] == 6
    parse_policy(document["found"][str(file)]["policy"])
    again = CliRunner().invoke(app, [*arguments, "--resume"])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "results.csv").read_text().splitlines() == rows
    both = CliRunner().invoke(app, [*arguments, "--tune"])
    assert both.exit_code == 2
