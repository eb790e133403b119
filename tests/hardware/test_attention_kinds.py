"""Latent, windowed and linear attention: bytes of a context, prices of steps, blocks of a pool."""

from __future__ import annotations

import numpy as np
import pytest
from hardware_helpers import decode, prefill

from agentserve_gym.calibration.roofline_fit import sample_steps
from agentserve_gym.hardware import (
    GIB,
    BatchStep,
    Model,
    accelerator,
    hybrid_blocks,
    kv_pool_blocks,
    latency_model,
    latency_provenance,
    link,
    list_compact_cases,
    model,
    roofline_latency,
)

R1 = "deepseek-r1-fp8"
ALL = {"window_layers": None, "window_tokens": None}


def _roofline(llm: Model, on: str = "h200", ranks: int = 1):
    return roofline_latency(accelerator(on), llm, ranks, 1, 1, link("nvlink4"))


# --- latent attention -----------------------------------------------------------------------------


def test_a_latent_is_kept_once_for_all_heads_and_copied_to_every_rank():
    llm = model(R1)
    assert llm.kv_bytes_per_token == 61 * (512 + 64) * 2
    assert llm.kv_bytes_per_token_per_rank(8) == llm.kv_bytes_per_token
    assert [llm.kv_ranks(8), model("llama-3.1-70b").kv_ranks(8)] == [1, 8]
    assert model("qwen3-30b-a3b-instruct-2507").kv_ranks(8) == 4  # its four KV heads twice


def test_the_published_counts_of_weights():
    # DeepSeek-V3 (arXiv 2412.19437): 671 B; Kimi K2 (arXiv 2507.20534): 1.04 T in all, 1,026 B of
    # them here; gpt-oss model card: 116.83 B.
    assert model(R1).parameters == 671_026_419_200
    assert model(R1).attention_parameters_per_layer == 187_105_280
    assert model("kimi-k2-fp8").parameters == pytest.approx(1.026e12, rel=1e-3)
    assert model("gpt-oss-120b").parameters == pytest.approx(116.83e9, rel=1e-4)


def test_only_down_projections_are_copied_to_every_rank():
    llm = model(R1)
    copied = 61 * 7168 * (1536 + 512 + 64)
    whole, eighth = llm.weight_bytes_per_rank(), llm.weight_bytes_per_rank(8)
    assert eighth == pytest.approx((whole - copied) / 8 + copied, abs=1)
    # vLLM's pool on 4 B200 with fp8 KV as SemiAnalysisAI/InferenceX reports it: 1,901,888 tokens.
    tokens = kv_pool_blocks("b200", "deepseek-r1-nvfp4", 4) * 16
    assert tokens == pytest.approx(1_901_888, rel=0.06)


def test_a_decode_over_latents_is_bound_by_the_heads_that_share_them():
    llm = model(R1)
    gpu = accelerator("h200")
    rate = gpu.roofline.mixed_attention_compute * gpu.peak_flops("bf16")
    one, two = (_roofline(llm).step_s(decode(1, n)) for n in (10_000, 20_000))
    per_token = 61 * 128 * (2 * (512 + 64) + 2 * 512) / rate
    assert two - one == pytest.approx(10_000 * per_token)
    # On eight ranks each has 16 heads and reads the whole latent.
    one, two = (_roofline(llm, ranks=8).step_s(decode(1, n)) for n in (10_000, 20_000))
    bandwidth = gpu.memory_bandwidth_gb_per_s * 1e9 * gpu.roofline.decode_attention_memory
    assert two - one == pytest.approx(10_000 * llm.kv_bytes_per_token / bandwidth)


def test_decodes_beside_a_chunk_attend_to_latents_as_they_do_alone():
    latency = _roofline(model(R1), ranks=8)
    alone = latency.step_s(decode(8, 80_000)) - latency.step_s(decode(8, 8_000))
    beside = latency.step_s(prefill(64, 0, 8, 10_000)) - latency.step_s(prefill(64, 0, 8, 1_000))
    assert beside == pytest.approx(alone)


def test_dense_layers_and_shared_experts_are_run_by_every_token():
    llm = model(R1)
    assert llm.expert_layers == 58
    shared, first = 58 * 3 * 7168 * 2048, 3 * 3 * 7168 * 18432
    assert llm.dense_parameters == shared + first
    without = llm.model_copy(update={"shared_experts": None})
    assert _roofline(llm, ranks=8).step_s(decode(1, 1)) > _roofline(without, ranks=8).step_s(
        decode(1, 1)
    )
    # Two billion weights of 58 layers fewer, at a byte each.
    assert without.weight_bytes - llm.weight_bytes == shared  # they count as bf16 then


def test_measured_kernels_of_latent_models():
    eight = latency_model("h200", R1, 8)
    assert 0.01 < eight.step_s(decode(1, 1000)) < 0.03
    # Latents are read by every rank, so that contexts cost what they cost on four.
    four, eight = (latency_model("b200", "deepseek-r1-nvfp4", n) for n in (4, 8))
    assert eight.step_s(decode(64, 64_000)) < four.step_s(decode(64, 64_000))


def test_experts_spread_whole_over_the_ranks_cost_about_what_sliced_ones_do():
    sliced = latency_model("h200", R1, 8)
    spread = latency_model("h200", R1, 8, expert_parallel=8)
    for step in (decode(16, 16_000), decode(256, 256_000), prefill(2048)):
        assert spread.step_s(step) == pytest.approx(sliced.step_s(step), rel=0.5)


# --- windows --------------------------------------------------------------------------------------


def test_kv_in_windows_stops_growing():
    llm = model("gpt-oss-120b")
    layer = 2 * 8 * 64 * 2
    assert llm.kv_bytes(100) == 100 * 36 * layer
    assert llm.kv_bytes(10_000) == 10_000 * 18 * layer + 128 * 18 * layer
    assert llm.kv_bytes_per_token == 18 * layer
    assert model("llama-3.1-8b").kv_bytes(10_000) == 10_000 * 131_072


def test_windows_hold_their_blocks_in_every_group_and_leave_as_many_as_they_pass():
    assert hybrid_blocks(model("llama-3.1-8b")) == (0, 0, 0)
    assert hybrid_blocks(model("gpt-oss-120b")) == (9, 0, 1)
    assert hybrid_blocks(model("gemma-3-27b")) == (6 * 65, 0, 6)
    assert hybrid_blocks(model("gemma-3-27b"), 32) == (6 * 33, 0, 6)


def test_a_decode_sees_no_more_than_the_window():
    llm = model("gemma-3-27b")
    growing = llm.model_copy(update=ALL)
    inside, outside = decode(4, 4 * 1000), decode(4, 4 * 5000)
    both = _roofline(llm), _roofline(growing)
    assert both[0].step_s(inside) == pytest.approx(both[1].step_s(inside))
    saved = both[1].step_s(outside) - both[0].step_s(outside)
    per_token = (both[1].step_s(outside) - both[1].step_s(inside)) / (4 * 4000)
    assert saved == pytest.approx(4 * (5000 - 1024) * per_token * 52 / 62)


def test_a_prefill_multiplies_no_more_than_the_window():
    llm = model("gemma-3-27b")
    growing = llm.model_copy(update=ALL)
    both = _roofline(llm), _roofline(growing)
    short, long = prefill(1024), prefill(1024, 8192)
    assert both[0].step_s(short) == pytest.approx(both[1].step_s(short))
    pair_s = (both[1].step_s(long) - both[1].step_s(short)) / (1024 * 8192)
    pairs = 1024 * 8192 + 1024 * 1025 / 2 - 1024 * 1024
    saved = both[1].step_s(long) - both[0].step_s(long)
    assert saved == pytest.approx(pairs * pair_s * 52 / 62)


def test_a_run_of_decodes_ends_where_windows_are_full():
    latency = _roofline(model("gemma-3-27b"))
    run = latency.decode_run(decode(2, 2 * 1000 + 1))
    assert run.steps == 24
    for step in range(run.steps):
        later = BatchStep(2, 2001 + 2 * step, 1001 + step, 0, 0, 0, 0.0, 2)
        assert latency.step_s(later) == pytest.approx(run.first_step_s + step * run.growth_s)
    assert latency.decode_run(decode(2, 2 * 1024)).steps > 1_000_000


# --- linear attention -----------------------------------------------------------------------------


def test_a_state_is_as_large_as_a_long_context():
    llm = model("qwen3.5-35b-a3b")
    state = 32 * 128 * 128 * 4 + 3 * 8192 * 2
    assert llm.linear_state_bytes == state
    assert llm.kv_bytes(0) == 30 * state
    assert llm.kv_bytes(1000) - llm.kv_bytes(0) == 1000 * 10 * 2 * 2 * 256 * 2
    blocks = hybrid_blocks(llm)
    assert blocks == (0, -(-30 * state // (16 * 20_480)), 0)
    assert 60e6 < blocks.states * 16 * llm.kv_bytes_per_token < 70e6


def test_every_decode_reads_and_writes_its_state():
    llm = model("qwen3.5-35b-a3b")
    stateless = llm.model_copy(update={"linear_state_bytes": 1})
    gpu = accelerator("h200")
    bandwidth = gpu.memory_bandwidth_gb_per_s * 1e9 * gpu.roofline.decode_attention_memory
    state_s = 2 * 30 * (llm.linear_state_bytes or 0) / bandwidth
    for step in (decode(16, 16_000), prefill(256, 0, 16, 1000)):
        more = _roofline(llm).step_s(step) - _roofline(stateless).step_s(step)
        assert more == pytest.approx(16 * state_s, rel=1e-4)


def test_the_rooflines_of_other_attention_come_near_measured_kernels():
    for on, tensor, name, most in (
        ("h200", 1, "qwen3.5-35b-a3b", 0.25),
        ("h100-sxm", 1, "gpt-oss-120b", 0.25),
        ("h200", 8, R1, 0.40),
    ):
        measured, derived = (
            latency_model(on, name, tensor, source=s) for s in ("compact", "roofline")
        )
        for count in (8, 64):
            for context in (1024, 16_384):
                step = decode(count, count * context)
                assert derived.step_s(step) == pytest.approx(measured.step_s(step), rel=most)


def test_the_roofline_says_how_far_it_is_off_on_models_of_other_kinds():
    trust = latency_provenance("a100-80", "gpt-oss-120b").trust
    assert "its decode steps are 42 % too short to 12 % too long" in trust
    assert "its prefills 6 to 55 % too short" in trust
    assert "too short" not in latency_provenance("b200", "phi-3.5-moe").trust
    decoding, prefilling = [], []
    for case in list_compact_cases():
        llm = model(case.model, case.kv_dtype)
        if llm.is_bf16 and not (llm.is_latent or llm.is_hybrid):
            continue
        what = (case.accelerator, case.model, case.tensor_parallel)
        measured, derived = (
            latency_model(*what, kv_dtype=case.kv_dtype, source=source)
            for source in ("compact", "roofline")
        )
        steps = sample_steps()
        errors = np.array([derived.step_s(step) / measured.step_s(step) - 1 for step in steps])
        decodes = np.array([step.prefill_count == 0 for step in steps])
        decoding.append(errors[decodes].mean())
        prefilling.append(errors[~decodes].mean())
    assert (min(decoding), max(decoding)) == pytest.approx((-0.42, 0.12), abs=0.005)
    assert (min(prefilling), max(prefilling)) == pytest.approx((-0.55, -0.06), abs=0.005)


# --- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (R1, {"q_lora_rank": None}, "kv_lora_rank, q_lora_rank, .* go together"),
        (R1, {"dense_intermediate": None}, "dense_layers, dense_intermediate go together"),
        (R1, {"dense_layers": 61}, "dense_layers = 61 of 61"),
        ("gemma-3-27b", {"window_tokens": None}, "window_layers, window_tokens go together"),
        ("gemma-3-27b", {"window_layers": 62}, "one at least must attend to the whole context"),
        ("qwen3-32b", {"shared_experts": 1}, "shared_experts = 1, but no experts"),
    ],
)
def test_facts_that_do_not_agree_are_refused(name, change, message):
    content = model(name).model_dump() | change
    content["sources"] |= dict.fromkeys(change, "a test")
    with pytest.raises(ValueError, match=message):
        Model.model_validate(content)


def test_weights_of_the_largest_fit_where_they_are_served():
    assert model("kimi-k2.5-int4").weight_bytes / GIB == pytest.approx(553, abs=1)
    assert kv_pool_blocks("h200", "kimi-k2.5-int4", 8) * 16 > 262_144
