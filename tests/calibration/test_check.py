"""Whole steps that were measured, against what prices steps."""

from __future__ import annotations

import shutil

import pytest

from agentserve_gym.calibration.check import TABLES, block_copies, check_steps, mean_off
from agentserve_gym.hardware import (
    ProfileLatency,
    latency_model,
    latency_provenance,
    link,
    list_measured_cases,
    model,
)
from agentserve_gym.hardware.sources import MEASURED
from tests.hardware.hardware_helpers import decode


@pytest.mark.parametrize("case", list_measured_cases(), ids=str)
def test_the_packages_own_tables_add_up_to_their_whole_steps(case):
    steps = check_steps(MEASURED / str(case))
    assert {step.kind for step in steps} == {"decode", "prefill", "mixed"}
    assert all(step.all_layers == model(case.model).layers for step in steps)
    for step in steps:
        assert set(step.priced_s) == {TABLES, "compact", "roofline"}
        assert abs(step.off(TABLES)) < 0.15
    for kind in ("decode", "prefill", "mixed"):
        assert abs(mean_off(steps, kind, TABLES)) < 0.07
    assert {step.kind for step in steps if step.beside_copies is not None} == {"decode"}
    decodes = [step.beside_copies for step in steps if step.beside_copies is not None]
    assert 1.0 < sum(decodes) / len(decodes) < 1.1


def test_the_catalogues_dense_decodes_are_those_of_a_gpu():
    dense = [case for case in list_measured_cases() if model(case.model).experts is None]
    assert len(dense) == 3
    for case in dense:
        assert abs(mean_off(check_steps(MEASURED / str(case)), "decode", "compact")) < 0.05


def test_small_blocks_are_copied_slowly_and_the_catalogues_link_is_that_of_a_gpu():
    folder = MEASURED / "h100-sxm/llama-3.1-8b/tp1"
    sizes = block_copies(folder)
    assert [size.block_kib for size in sizes] == [8, 32, 128, 512, 2048]
    assert sizes[0].to_device < 2.0
    measured, catalogue = link(str(folder / "link.toml")), link("pcie-gen5-x16")
    for rate in ("to_device_gb_per_s", "from_device_gb_per_s", "bidirectional_gb_per_s"):
        assert getattr(measured, rate) == pytest.approx(getattr(catalogue, rate), rel=0.1)
    assert sizes[-1].to_device < measured.to_device_gb_per_s


def test_measured_tables_price_by_name():
    latency = latency_model("h100-sxm", "llama-3.1-8b", source="measured")
    assert isinstance(latency, ProfileLatency)
    assert latency.step_s(decode(1, 1024)) == pytest.approx(0.0066, rel=0.02)
    provenance = latency_provenance("h100-sxm", "llama-3.1-8b", source="measured")
    assert "NVIDIA H100 80GB HBM3, PyTorch 2.11" in provenance.source
    assert "not an engine's" in provenance.trust
    with pytest.raises(
        ValueError, match=r"no measured tables of b200/llama-3\.1-8b/tp1; did you mean"
    ):
        latency_model("b200", "llama-3.1-8b", source="measured")


def test_a_profile_without_whole_steps_is_refused(tmp_path):
    folder = tmp_path / "h100-sxm" / "llama-3.1-8b" / "tp1"
    shutil.copytree(MEASURED / "h100-sxm/llama-3.1-8b/tp1", folder)
    assert len(check_steps(folder)) == 18
    (folder / "steps.csv").unlink()
    with pytest.raises(ValueError, match=r"has no steps\.csv"):
        check_steps(folder)


def test_all_reduces_are_added_to_what_one_rank_measured(tmp_path):
    folder = tmp_path / "h100-sxm" / "llama-3.1-8b" / "tp2"
    shutil.copytree(MEASURED / "h100-sxm/llama-3.1-8b/tp1", folder)
    (alone, *_), (joined, *_) = (
        check_steps(MEASURED / "h100-sxm/llama-3.1-8b/tp1"),
        check_steps(folder),
    )
    added_s = joined.priced_s[TABLES] - alone.priced_s[TABLES]
    assert added_s > 1e-4
    assert joined.measured_s - alone.measured_s == pytest.approx(added_s)
