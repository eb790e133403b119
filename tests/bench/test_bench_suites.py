"""The shipped suites, scenarios, policies and tuning grids."""

from dataclasses import replace

import pytest
from bench_helpers import PLAIN

from agentserve_gym.baselines import list_policies, parse_policy, run_policy
from agentserve_gym.bench import load_suite, plan_jobs
from agentserve_gym.bench import suite as suites
from agentserve_gym.bench.suite import (
    curated_policies,
    find_scenario,
    tuning_grids,
    with_tuned_parts,
)
from agentserve_gym.bench.tune import read_grids, tuned_document, tuning_jobs, tuning_suite
from agentserve_gym.sim import Simulation, cell_names, load_scenario
from agentserve_gym.workloads.spec import GammaArrivals


@pytest.fixture(scope="module")
def standard():
    return load_suite("standard")


def test_standard_spans_what_it_promises(standard):
    names = {cell.scenario for cell in standard.cells} | set(standard.skipped)
    scenarios = [find_scenario(name) for name in names]
    assert len(names) >= 16
    assert {cell.load for cell in standard.cells} == {"light", "near saturation", "saturated"}
    assert standard.seeds >= 8
    instances = {s.cluster.num_instances for s in scenarios}
    assert instances >= {1, 2, 4, 8, 16}
    assert {s.cluster.model for s in scenarios} == {"llama-3.1-8b", "llama-3.1-70b"}
    assert any(isinstance(s.arrivals, GammaArrivals) and s.arrivals.cv == 3.5 for s in scenarios)
    assert {s.arrivals.kind for s in scenarios} >= {"poisson", "closed_loop", "staged"}
    tiers = {tier for s in scenarios for tier in s.cluster.tier_names}
    assert tiers == {"dram", "cxl", "nvme"}
    assert sum(not s.cluster.tier_names for s in scenarios) >= 4
    assert any(s.workload.kind == "trace" for s in scenarios)
    assert any("swe_bench" in s.workload.mix for s in scenarios if s.workload.kind == "generated")


def test_programs_are_whole():
    """A cut at a number of turns keeps contexts short, and HBM from filling."""
    for name in cell_names():
        assert find_scenario(name).workload.max_turns is None, name


def test_a_cell_is_the_same_in_every_suite(standard):
    cells = {cell.scenario: cell for cell in standard.cells}
    for cell in load_suite("quick").cells:
        assert cell == cells[cell.scenario]


def test_luck_is_measured_of_policies_that_suites_have(standard):
    for suite in (standard, load_suite("quick")):
        assert suite.luck.nudges >= 3
        assert set(suite.luck.policies) <= {entry.label for entry in suite.policies}
        assert suite.stock in suite.luck.policies


@pytest.mark.parametrize("policy", sorted(set(curated_policies().values())))
def test_every_policy_sends_turns_to_instances_of_their_model(policy: str):
    content = load_scenario("mixed-models").model_dump()
    content["workload"]["programs"] = 2 if "min_completion" in policy else 24
    report = run_policy(Simulation(load_scenario(content), 0), parse_policy(policy))
    assert report["unfinished_programs"] == 0
    assert report["invalid_answers"] == 0


def test_every_scenario_is_in_a_suite(standard):
    def cells(suite):
        return {cell.scenario for cell in suite.cells} | set(suite.skipped)

    unseen, training = load_suite("unseen"), load_suite("training")
    assert cells(standard) | cells(unseen) | cells(training) == set(cell_names())
    light = {cell.scenario for cell in standard.cells if cell.load == "light"}
    assert cells(standard) - light < cells(training)
    assert not (cells(standard) | cells(training)) & cells(unseen)
    assert not set(standard.seed_numbers()) & set(unseen.seed_numbers())


def test_parallel_cells_differ_in_hardware_alone(standard):
    groups: dict[str, list] = {}
    for cell in standard.cells:
        if cell.parallel is not None:
            groups.setdefault(cell.parallel, []).append(cell)
    for cells in groups.values():
        scenarios = [find_scenario(cell.scenario) for cell in cells]
        assert len({(s.workload.model_dump_json(), str(s.arrivals)) for s in scenarios}) == 1


def test_oracles_are_marked(standard):
    for entry in standard.policies:
        assert parse_policy(entry.policy).is_oracle == (entry.lever == "oracle")


def test_curated_policies_name_most_parts(standard):
    """Every routing, residency and admission rule is there, but for strawmen and special cases."""
    left_out = {
        "power_of_two", "evict", "searched", "pin_offload", "saga_lru", "dram_cxl", "none",
        "router_queue", "autellix", "saga", "mori", "mori_gate", "owner", "lru", "min_completion",
        "llmd_load", "llmd_default", "llmd_precise", "work_stealing", "short_queue",
            "learned_routing", "learned_residency", "learned_admission",
    }  # fmt: skip
    named = "+".join(entry.policy for entry in standard.policies)
    for part in list_policies():
        if part.family in ("routing", "residency", "admission") and part.name not in left_out:
            assert part.name in named, part.name


def test_jobs_go_seed_by_seed(standard):
    jobs = plan_jobs(standard)
    seeds = [job.seed for job in jobs]
    assert seeds == sorted(seeds)
    assert len({job.key for job in jobs}) == len(jobs)


def test_a_missing_trace_is_said(tmp_path):
    suite = load_suite("standard", tmp_path)
    assert "trace-coding-8b-4" in suite.skipped
    assert "trace-coding-8b-4" not in {cell.scenario for cell in suite.cells}
    with pytest.raises(ValueError, match="cannot run here"):
        suite.only(["trace-coding-8b-4"], [], None)


def test_a_part_of_a_suite_keeps_reference_and_stock(standard):
    part = standard.only(["functions-8b-4"], ["sglang+continuum"], 2)
    assert [entry.label for entry in part.policies] == ["random", "affinity", "sglang+continuum"]
    assert [cell.scenario for cell in part.cells] == ["functions-8b-4"]
    assert list(part.seed_numbers()) == [2000, 2001]


def test_names_are_checked(standard):
    with pytest.raises(ValueError, match="did you mean 'quick'"):
        load_suite("quik")
    with pytest.raises(ValueError, match="unknown scenario"):
        standard.only(["functions"], [], None)
    with pytest.raises(ValueError, match="unknown policy"):
        standard.only([], ["sglangg"], None)


def test_curated_policies_outside_a_suite_can_be_added(standard):
    added = standard.only([], ["min-completion"], None).entry("min-completion")
    assert (added.policy, added.lever) == ("min_completion", "oracle")


# --- tuning --------------------------------------------------------------------------------------


def test_tuned_parts_replace_parts_with_defaults_alone():
    tuned = {"sglang": "sglang(match=0.2)"}
    assert with_tuned_parts("sglang+write_through", tuned) == "sglang(match=0.2)+write_through"
    assert with_tuned_parts("sglang(match=0.4)", tuned) == "sglang(match=0.4)"


def test_parts_tuned_in_a_system_are_used_in_other_compositions(monkeypatch):
    record = {"tuned": {
        "a": {"default": "mori_system", "policy": "owner+mori(hbm_share=1.0)+mori_gate"},
        "b": {"default": "mori", "policy": "mori(hbm_share=0.8)"},
    }}  # fmt: skip
    monkeypatch.setattr(suites, "tuning_record", lambda: record)
    tuned = suites.tuned_parts()
    assert with_tuned_parts("mori_system", tuned) == "owner+mori(hbm_share=1.0)+mori_gate"
    assert with_tuned_parts("lmetric+mori", tuned) == "lmetric+mori(hbm_share=0.8)"
    del record["tuned"]["b"]
    assert with_tuned_parts("lmetric+mori", suites.tuned_parts()) == "lmetric+mori(hbm_share=1.0)"


def test_tuning_uses_seeds_of_its_own(standard):
    content = tuning_grids()
    grids = read_grids(content)
    suite = tuning_suite(content, grids)
    assert not set(suite.seed_numbers()) & set(standard.seed_numbers())
    with pytest.raises(ValueError, match="also seeds of the standard suite"):
        tuning_suite({**content, "first_seed": standard.first_seed}, grids)


@pytest.mark.parametrize("grid", read_grids(tuning_grids()), ids=lambda grid: grid.label)
def test_the_default_is_among_the_candidates(grid):
    assert parse_policy(grid.candidates[0]).name == parse_policy(grid.default).name


def test_the_smallest_geometric_mean_wins():
    content = {
        "cells": ["functions-8b-4"], "first_seed": 9000, "seeds": 2,
        "grids": [{"label": "ttl", "policy": "ttl(seconds={seconds})", "seconds": [2.0, 5.0]}],
    }  # fmt: skip
    grids = read_grids(content)
    suite = tuning_suite(content, grids)
    jct_s = {("ttl(seconds=2.0)", 9000): 10, ("ttl(seconds=2.0)", 9001): 40,
             ("ttl(seconds=5.0)", 9000): 12, ("ttl(seconds=5.0)", 9001): 30}  # fmt: skip
    runs = [
        replace(PLAIN, scenario="functions-8b-4", label=label, seed=seed, jct_mean_s=float(value))
        for (label, seed), value in jct_s.items()
    ]
    document = tuned_document(suite, grids, runs)
    assert 'policy = "ttl(seconds=5.0)"' in document
    assert 'default = "ttl"' in document
    assert "change = -0.0513" in document  # sqrt(12 * 30) / sqrt(10 * 40) - 1
    later = [replace(run, code="later") for run in runs[:2]]
    assert 'code = ["", "later"]' in tuned_document(suite, grids, [*runs, *later])
    with pytest.raises(ValueError, match="has not run"):
        tuned_document(suite, grids, runs[:3])
    assert len(tuning_jobs(suite, grids)) == 4
