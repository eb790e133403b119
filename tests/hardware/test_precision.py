"""Precisions of weights and KV: bytes, peaks, and which timing they are priced by."""

from __future__ import annotations

import pytest
from hardware_helpers import MOE, decode, prefill

from agentserve_gym.hardware import (
    GIB,
    CompactLatency,
    RooflineLatency,
    accelerator,
    kv_pool_blocks,
    latency_model,
    link,
    model,
    read_compact_file,
    roofline_latency,
)
from agentserve_gym.hardware.catalogue import DATA
from agentserve_gym.hardware.precision import WEIGHT_FORMATS

NVFP4 = "llama-3.3-70b-nvfp4"


def test_a_quantized_checkpoint_weighs_what_an_engine_loaded():
    # vLLM 0.15 printed 39.9 GiB (SemiAnalysisAI/InferenceX); padded scales are not in the formula.
    assert model(NVFP4).weight_bytes / GIB == pytest.approx(39.9, rel=0.004)


def test_fp8_kv_weighs_half():
    assert model(NVFP4).kv_bytes_per_token == 163_840
    assert model(NVFP4, "bf16").kv_bytes_per_token == 327_680
    assert model("qwen3-32b", "fp8").kv_bytes_per_token_per_rank(2) * 4 == 262_144
    assert kv_pool_blocks("h100-sxm", model("llama-3.1-8b", "fp8")) == pytest.approx(
        2 * kv_pool_blocks("h100-sxm", "llama-3.1-8b"), abs=1
    )


def test_embeddings_and_head_stay_wide():
    llm = model(NVFP4)
    narrow = model("llama-3.1-70b").weight_bytes - 2 * (llm.parameters - 80 * 855_638_016)
    assert llm.weight_bytes - 2 * (llm.parameters - 80 * 855_638_016) == narrow * 4.5 / 16


def test_experts_and_attention_may_be_kept_otherwise():
    wide = model(MOE)
    mixed = wide.model_copy(update={"weight_dtype": "fp8", "attention_dtype": "bf16"})
    attention = wide.layers * wide.attention_parameters_per_layer
    assert wide.weight_bytes - mixed.weight_bytes == wide.expert_parameters
    everything = wide.model_copy(update={"weight_dtype": "fp8"})
    assert mixed.weight_bytes - everything.weight_bytes == attention
    experts = wide.model_copy(update={"expert_dtype": "mxfp4"})
    saved = wide.expert_parameters * (2 - WEIGHT_FORMATS["mxfp4"].bytes)
    assert wide.weight_bytes - experts.weight_bytes == saved
    shares = (wide.expert_parameters / rank for rank in (1, 4))
    whole, quarter = (share * WEIGHT_FORMATS["mxfp4"].bytes for share in shares)
    spread = experts.weight_bytes_per_rank(1, 4)
    assert spread == experts.weight_bytes - round(whole - quarter)


def test_an_unknown_kv_precision_is_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"unknown kv_dtype 'fp4'.*allowed: bf16, fp8"):
        model("qwen3-32b", "fp4")


def test_a_precision_needs_a_source(tmp_path):
    text = (DATA / "models" / f"{NVFP4}.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('\nweight_dtype = "nvidia', '\n# "nvidia'))
    with pytest.raises(ValueError, match="no source for weight_dtype = nvfp4"):
        model(str(path))


def test_peaks_fall_back_to_bf16_where_tensor_cores_lack_a_precision():
    assert accelerator("b200").peak_flops("fp4") == 9e15
    assert accelerator("h100-sxm").peak_flops("fp8") == 1.979e15
    assert accelerator("h100-sxm").peak_flops("fp4") == accelerator("h100-sxm").peak_flops("bf16")
    assert accelerator("a100-80").peak_flops("fp8") == 312e12


def _roofline(on: str, of: str, **dtypes: str) -> RooflineLatency:
    gpu = accelerator(on)
    llm = model(of).model_copy(update=dtypes)
    return roofline_latency(gpu, llm, 1, 1, 1, link(gpu.peer_link))


def test_the_roofline_reads_fewer_bytes_and_multiplies_faster():
    wide, narrow = (_roofline("b200", "llama-3.1-8b", weight_dtype=d) for d in ("bf16", "nvfp4"))
    # One decode reads the weights: the blocks' at 9/32 of the bytes, the head's as before.
    head_s = wide.step_s(decode(1, 1)) - wide._linear_s(1, 0)
    saved = wide.step_s(decode(1, 1)) - narrow.step_s(decode(1, 1))
    blocks_s = wide._layers * wide._read_s
    assert saved == pytest.approx(blocks_s * (1 - 9 / 32), rel=0.1)
    assert 0 < head_s < blocks_s
    assert narrow._multiply_s == pytest.approx(wide._multiply_s / 4)
    # Hopper has no fp4: the bytes shrink, the multiplications stay bf16.
    wide, narrow = (_roofline("h100-sxm", "llama-3.1-8b", weight_dtype=d) for d in ("bf16", "int4"))
    assert narrow._multiply_s == wide._multiply_s
    assert narrow._read_s == pytest.approx(wide._read_s * 4.125 / 16)


def test_the_roofline_reads_half_the_kv_in_fp8():
    own = latency_model("h100-sxm", "llama-3.1-8b", source="roofline")
    fp8 = latency_model("h100-sxm", "llama-3.1-8b", kv_dtype="fp8", source="roofline")
    more = [each.step_s(decode(8, 80_000)) - each.step_s(decode(8, 8)) for each in (own, fp8)]
    assert more[1] == pytest.approx(more[0] / 2)


def test_the_precision_of_the_kv_is_part_of_the_case():
    shipped = latency_model("b200", NVFP4)
    assert isinstance(shipped, CompactLatency)
    assert latency_model("b200", NVFP4, kv_dtype="fp8").step_s(prefill(512)) == shipped.step_s(
        prefill(512)
    )
    assert isinstance(latency_model("b200", NVFP4, kv_dtype="bf16"), RooflineLatency)
    assert isinstance(latency_model("b200", "llama-3.1-70b", kv_dtype="fp8"), RooflineLatency)
    with pytest.raises(ValueError, match=r"no compact coefficients for b200/qwen3-32b/tp1-kv-fp8"):
        latency_model("b200", "qwen3-32b", kv_dtype="fp8", source="compact")


def test_a_users_coefficients_for_other_kv_are_refused():
    path = str(DATA / "timing/b200" / NVFP4 / "tp1-kv-fp8.toml")
    assert read_compact_file(path).kv_dtype == "fp8"
    with pytest.raises(ValueError, match=rf"tp1-kv-fp8, not of b200/{NVFP4}/tp1$"):
        latency_model("b200", NVFP4, kv_dtype="bf16", source=path)


def test_quantized_weights_and_kv_pay_in_measured_kernels():
    wide = latency_model("b200", "llama-3.1-70b", 2)
    narrow = latency_model("b200", NVFP4, 2)
    assert narrow.step_s(decode(1, 1000)) < 0.65 * wide.step_s(decode(1, 1000))
    long = [each.step_s(decode(64, 64 * 16_384)) - each.step_s(decode(64, 64)) for each in
            (wide, narrow)]  # fmt: skip
    assert 0.4 < long[1] / long[0] < 0.65
