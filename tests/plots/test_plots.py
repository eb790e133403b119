"""Pictures: time averages are right, and every kind of run can be drawn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.baselines import parse_policy
from agentserve_gym.plots import RunRecord, draw_comparison
from agentserve_gym.plots.record import binned_mean, programs_over_time, share_of_tier
from agentserve_gym.plots.style import duration, signed_share
from agentserve_gym.sim import ProgramStatus, load_scenario, run
from agentserve_gym.sim.recording import RecordedSimulation


def make_record(scenario: str, policy: str) -> RunRecord:
    simulation = RecordedSimulation(load_scenario(scenario), 0)
    report = run(simulation, parse_policy(policy))
    return RunRecord(policy, report, tuple(simulation.metrics.jct_s), simulation.history)


def test_binned_mean_of_a_step():
    # 0 until 1 s, 4 until 2 s, then 2 for ever.
    mean = binned_mean([1.0, 2.0], [4.0, 2.0], np.array([0.0, 1.0, 1.5, 3.0, 5.0]))
    np.testing.assert_allclose(mean, [0.0, 4.0, (4.0 * 0.5 + 2.0) / 1.5, 2.0])


@given(
    steps=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 1.0)), min_size=1, max_size=20),
    bins=st.integers(1, 30),
)
def test_binned_mean_keeps_the_integral(steps, bins):
    times = np.cumsum([gap for gap, _ in steps])
    values = np.array([value for _, value in steps])
    end = times[-1] + 1.0
    edges = np.linspace(0.0, end, bins + 1)
    exact = float(np.sum(np.diff(np.append(times, end)) * values))
    mean = binned_mean(times.tolist(), values.tolist(), edges)
    assert float(np.sum(mean * np.diff(edges))) == pytest.approx(exact, abs=1e-9)
    assert np.all(mean >= -1e-9)
    assert np.all(mean <= values.max() + 1e-9)


def test_shares_of_tiers_and_programs_over_time_add_up():
    record = make_record("cxl-shared", "affinity+dram_cxl")
    history = record.history
    edges = np.linspace(0.0, history.end_s, 50)
    for tier in record.report["hit_rate"]:
        used = share_of_tier(history, tier, lambda pool: pool.used_blocks, edges)
        held = share_of_tier(history, tier, lambda pool: pool.held_blocks, edges)
        assert np.all((held >= -1e-9) & (held <= used + 1e-9) & (used <= 1 + 1e-9))
        assert used.max() > 0
    times, counts = programs_over_time(history)
    assert np.all(np.diff(times) >= 0)
    assert np.all(counts >= 0)
    assert counts[-1] == 0
    assert 0 < counts.max() <= len(history.programs)
    roots = record.report["jct_s"]["mean"] * record.report["programs"]
    assert float(np.sum(np.diff(times) * counts[:-1])) >= roots
    for status in (ProgramStatus.LOADING, ProgramStatus.RUNNING, ProgramStatus.TOOL_GAP):
        assert programs_over_time(history, (status,))[1].max() > 0


@pytest.mark.parametrize(
    ("scenario", "policies"),
    [("toy", ["lru"]), ("cxl-shared", ["lru", "dram_cxl", "ttl"])],
)
def test_any_number_of_runs_can_be_drawn(scenario, policies):
    pytest.importorskip("matplotlib")
    records = [make_record(scenario, policy) for policy in policies]
    picture = draw_comparison(records, "a title", "a subtitle")
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_a_picture_needs_a_history():
    with pytest.raises(ValueError, match="runs is empty"):
        draw_comparison([], "nothing")
    record = make_record("toy", "lru")
    bare = RunRecord("lru", record.report, record.jct_s)
    with pytest.raises(ValueError, match="'lru' has no history"):
        draw_comparison([bare], "no history")


def test_importing_the_package_leaves_matplotlib_alone():
    check = (
        "import sys, agentserve_gym.plots, agentserve_gym.cli; print('matplotlib' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, check=True, text=True
    ).stdout
    assert output.strip() == "False"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25 s"), (90.0, "90 s"), (180.0, "3 min"), (9000.0, "2.5 h")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0"), (-0.1, "-10%"), (-0.025, "-2.5%"), (0.075, "+7.5%")]
)
def test_shares_between_whole_percents_are_not_rounded(share, text):
    assert signed_share(share, 0) == text
