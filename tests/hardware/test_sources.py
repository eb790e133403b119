"""Which source prices an engine, what it rests on, and what is refused."""

from __future__ import annotations

import pytest
from hardware_helpers import MOE, decode, prefill, write_profile

from agentserve_gym.hardware import (
    CompactLatency,
    ProfileLatency,
    RooflineLatency,
    accelerator,
    kv_pool_blocks,
    latency_model,
    latency_provenance,
    list_compact_cases,
    model,
    read_compact_file,
    write_compact_file,
)
from agentserve_gym.hardware.catalogue import DATA


@pytest.mark.parametrize("case", list_compact_cases(), ids=str)
def test_every_coefficient_file_names_its_case_source_and_error(case):
    on, of, tensor_parallel, kv_dtype = case
    file = read_compact_file(DATA / "timing" / f"{case}.toml")
    assert (file.accelerator, file.model, file.tensor_parallel, file.kv_dtype) == case
    assert file.provenance in ("fitted to measured tables", "measured kernels, summed")
    assert file.source
    assert "%" in file.error
    assert kv_pool_blocks(on, model(of, kv_dtype), tensor_parallel) > 0
    latency = latency_model(on, of, tensor_parallel, kv_dtype=kv_dtype)
    assert isinstance(latency, CompactLatency)
    assert 0.001 < latency.step_s(decode(1, 1000)) < 0.1
    assert latency.step_s(decode(1, 1000)) < latency.step_s(prefill(2048)) < 3.0


def test_the_four_validated_cases_are_fitted_to_tables():
    for on, of, tensor_parallel in [
        ("rtx-4090", "llama-3.1-8b", 1),
        ("rtx-pro-6000", "llama-3.1-8b", 1),
        ("rtx-pro-6000", "qwen3-32b", 2),
        ("rtx-pro-6000", MOE, 1),
    ]:
        provenance = latency_provenance(on, of, tensor_parallel)
        assert provenance.kind == "compact"
        assert "fitted to measured tables" in provenance.source
        assert "mixed steps mean" in provenance.trust


def test_auto_falls_back_to_the_roofline_and_says_so():
    assert isinstance(latency_model("b200", "phi-3.5-moe"), RooflineLatency)
    provenance = latency_provenance("b200", "phi-3.5-moe")
    assert provenance.kind == "roofline"
    assert provenance.trust == accelerator("b200").roofline.trust


def test_catalogue_models_are_shared():
    assert latency_model("h200", "qwen3-32b", 2) is latency_model("h200", "qwen3-32b", 2)


def test_a_users_coefficient_file_prices_an_engine(tmp_path):
    original = read_compact_file(DATA / "timing/rtx-4090/llama-3.1-8b/tp1.toml")
    slower = original.model_copy(
        update={"all_reduce": original.all_reduce.model_copy(update={"constant": 0.5})}
    )
    path = tmp_path / "mine.toml"
    write_compact_file(path, slower)
    assert read_compact_file(path) == slower
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]
    stock = latency_model("rtx-4090", "llama-3.1-8b")
    mine = latency_model("rtx-4090", "llama-3.1-8b", source=str(path))
    step = decode(4, 4000)
    assert mine.step_s(step) == pytest.approx(stock.step_s(step) + 0.5)
    with pytest.raises(ValueError, match=r"has the coefficients of rtx-4090/llama-3.1-8b/tp1"):
        latency_model("rtx-4090", "llama-3.1-8b", 2, source=str(path))


def test_a_profile_folder_prices_an_engine(tmp_path):
    folder = write_profile(tmp_path / "profile")
    assert isinstance(latency_model("rtx-4090", "llama-3.1-8b", source=str(folder)), ProfileLatency)
    assert latency_provenance("rtx-4090", "llama-3.1-8b", source=str(folder)).kind == "profile"


def test_a_profile_of_another_precision_or_of_other_layers_is_refused(tmp_path):
    folder = write_profile(tmp_path / "llama-3.1-8b" / "tp1")
    assert latency_model("rtx-4090", "llama-3.1-8b", kv_dtype="fp8", source=str(folder))
    (tmp_path / "llama-3.1-8b" / "meta.yaml").write_text("variant: bf16\n")
    with pytest.raises(ValueError, match=r"is of bf16 \(meta.yaml\), but llama-3.1-8b has bf16 w"):
        latency_model("rtx-4090", "llama-3.1-8b", kv_dtype="fp8", source=str(folder))
    with pytest.raises(ValueError, match="gemma-3-27b has windows or linear attention; profile"):
        latency_model("rtx-4090", "gemma-3-27b", source=str(folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "rooflines"}, "unknown timing source 'rooflines'; did you mean 'roofline'"),
        ({"source": "compact"}, "no compact coefficients for rtx-4090/qwen3-32b/tp2"),
        ({"source": "/nowhere/x.toml"}, r"cannot read .*x\.toml"),
        ({"tensor_parallel": 3}, "tensor_parallel = 3 does not divide"),
        ({"data_parallel": 0}, "data_parallel = 0 must be at least 1"),
        ({"expert_parallel": 2, "data_parallel": 2}, "qwen3-32b has no experts"),
    ],
)
def test_what_cannot_be_priced_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        latency_model("rtx-4090", "qwen3-32b", **{"tensor_parallel": 2, **arguments})


def test_expert_parallelism_must_match_the_group():
    with pytest.raises(ValueError, match=r"expert_parallel = 4 must be 1 or .* = 2"):
        latency_model("rtx-pro-6000", MOE, expert_parallel=4, data_parallel=2)
    with pytest.raises(ValueError, match="expert_parallel = 3 does not divide the 128 experts"):
        latency_model("rtx-pro-6000", MOE, expert_parallel=3, data_parallel=3)


def test_a_bad_coefficient_file_names_the_field(tmp_path):
    good = (DATA / "timing/rtx-4090/llama-3.1-8b/tp1.toml").read_text()
    path = tmp_path / "bad.toml"
    for old, new, message in [
        ("tensor_parallel = 1", "tensor_parallel = 0", "tensor_parallel"),
        ("share = ", "shares = ", "mixed_attention"),
        ("extra = [", "extra = [[0.0], ", "beside.extra must have"),
        ("counts = [1, 2,", "counts = [2, 1,", "counts must increase"),
        ("skew = [", "skew = [0.5, ", "skew has"),
    ]:
        assert old in good
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            read_compact_file(path)


def test_writing_into_a_missing_folder_is_refused(tmp_path):
    file = read_compact_file(DATA / "timing/rtx-4090/llama-3.1-8b/tp1.toml")
    with pytest.raises(ValueError, match="cannot write"):
        write_compact_file(tmp_path / "none" / "x.toml", file)
