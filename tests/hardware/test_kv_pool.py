"""KV pools: the formula, the engines that reported theirs, and what does not fit."""

from __future__ import annotations

import pytest

from agentserve_gym.hardware import GIB, accelerator, kv_pool_blocks, model


def test_formula():
    gpu, llm = accelerator("rtx-4090"), model("llama-3.1-8b")
    left = gpu.memory_bytes * 0.8 - llm.weight_bytes - 2 * GIB
    blocks = kv_pool_blocks(
        gpu, llm, 1, memory_utilization=0.8, block_size_tokens=32, overhead_bytes=2 * GIB
    )
    assert blocks == int(left // (131_072 * 32))


@pytest.mark.parametrize(
    ("on", "of", "tensor_parallel", "reported_tokens", "tolerance"),
    [
        ("rtx-4090", "llama-3.1-8b", 1, 41_408, 0.002),
        ("rtx-pro-6000", "llama-3.1-70b", 2, 114_768, 0.07),
        ("b200", "phi-3.5-moe", 1, 657_040, 0.02),
        ("h100-sxm", "qwen3-32b", 2, 301_808, 0.08),
        ("b200", "llama-3.3-70b-nvfp4", 1, 782_160, 0.003),
    ],
)
def test_pools_that_engines_reported(on, of, tensor_parallel, reported_tokens, tolerance):
    tokens = kv_pool_blocks(on, of, tensor_parallel) * 16
    assert tokens == pytest.approx(reported_tokens, rel=tolerance)


def test_expert_parallel_frees_memory():
    one = kv_pool_blocks("rtx-pro-6000", "qwen3-30b-a3b-instruct-2507", 1)
    assert kv_pool_blocks("rtx-pro-6000", "qwen3-30b-a3b-instruct-2507", 1, expert_parallel=2) > one


def test_weights_that_do_not_fit_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"llama-3.1-70b does not fit on rtx-4090.*131\.42 GiB"):
        kv_pool_blocks("rtx-4090", "llama-3.1-70b", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_utilization": 0.0}, "memory_utilization = 0.0"),
        ({"memory_utilization": 1.1}, "memory_utilization = 1.1"),
        ({"memory_utilization": float("nan")}, "memory_utilization = nan"),
        ({"block_size_tokens": 0}, "block_size_tokens = 0"),
        ({"overhead_bytes": -1}, "overhead_bytes = -1"),
        ({"tensor_parallel": 3}, r"tensor_parallel = 3 does not divide the 32 heads"),
        ({"tensor_parallel": 0}, r"tensor_parallel = 0"),
        ({"expert_parallel": 2}, r"expert_parallel = 2, but llama-3.1-8b has no experts"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kv_pool_blocks("rtx-4090", "llama-3.1-8b", **arguments)
