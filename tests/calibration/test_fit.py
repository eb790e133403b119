"""Fitting: the solver, curves, and the compact form from tables with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from agentserve_gym.calibration.fit import ProfileCase, calibrate_fit, fit_compact, profile_case
from agentserve_gym.calibration.least_squares import fit_nonnegative
from agentserve_gym.hardware import latency_model, read_compact_file, write_compact_file
from agentserve_gym.hardware.catalogue import DATA
from tests.hardware.hardware_helpers import (
    MOE,
    decode,
    prefill,
    profile_folder,
    write_csv,
    write_profile,
)

CASE = ProfileCase("rtx-4090", "llama-3.1-8b", 1)


def test_the_solver_finds_coefficients_and_keeps_them_from_going_negative():
    x = np.linspace(0.1, 3, 60)
    true = 2.0 + 0.5 * x

    def residuals(c):
        return c[0] + c[1] * x + c[2] * x**2 - true

    found = fit_nonnegative(residuals, np.array([1.0, 1.0, 1.0]))
    assert found == pytest.approx([2.0, 0.5, 0.0], abs=1e-4)

    def falling(c):
        return c[0] - c[1] * x - true  # would need c[1] = -0.5

    assert fit_nonnegative(falling, np.array([1.0, 1.0]))[1] == 0.0


def test_the_solver_is_not_led_by_outliers():
    x = np.linspace(1, 2, 50)
    y = 3.0 * x
    y[7] *= 10
    assert fit_nonnegative(lambda c: (c[0] * x - y) / y, np.array([1.0]))[0] == pytest.approx(
        3.0, rel=0.02
    )


def test_tables_with_a_known_formula_are_fitted_closely(tmp_path):
    folder = write_profile(tmp_path / "profile")
    fit = fit_compact(folder, CASE)
    assert fit.errors["linear layers"].mean_percent < 0.5
    assert fit.errors["decode steps"].mean_percent < 1e-6
    assert fit.errors["mixed steps"].mean_percent < 0.2
    path, again = tmp_path / "fitted.toml", calibrate_fit(folder, CASE)
    assert again.mixed_attention == fit.coefficients.mixed_attention
    write_compact_file(path, again)
    compact = latency_model("rtx-4090", "llama-3.1-8b", source=str(path))
    tables = latency_model("rtx-4090", "llama-3.1-8b", source=str(folder))
    for step in (decode(3, 3 * 200), decode(12, 12 * 900), prefill(100, 300, 5, 250)):
        assert compact.step_s(step) == pytest.approx(tables.step_s(step), rel=0.005)


def test_a_folder_says_what_it_is_of_by_its_name(tmp_path):
    folder = tmp_path / "rtx-4090" / "llama-3.1-8b" / "tp2"
    assert profile_case(folder) == ProfileCase("rtx-4090", "llama-3.1-8b", 2)
    with pytest.raises(ValueError, match="is not named <accelerator>/<model>/tp<k>"):
        profile_case(tmp_path / "results")
    write_profile(tmp_path / "rtx-5000" / "llama-3.1-8b" / "tp1")
    with pytest.raises(ValueError, match="unknown accelerator 'rtx-5000'"):
        fit_compact(tmp_path / "rtx-5000" / "llama-3.1-8b" / "tp1")


def test_experts_need_their_table_and_are_kept_as_one(tmp_path):
    folder = write_profile(tmp_path / "rtx-pro-6000" / MOE / "tp1")
    with pytest.raises(ValueError, match=r"no moe\.csv"):
        fit_compact(folder)
    rows = [(t, a, 10.0 + t + 5 * a) for t in (1, 4, 16, 64, 256) for a in (8, 32, 128)]
    write_csv(folder / "moe.csv", ["tokens", "activated_experts", "time_us"], rows)
    fit = fit_compact(folder)
    assert len(fit.coefficients.experts.points) == 15
    assert fit.errors["experts"].mean_percent < 1e-6


@pytest.mark.parametrize("name", ["rtx-4090/llama-3.1-8b/tp1", "rtx-pro-6000/qwen3-32b/tp2"])
def test_held_out_entries_of_measured_tables(name):
    """The shipped errors are reproduced: decode steps under 1 %, mixed steps under 2 %."""
    fit = fit_compact(profile_folder(name))
    assert fit.errors["decode steps"].mean_percent < 1.0
    assert fit.errors["mixed steps"].mean_percent < 2.0
    assert abs(fit.errors["mixed steps"].bias_percent) < 0.5
    shipped = read_compact_file(DATA / "timing" / f"{name}.toml")
    assert shipped.dense == fit.coefficients.dense
    assert shipped.decode_attention == fit.coefficients.decode_attention
    assert shipped.mixed_attention == fit.coefficients.mixed_attention
