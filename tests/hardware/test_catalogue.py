"""Every catalogue file loads, names its sources, and gives the published constants."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentserve_gym import hardware

TIED = ("gemma-3-27b",)
"""Models whose head is their embedding."""

LISTS = [
    (hardware.list_accelerators, hardware.accelerator),
    (hardware.list_models, hardware.model),
    (hardware.list_links, hardware.link),
    (hardware.list_memory_tiers, hardware.memory_tier),
]


@pytest.mark.parametrize(("names", "load"), LISTS)
def test_every_entry_loads_and_is_named_as_its_file(names, load):
    assert len(names()) >= 4
    for name in names():
        entry = load(name)
        assert entry.name == name
        assert entry.title
        assert all(source.strip() for source in entry.sources.values())


def test_accelerators_refer_to_known_links_and_have_sensible_peaks():
    for name in hardware.list_accelerators():
        gpu = hardware.accelerator(name)
        hardware.link(gpu.host_link)
        assert hardware.link(gpu.peer_link).all_reduce_gb_per_s is not None
        assert gpu.roofline.source
        assert gpu.roofline.trust
        assert 100 < gpu.bf16_tflops * 1e3 / gpu.memory_bandwidth_gb_per_s < 500


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("qwen3-32b", 262_144),
        ("qwen3-30b-a3b-instruct-2507", 98_304),
        ("llama-3.3-70b-nvfp4", 163_840),
        ("deepseek-r1-fp8", 70_272),
        ("gpt-oss-120b", 36_864),
    ],
)
def test_kv_bytes_per_token_are_the_published_ones(name, kv_bytes):
    assert hardware.model(name).kv_bytes_per_token == kv_bytes


@pytest.mark.parametrize("name", hardware.list_models())
def test_published_parameters_agree_with_layer_arithmetic(name):
    llm = hardware.model(name)
    embedding = llm.vocab * llm.hidden * (1 if name in TIED else 2)
    large = embedding + llm.all_attention_parameters + llm.dense_parameters + llm.expert_parameters
    assert 0 <= llm.parameters - large < 1e-3 * llm.parameters  # the rest: norms, biases, router


def test_weights_per_rank_add_up():
    dense = hardware.model("llama-3.1-70b")
    assert dense.weight_bytes_per_rank(4) * 4 == dense.weight_bytes
    moe = hardware.model("qwen3-30b-a3b-instruct-2507")
    assert moe.weight_bytes_per_rank(1, 2) == moe.weight_bytes - moe.expert_parameters
    assert moe.weight_bytes_per_rank(2, 2) * 2 == moe.weight_bytes


def test_kv_heads_are_copied_beyond_their_number():
    moe = hardware.model("qwen3-30b-a3b-instruct-2507")
    assert moe.kv_bytes_per_token_per_rank(4) == moe.kv_bytes_per_token // 4
    assert moe.kv_bytes_per_token_per_rank(8) == moe.kv_bytes_per_token // 4


@pytest.mark.parametrize(
    ("load", "name", "expected"),
    [
        (hardware.accelerator, "h10-sxm", "h100-sxm"),
        (hardware.model, "llama-3-8b", "llama-3.1-8b"),
        (hardware.link, "pcie-gen5", "pcie-gen5-x16"),
        (hardware.memory_tier, "ddr4", "ddr5"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(load, name, expected):
    with pytest.raises(ValueError, match=rf"unknown .*{name}.*did you mean '{expected}'"):
        load(name)


def test_a_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match=r"allowed: .*ddr5"):
        hardware.memory_tier("zzzzzzzz")


def _copy_of(name: str, path: Path, replace: tuple[str, str]) -> Path:
    original = Path(hardware.__file__).parent / "data" / "links" / f"{name}.toml"
    text = original.read_text()
    assert replace[0] in text
    path.write_text(text.replace(*replace))
    return path


def test_a_users_own_file_is_read(tmp_path):
    path = _copy_of("rdma-400g", tmp_path / "mine.toml", ("= 47.0", "= 41.0"))
    assert hardware.link(str(path)).to_device_gb_per_s == 41.0


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (("= 47.0", "= 0.0"), "to_device_gb_per_s is 0.0: .*greater than 0"),
        (("= 47.0", "= nan"), "to_device_gb_per_s is nan: .*finite"),
        (("latency_s = 8", "latency = 8"), "latency"),
        (('latency_s = "', 'other = "'), "no source for latency_s"),
        (("[sources]", "[sources"), "mine.toml is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_field(tmp_path, replace, message):
    path = _copy_of("rdma-400g", tmp_path / "mine.toml", replace)
    with pytest.raises(ValueError, match=message):
        hardware.link(str(path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none\.toml"):
        hardware.model(str(tmp_path / "none.toml"))
