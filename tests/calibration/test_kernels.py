"""Import of kernel tables, with an engine of known formulas in place of aiconfigurator-core."""

from __future__ import annotations

import importlib.util

import pytest

from agentserve_gym.calibration.kernels import KernelSampler, calibrate_import, fit_kernels
from agentserve_gym.hardware import (
    CompactCase,
    CompactLatency,
    ExpertSpread,
    model,
    read_compact_file,
)
from agentserve_gym.hardware.catalogue import DATA
from agentserve_gym.hardware.pricing.timing import prefill_area
from tests.hardware.hardware_helpers import MOE, decode, prefill


class FormulaEngine:
    """Milliseconds per operator by simple formulas, with one dip that smoothing must remove."""

    def __init__(self, expert_parallel: int = 1, data_parallel: int = 1) -> None:
        self.ranks = expert_parallel
        self.engines = data_parallel

    def decode_step_per_op(self, gen_tokens, isl, osl):
        dip = 0.5 if gen_tokens == 64 else 0.0
        experts = 0.02 * min(gen_tokens * 8, 128 / self.ranks)
        exchange = 0.0 if self.engines == 1 else 0.1 + 0.001 * gen_tokens
        return [
            ("generation_qkv_gemm", 5.0 + 0.02 * gen_tokens - dip, 0.0, "silicon"),
            ("generation_ar_1", 0.5 + 0.001 * gen_tokens, 0.0, "silicon"),
            ("generation_attention", 0.4 + 1e-5 * gen_tokens * isl, 0.0, "silicon"),
            ("generation_logits_gemm", 0.3 + 0.0004 * gen_tokens, 0.0, "silicon"),
            ("generation_moe", experts, 0.0, "silicon"),
            ("generation_moe_pre_dispatch", exchange, 0.0, "silicon"),
        ]

    def run_static_per_op(self, *, batch_size, isl, osl, prefix=0):
        chunk = isl - prefix
        pairs = prefill_area(chunk, prefix)
        return [("context_attention", 0.5 + 4e-7 * pairs, 0.0, "silicon"), ("x", 9.0, 0, "")], []


def test_a_sampler_tells_the_components_apart():
    sampler = KernelSampler(FormulaEngine())
    assert sampler.dense_s(100) == pytest.approx((5.0 + 2.0 + 0.5 + 0.1) * 1e-3)
    assert sampler.head_s(100) == pytest.approx(0.34e-3)
    assert sampler.decode_attention_s(10, 1000) == pytest.approx(0.5e-3)
    assert sampler.prefill_attention_s(100, 50) == pytest.approx((0.5 + 4e-7 * 10_050) * 1e-3)


class BundledEngine:
    """Latent attention with its projections in one operator, and expert layers in another; prompts
    have expert layers in parts, and the all-reduces twice, as aiconfigurator-core has them."""

    def __init__(self, expert_parallel: int = 1, data_parallel: int = 1) -> None:
        self.experts_s = 5.0 if expert_parallel == 1 else 6.0

    def decode_step_per_op(self, gen_tokens, isl, osl):
        return [
            ("generation_mla_block", projections_ms(gen_tokens) + 1e-5 * gen_tokens * isl),
            ("generation_moe_overlap", self.experts_s + 0.1 * gen_tokens),
            ("generation_tp_allreduce", 7.0),
            ("generation_add_norm", 0.5),
            ("generation_logits_gemm", 0.3),
        ]

    def run_static_per_op(self, *, batch_size, isl, osl, prefix=0):
        tokens = batch_size * (isl - prefix)
        pairs = batch_size * prefill_area(isl - prefix, prefix)
        operators = [
            ("context_mla_block", projections_ms(tokens) + 4e-7 * pairs),
            ("context_moe", self.experts_s + 0.05 * tokens),
            ("context_shared_gate_up_gemm", 0.03 * tokens),
            ("context_router_gemm", 0.01 * tokens),
            ("context_moe_pre_dispatch", 0.01 * tokens),
            ("context_tp_allreduce", 7.0),
            ("context_add_norm", 0.5),
        ]
        return operators, []


def projections_ms(tokens: int) -> float:
    return 2.0 + 0.01 * tokens


@pytest.mark.parametrize("tokens", [16, 1024])
def test_bundled_operators_are_told_apart(tokens):
    sampler = KernelSampler(BundledEngine())
    assert sampler.experts_s(tokens) == pytest.approx((5.0 + 0.1 * tokens) * 1e-3)
    dense = projections_ms(tokens) + 0.5
    assert sampler.dense_s(tokens) == pytest.approx(dense * 1e-3, rel=2e-3)
    assert sampler.decode_attention_s(16, 5000) == pytest.approx(1e-5 * 16 * 4999 * 1e-3)
    prefill_ms = 4e-7 * (prefill_area(tokens, 3000) - 16 * prefill_area(tokens // 16, 0))
    assert sampler.prefill_attention_s(tokens, 3000) == pytest.approx(prefill_ms * 1e-3, rel=0.02)


@pytest.mark.usefixtures("few_checks")
def test_sliced_and_spread_experts_of_one_engine_are_priced_as_sampled():
    llm = model("deepseek-r1-fp8")
    fit = fit_kernels(BundledEngine, llm, 500_000, 8)
    for kind in ("prefill steps", "decode steps", "mixed steps"):
        assert fit.errors[kind].mean_percent < 1.0, kind
    plain = fit.coefficients.plain()
    sliced = CompactLatency(plain, ExpertSpread(count=256, per_token=8, slices=8))
    assert sliced.expert_s(64) == pytest.approx((5.0 + 6.4) * 1e-3, rel=0.01)
    spread = CompactLatency(plain, ExpertSpread(count=256, per_token=8, ranks=8))
    assert spread.expert_s(64) == pytest.approx((6.0 + 6.4) * 1e-3, rel=0.01)


@pytest.fixture
def few_checks(monkeypatch):
    monkeypatch.setattr("agentserve_gym.calibration.kernels.WITHHELD_STEPS", 30)


@pytest.mark.usefixtures("few_checks")
def test_known_formulas_are_recovered_away_from_the_grid():
    fit = fit_kernels(FormulaEngine, model("llama-3.1-8b"), 300_000)
    for kind in ("prefill steps", "decode steps", "mixed steps"):
        assert fit.errors[kind].mean_percent < 1.0, kind
    latency = CompactLatency(fit.coefficients.plain(), ExpertSpread())
    expected = 5.0 + 0.6 + 0.53 + 0.4 + 0.3 + 0.3 + 0.012
    assert latency.step_s(decode(30, 30_000)) * 1e3 == pytest.approx(expected, rel=0.02)
    flat = [latency.step_s(decode(count, count)) for count in (60, 62, 64, 66)]
    assert flat == sorted(flat)


@pytest.mark.usefixtures("few_checks")
def test_experts_are_sampled_for_several_spreads():
    fit = fit_kernels(FormulaEngine, model(MOE), 300_000)
    experts = fit.coefficients.experts
    assert experts is not None
    assert experts.dispatch.constant == pytest.approx(0.1e-3, rel=1e-6)
    assert experts.dispatch.token == pytest.approx(0.0005e-3, rel=1e-6)
    spread = ExpertSpread(count=128, per_token=8, ranks=2, engines=2)
    latency = CompactLatency(fit.coefficients.plain(), spread)
    exchange = 0.1e-3 + 0.0005e-3 * 2 * 500
    assert latency.expert_s(500) == pytest.approx(0.02e-3 * 64 + exchange, rel=0.01)
    assert latency.step_s(prefill(500)) > latency.expert_s(500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rtx-4090", "llama-3.1-8b", 1), "no kernel tables for accelerator 'rtx-4090'"),
        (("h100-sxm", "phi-3.5-moe", 1), "no kernel tables for model 'phi-3.5-moe'"),
        (("h100-sxm", "llama-3.1-8b", 5), "tensor_parallel = 5 does not divide"),
    ],
)
def test_cases_without_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrate_import(*arguments)


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is not None, reason="the extra is installed"
)
def test_without_the_extra_the_message_says_what_to_install():
    with pytest.raises(ValueError, match=r"pip install .* '\.\[calibration\]'"):
        calibrate_import("h100-sxm", "llama-3.1-8b", 1)


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None,
    reason="aiconfigurator-core is not installed",
)
@pytest.mark.parametrize(
    "case",
    [
        CompactCase("a100-80", "llama-3.1-8b", 1, "bf16"),
        CompactCase("b200", "deepseek-r1-nvfp4", 4, "fp8"),
        CompactCase("h100-sxm", "qwen3-coder-30b-a3b-fp8", 2, "fp8"),
    ],
    ids=str,
)
def test_the_real_tables_give_the_shipped_coefficients(case):
    shipped = read_compact_file(DATA / "timing" / f"{case}.toml")
    again = calibrate_import(*case)
    assert again == shipped


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None,
    reason="aiconfigurator-core is not installed",
)
def test_a_precision_that_the_tables_lack_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"tables lack a part of .*nvfp4") as caught:
        calibrate_import("h100-sxm", "llama-3.3-70b-nvfp4", 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"not take .*A3B-FP8.* with tp_size 4,.*: Inv") as caught:
        calibrate_import("h100-sxm", "qwen3-coder-30b-a3b-fp8", 4)
    assert "\n" not in str(caught.value)
