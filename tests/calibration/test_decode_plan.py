"""FlashInfer's planner: hand-checked cuts and makespans, and its coefficients in the catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from agentserve_gym.calibration.decode_plan import LONE_SPEEDUP, DecodePlan
from agentserve_gym.calibration.flashinfer_kernels import UnequalDecodes, decode_plan, fit_unequal
from agentserve_gym.calibration.kernels import KernelSampler
from agentserve_gym.hardware import BatchStep, accelerator, latency_model, model
from tests.hardware.hardware_helpers import decode

PLAN = DecodePlan(multiprocessors=148, kv_heads=8)
NVFP4 = "llama-3.3-70b-nvfp4"


def equal(count: int, tokens: int) -> np.ndarray:
    return np.full(count, float(tokens))


def test_a_gpu_runs_two_blocks_a_multiprocessor():
    assert PLAN.most_pieces == 37
    assert decode_plan(accelerator("b200"), model(NVFP4), 1) == PLAN
    assert decode_plan(accelerator("b200"), model(NVFP4), 2).kv_heads == 4


def test_a_lone_context_is_cut_into_as_many_pieces_as_run_at_once():
    assert PLAN.piece_tokens(equal(1, 37 * 160)) == 160
    assert PLAN.makespan_tokens(equal(1, 37 * 160)) == pytest.approx(160)


def test_batches_take_whole_waves_once_nothing_is_cut():
    """64 contexts are 512 blocks on 296 places: two waves; 128 are four."""
    assert PLAN.makespan_tokens(equal(64, 4096)) == pytest.approx(2 * 4096, rel=1e-6)
    assert PLAN.makespan_tokens(equal(128, 4096)) == pytest.approx(4 * 4096, rel=1e-6)


def test_spare_pieces_go_to_the_longest_context():
    """32 contexts leave 5 pieces: one of 60,000 tokens is cut into 6, not so with 37 contexts."""
    few = np.array([60_000.0, *[1000.0] * 31])
    assert PLAN.piece_tokens(few) == 10_000
    many = np.array([60_000.0, *[1000.0] * 36])
    assert PLAN.piece_tokens(many) == 60_000


def test_a_long_context_among_many_makes_all_wait():
    """It ends alone on its multiprocessor, where it runs faster, and the rest is long done."""
    long = 40_960
    contexts = np.array([float(long), *[1024.0] * 63])
    alone = PLAN.makespan_tokens(contexts)
    assert long / LONE_SPEEDUP < alone < long
    assert alone > 4 * PLAN.makespan_tokens(equal(64, int(contexts.mean())))


def test_an_unequal_batch_costs_a_line_in_its_longest_context():
    base, slope = PLAN.unequal(64)
    random = np.random.default_rng(99)
    misses = []
    for _ in range(20):
        shape = random.lognormal(0.0, 0.6, 64)
        contexts = np.round(shape * 4096 / shape.mean())
        mean, longest = contexts.mean(), contexts.max()
        line = (base + slope * (longest / mean - 1)) * mean
        misses.append(abs(line / PLAN.makespan_tokens(contexts) - 1))
    assert np.mean(misses) < 0.06
    assert PLAN.unequal(1) == (PLAN.unequal(1)[0], 0.0)


class PlannedEngine:
    """Milliseconds of a GPU that does what the planner says, 20 ns a token and 1 us a layer."""

    def decode_step_per_op(self, gen_tokens, isl, osl):
        makespan = PLAN.makespan_tokens(equal(gen_tokens, isl))
        attention = 80 * (1e-3 + 20e-6 * makespan)
        return [
            ("generation_qkv_gemm", 5.0, 0.0, "silicon"),
            ("generation_attention", attention, 0.0, "silicon"),
            ("generation_logits_gemm", 0.3, 0.0, "silicon"),
        ]

    def run_static_per_op(self, *, batch_size, isl, osl, prefix=0):
        return [("context_attention", 1.0 + 1e-4 * isl, 0.0, "silicon")], []


@pytest.fixture
def sampler() -> UnequalDecodes:
    return UnequalDecodes(PlannedEngine(), attention=KernelSampler(PlannedEngine()), plan=PLAN)


def test_rates_are_read_off_tables_of_equal_contexts(sampler):
    contexts = np.array([20_000.0, *[2000.0] * 63])
    seconds = 80 * (1e-6 + 20e-9 * PLAN.makespan_tokens(contexts))
    assert sampler.batch_attention_s(contexts) == pytest.approx(seconds, rel=0.01)


def test_the_fitted_form_charges_for_the_longest_context(sampler, monkeypatch):
    monkeypatch.setattr("agentserve_gym.calibration.kernels.WITHHELD_STEPS", 20)
    fit = fit_unequal(sampler, model(NVFP4), 700_000)
    grid = fit.coefficients.decode_attention
    skew = dict(zip(grid.counts, grid.skew, strict=True))
    assert skew[16] < 0.05 < skew[64]
    assert skew[64] > skew[128] > skew[256]


def test_the_catalogue_prices_a_long_context_in_a_batch():
    latency = latency_model("b200", NVFP4, software="none")
    total = 64 * 3400

    def step_s(longest: int) -> float:
        return latency.step_s(BatchStep(64, total, longest, 0, 0, 0, 0.0, 64))

    assert step_s(21_000) - step_s(9_600) == pytest.approx(0.0147, rel=0.2)
    default = latency_model("b200", "llama-3.1-70b")
    few = decode(64, total)
    assert (
        step_s(21_000) / step_s(3400)
        > 1.4
        > default.step_s(BatchStep(64, total, 21_000, 0, 0, 0, 0.0, 64)) / default.step_s(few)
    )
