"""Measuring a profile, on the CPU with a tiny model and grid: format, not numbers."""

from __future__ import annotations

import pytest

from agentserve_gym.calibration.attention import attention_kernels, fastest_attention
from agentserve_gym.calibration.fit import ProfileCase, profile_case
from agentserve_gym.calibration.measure import MeasureGrid, measure_profile
from agentserve_gym.calibration.products import expert_product, product
from agentserve_gym.calibration.rank import Rank
from agentserve_gym.calibration.whole_steps import StepPoint
from agentserve_gym.hardware import latency_model, link, load_profile, model
from tests.hardware.hardware_helpers import MOE, decode

torch = pytest.importorskip("torch")

GRID = MeasureGrid(
    tokens=(1, 4, 16),
    sequences=(1, 4),
    chunks=(4, 16),
    histories=(0, 8),
    counts=(1, 2),
    contexts=(4, 16, 32),
    copy_mib=(1,),
    block_kib=(8, 64),
    blocks_mib=1,
    steps=(StepPoint(0, 0, 2, 16), StepPoint(8, 0, 0, 0), StepPoint(8, 16, 2, 16)),
    repeats=1,
)
TINY = {"layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8, "vocab": 64}


def test_a_measured_folder_is_a_profile(tmp_path):
    llm = model("llama-3.1-8b").model_copy(update={**TINY, "intermediate": 64})
    folder = measure_profile("cpu", tmp_path / "rtx-4090" / "llama-3.1-8b" / "tp2", GRID, llm, 2)
    tables = load_profile(folder)
    layers = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj", "act_fn", "layernorm"}
    assert layers | {"embedding", "final_layernorm", "rotary_emb"} == tables.dense.keys()
    assert tables.per_sequence.keys() == {"lm_head", "sampler"}
    assert len(tables.attention) == 6 + 4 * 7
    assert (tables.attention[:, 4] > 0).all()
    entry = link(str(folder / "link.toml"))
    assert entry.to_device_gb_per_s > 0
    assert "measured" in entry.sources["to_device_gb_per_s"]
    priced = latency_model("rtx-4090", "llama-3.1-8b", 2, source=str(folder))
    assert priced.step_s(decode(2, 20)) > 0


def test_experts_are_measured_too(tmp_path):
    sizes = {**TINY, "intermediate": 16, "experts": 8, "experts_per_token": 2}
    folder = measure_profile("cpu", tmp_path / "out", GRID, model(MOE).model_copy(update=sizes))
    rows = load_profile(folder).experts
    assert {(int(t), int(a)) for t, a, _ in rows} == {
        (1, 2),
        (4, 2),
        (4, 4),
        (4, 8),
        (16, 2),
        (16, 4),
        (16, 8),
    }


def test_weights_and_kv_are_kept_in_the_models_precisions(tmp_path):
    sizes = {**TINY, "intermediate": 64, "weight_dtype": "fp8", "kv_dtype": "fp8"}
    llm = model("llama-3.1-8b").model_copy(update=sizes)
    folder = measure_profile("cpu", tmp_path / "h200/llama-3.1-8b/tp1-kv-fp8", GRID, llm)
    assert load_profile(folder).dense.keys() >= {"qkv_proj", "down_proj"}
    assert profile_case(folder) == ProfileCase("h200", "llama-3.1-8b", 1, "fp8")


def test_products_compute_what_they_stand_for():
    batch = torch.randn(5, 32, dtype=torch.bfloat16)
    weight = torch.randn(48, 32, dtype=torch.bfloat16)
    exact = batch @ weight.t()
    assert torch.equal(product("bf16", weight)(batch), exact)
    error = (product("fp8", weight)(batch) - exact).abs().mean() / exact.abs().mean()
    assert 0.001 < error < 0.1  # e4m3 keeps three bits of the mantissa


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_dtype": "nvfp4"}, "nvfp4 matrix products do not run on cpu here: "),
        ({"weight_dtype": "int4"}, "no kernel for int4 weights; allowed: bf16, fp8, nvfp4"),
        (
            {"window_layers": 1, "window_tokens": 8},
            "has windows or linear attention; profile",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_runs(tmp_path, change, message):
    llm = model("llama-3.1-8b").model_copy(update={**TINY, "intermediate": 64, **change})
    with pytest.raises(ValueError, match=message) as caught:
        measure_profile("cpu", tmp_path / "out", GRID, llm)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="deepseek-r1-fp8 has latent attention and shared exp"):
        measure_profile("cpu", tmp_path / "out", GRID, model("deepseek-r1-fp8"))


def test_copies_of_blocks_are_measured_by_their_size(tmp_path):
    llm = model("llama-3.1-8b").model_copy(update={**TINY, "intermediate": 64})
    folder = measure_profile("cpu", tmp_path / "out", GRID, llm)
    lines = (folder / "blocks.csv").read_text().splitlines()
    assert lines[0] == "direction,block_kib,blocks,time_us,gb_per_s"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[:3] for row in rows] == [
        [direction, size, count]
        for size, count in (("8", "128"), ("64", "16"))
        for direction in ("to_device", "from_device")
    ]
    for _, size, count, micros, rate in rows:
        volume = int(size) * int(count) * 1024 / 1e9
        assert float(rate) == pytest.approx(volume / (float(micros) * 1e-6), rel=1e-2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_message_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="PyTorch sees none here") as caught:
        measure_profile("cuda", tmp_path, GRID, model("llama-3.1-8b"))
    assert "\n" not in str(caught.value)


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown device 'gpu7'"):
        measure_profile("gpu7", tmp_path, GRID, model("llama-3.1-8b"))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    llm = model("llama-3.1-8b").model_copy(update={**TINY, "intermediate": 64})
    with pytest.raises(ValueError, match="cannot write the profile folder"):
        measure_profile("cpu", tmp_path / "file", GRID, llm)


@pytest.mark.parametrize(
    "field",
    [{"tokens": ()}, {"counts": (0,)}, {"histories": (-1,)}, {"repeats": 0}, {"blocks_mib": 1}],
)
def test_a_bad_grid_is_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        MeasureGrid(**field)


def test_an_earlier_profile_is_kept(tmp_path):
    (tmp_path / "dense.csv").write_text("hours of measuring")
    with pytest.raises(ValueError, match=r"holds dense.csv already; name another folder"):
        measure_profile("cpu", tmp_path, GRID, model("llama-3.1-8b"))
    assert [path.name for path in tmp_path.iterdir()] == ["dense.csv"]


def test_whole_steps_are_timed_with_as_many_layers_as_the_model_has(tmp_path):
    llm = model("llama-3.1-8b").model_copy(update={**TINY, "intermediate": 64})
    folder = measure_profile("cpu", tmp_path / "out", GRID, llm)
    lines = (folder / "steps.csv").read_text().splitlines()
    assert lines[0] == "layers,prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"
    shapes = [tuple(map(int, line.split(",")[:5])) for line in lines[1:]]
    assert shapes == [(2, *point) for point in GRID.steps]
    beside = (folder / "beside_copies.csv").read_text().splitlines()
    assert beside[0] == "n_decode,kv_decode,alone_us,beside_copies_us"
    assert [line.split(",")[:2] for line in beside[1:]] == [["2", "16"]]
    assert 'device = "CPU"' in (folder / "about.toml").read_text()


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_experts_compute_each_ones_share(dtype):
    weights = torch.randn(3, 48, 32, dtype=torch.bfloat16)
    batch = torch.randn(6, 32, dtype=torch.bfloat16)
    found = expert_product(dtype, weights)(batch, [2, 2, 6])
    single = [product(dtype, weight) for weight in weights]
    assert torch.equal(found, torch.cat([single[0](batch[:2]), single[2](batch[2:])]))


def test_a_chunk_attends_to_its_history_and_to_itself():
    query = torch.randn(1, 4, 3, 8)
    key, value = torch.randn(1, 2, 10, 8), torch.randn(1, 2, 10, 8)
    (kernel,) = attention_kernels(3, 10, torch.device("cpu")).values()
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) / 8**0.5
    unseen = torch.arange(10)[None, :] > torch.arange(3)[:, None] + 7
    weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
    expected = weights @ value.repeat_interleave(2, 1)
    assert torch.allclose(kernel(query, key, value), expected, atol=1e-6)


def test_the_fastest_kernel_that_runs_counts():
    def time_us(kernel):
        raise RuntimeError("no kernel")

    device = torch.device("cpu")
    with pytest.raises(RuntimeError, match="no kernel"):
        fastest_attention(1, 8, device, time_us)
    assert fastest_attention(1, 8, device, lambda kernel: 3.0)[0] == 3.0


def test_a_layer_of_a_whole_step_is_that_of_the_model():
    llm = model("llama-3.1-8b").model_copy(update={**TINY, "intermediate": 64})
    rank = Rank(torch.device("cpu"), llm, 1)
    rest, normed = rank.norm()(*torch.ones(2, 3, 32, dtype=torch.bfloat16))
    assert torch.equal(rest, torch.full_like(rest, 2.0))
    assert normed.shape == rest.shape
    gate_up = torch.randn(3, 10)
    expected = torch.nn.functional.silu(gate_up[:, :5]) * gate_up[:, 5:]
    assert torch.equal(rank.activated(gate_up), expected)
    moe = model(MOE).model_copy(
        update={**TINY, "intermediate": 16, "experts": 4, "experts_per_token": 2}
    )
    batch = torch.randn(5, 32, dtype=torch.bfloat16)
    assert Rank(torch.device("cpu"), moe, 1).experts(4)(batch).shape == batch.shape
