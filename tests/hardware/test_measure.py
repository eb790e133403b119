"""Measuring a profile, on the CPU with a tiny model and grid: format, not numbers."""

from __future__ import annotations

import pytest
from hardware_helpers import MOE, decode

from agentserve_gym.hardware import latency_model, link, load_profile, model
from agentserve_gym.hardware.measure import MeasureGrid, measure_profile

torch = pytest.importorskip("torch")

GRID = MeasureGrid(
    tokens=(1, 4, 16),
    sequences=(1, 4),
    chunks=(4, 16),
    histories=(0, 8),
    counts=(1, 2),
    contexts=(4, 16, 32),
    copy_mib=(1,),
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
    "field", [{"tokens": ()}, {"counts": (0,)}, {"histories": (-1,)}, {"repeats": 0}]
)
def test_a_bad_grid_is_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        MeasureGrid(**field)


def test_an_earlier_profile_is_kept(tmp_path):
    (tmp_path / "dense.csv").write_text("hours of measuring")
    with pytest.raises(ValueError, match=r"holds dense.csv already; name another folder"):
        measure_profile("cpu", tmp_path, GRID, model("llama-3.1-8b"))
    assert [path.name for path in tmp_path.iterdir()] == ["dense.csv"]
