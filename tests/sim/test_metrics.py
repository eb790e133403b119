"""Metrics: percentiles, rates and their units."""

from __future__ import annotations

import json
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_helpers import Chooser, LinearLatency, drive, program, scenario, simulate

from agentserve_gym.sim import Phase, Simulation
from agentserve_gym.sim.summaries import summary

SECOND = LinearLatency(1.0)
PLAIN = {"async_scheduling": False}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=200))
def test_summaries_are_numpys(values: list[float]) -> None:
    result = summary(array("d", values))
    assert result["mean"] == pytest.approx(np.mean(values))
    for name, share in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        assert result[name] == float(np.percentile(values, share))
    assert result["max"] == max(values)


def test_a_summary_of_nothing_is_zeros() -> None:
    assert set(summary(array("d")).values()) == {0.0}


def small_run(**parts: object) -> Simulation:
    """a: 1 + 3 steps, gap 1.7, 1 step. b arrives at 0.5, joins at 1: 1 + 9 steps."""
    programs = [
        program((32, 4, 1.7), (16, 1), program_id="a"),
        program((32, 10), program_id="b", arrival_s=0.5),
    ]
    return drive(simulate(scenario(programs, engine=PLAIN, **parts), SECOND))  # type: ignore[arg-type]


def test_times_of_turns_and_programs() -> None:
    metrics = small_run().metrics
    # a: first token 1, end 4, back at 5.7, end 7. b: first token 2 (1.5 after arrival), end 11.
    assert sorted(metrics.ttft_s) == pytest.approx([1.0, 1.3, 1.5])
    assert sorted(metrics.tpot_s) == pytest.approx([1.0, 1.0])
    assert sorted(metrics.e2e_s) == pytest.approx([1.3, 4.0, 10.5])
    assert sorted(metrics.jct_s) == pytest.approx([7.0, 10.5])
    assert metrics.phase_s[Phase.QUEUE] == pytest.approx(0.5 + 0.3)
    assert sum(metrics.phase_s) == pytest.approx(17.5)


def test_the_report_counts_tokens_and_rates() -> None:
    report = small_run().report()
    assert report["makespan_s"] == pytest.approx(11.0)
    assert report["output_tokens"] == 15
    assert report["output_tokens_per_s"] == pytest.approx(15 / 11)
    assert report["prompt_tokens"] == 32 + 52 + 32
    # a computed 35 tokens: two full blocks.
    assert report["hit_tokens"] == {"hbm": 32}
    assert report["hit_rate"]["hbm"] == pytest.approx(32 / 116)
    assert report["recomputed_tokens"] == 0
    assert (report["programs"], report["turns"], report["unfinished_programs"]) == (2, 3, 0)


def test_slo_goodput_needs_both_objectives() -> None:
    loose = small_run(objective={"slo_ttft_s": 2.0, "slo_tpot_s": 2.0}).report()
    late = small_run(objective={"slo_ttft_s": 1.4, "slo_tpot_s": 2.0}).report()
    slow = small_run(objective={"slo_ttft_s": 2.0, "slo_tpot_s": 0.5}).report()
    assert loose["slo_goodput"] == 1.0
    assert late["slo_goodput"] == pytest.approx(2 / 3)
    # Only a's second turn has a single token, and so no TPOT.
    assert slow["slo_goodput"] == pytest.approx(1 / 3)


def test_slowdown_is_one_on_an_idle_cluster_and_more_under_load() -> None:
    turns = ((500, 40, 2.0), (300, 60, 1.0), (100, 20))
    alone = drive(simulate(scenario([program(*turns)], accelerator="rtx-4090")))
    # Full blocks only are reused, so not everything that an ideal would reuse.
    assert alone.metrics.slowdown[0] == pytest.approx(1.0, abs=2e-3)
    crowd = drive(simulate(scenario([program(*turns, arrival_s=0.1 * i) for i in range(8)])))
    assert min(crowd.metrics.slowdown) > 1.0
    # It is the ratio of JCT to what the program takes alone.
    assert crowd.metrics.slowdown[0] * alone.metrics.jct_s[0] == pytest.approx(
        crowd.metrics.jct_s[0] * alone.metrics.slowdown[0], rel=1e-6
    )


def test_a_report_is_plain_json() -> None:
    simulation = small_run()
    report = simulation.report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_run_without_a_finished_turn_has_a_report() -> None:
    programs = [program((32, 50), program_id="a")]
    simulation = drive(simulate(scenario(programs, engine=PLAIN, horizon_s=2.5), SECOND))
    report = simulation.report()
    assert report["turns"] == report["programs"] == 0
    assert report["jct_s"]["p99"] == 0.0
    assert report["truncated"]
    # It arrived at 0, and counts with its time up to the horizon.
    assert report["mean_jct_s"] == {"finished": 0.0, "all": 2.5}


def test_means_over_all_programs_take_in_those_that_the_horizon_cuts_off() -> None:
    programs = [
        program((32, 2), program_id="done"),
        program((32, 50), program_id="cut", arrival_s=1.0),
        program((32, 50), program_id="to come", arrival_s=9.0),
    ]
    simulation = drive(simulate(scenario(programs, engine=PLAIN, horizon_s=4.0), SECOND))
    report = simulation.report()
    (done_s,) = simulation.metrics.jct_s
    assert report["mean_jct_s"]["finished"] == report["jct_s"]["mean"] == done_s
    assert report["mean_jct_s"]["all"] == pytest.approx((done_s + 3.0 + 0.0) / 3)
    assert report["mean_slowdown"]["finished"] == report["slowdown"]["mean"]
    plain_s, weighted = simulation.unfinished_time()
    assert report["mean_jct_s"]["all"] == pytest.approx(plain_s / 3, rel=1e-12)
    assert report["mean_slowdown"]["all"] == pytest.approx(weighted / 3, rel=1e-12)


def test_without_a_cut_both_means_are_the_same() -> None:
    report = small_run().report()
    for figure in ("mean_jct_s", "mean_slowdown"):
        assert report[figure]["finished"] == report[figure]["all"] > 0.0


def test_records_match_the_packed_figures() -> None:
    simulation = simulate(
        scenario(
            [program((300, 9, 1.0), (40, 7), arrival_s=0.2 * i) for i in range(6)], kv_blocks=60
        )
    )
    drive(simulation, Chooser(4, 1))
    records = simulation.metrics.records
    assert records is not None
    assert [r.first_token_s - r.ready_s for r in records] == pytest.approx(
        list(simulation.metrics.ttft_s)
    )
    assert [r.end_s - r.ready_s for r in records] == pytest.approx(list(simulation.metrics.e2e_s))
    assert sum(r.preemptions for r in records) == simulation.report()["preemptions"]
