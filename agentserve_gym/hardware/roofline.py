"""The roofline of catalogue entries: peak rates, efficiencies and sizes become seconds."""

from __future__ import annotations

from typing import NamedTuple

from .catalogue import Accelerator, Link
from .decoder import Model
from .precision import ACTIVATION_BYTES, WEIGHT_FORMATS, WeightDtype
from .pricing.curves import TokenCost
from .pricing.roofline import (
    TILE_ROWS,
    RooflineExperts,
    RooflineLatency,
    RooflineTerms,
    WeightTimes,
    WindowTerms,
)


def roofline_latency(
    accelerator: Accelerator,
    model: Model,
    tensor_parallel: int,
    expert_parallel: int,
    data_parallel: int,
    peer_link: Link,
) -> RooflineLatency:
    """The roofline of one engine.

    Args:
        accelerator: peaks and efficiencies.
        model: sizes.
        tensor_parallel: ranks of an engine.
        expert_parallel: ranks that whole experts are spread over.
        data_parallel: engines that step together; they are priced as if each had this batch.
        peer_link: prices the all-reduce; needed where tensor_parallel > 1.

    Raises:
        ValueError: the model cannot be spread so, or the peer link cannot all-reduce.
    """
    efficiency, layers = accelerator.roofline, model.layers
    bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e9
    flops = accelerator.peak_flops("bf16")
    model.check_tensor_parallel(tensor_parallel)
    model.check_expert_parallel(expert_parallel)

    copied = model.copied_parameters_per_layer
    sliced = model.all_attention_parameters / layers - copied
    dense = _Matrices(accelerator)
    dense.add(sliced / tensor_parallel + copied, model.attention_format)
    dense.add(model.dense_parameters / layers / tensor_parallel, model.weight_dtype)
    head = model.vocab * model.hidden * ACTIVATION_BYTES / tensor_parallel
    growing = _attention(accelerator, model, tensor_parallel, model.growing_layers)
    experts = None
    if model.experts is not None:
        experts = RooflineExperts(
            model.expert_layers,
            model.experts,
            model.experts_per_token or 1,
            expert_parallel,
            data_parallel,
            _expert_times(accelerator, model, tensor_parallel, expert_parallel),
            efficiency.expert_overhead_s,
            exchange_s_per_step(model, data_parallel, peer_link),
        )
    return RooflineLatency(
        RooflineTerms(
            layers=layers,
            exponent=efficiency.linear_exponent,
            dense=WeightTimes(
                dense.bytes / (efficiency.linear_memory * bandwidth),
                dense.bf16_flops / (efficiency.linear_compute * flops),
            ),
            step_s=layers * efficiency.layer_overhead_s + efficiency.step_overhead_s,
            head=TokenCost(head / (efficiency.head_memory * bandwidth), efficiency.sequence_s),
            all_reduce=all_reduce_s_per_step(model, tensor_parallel, peer_link),
            decode=TokenCost(layers * efficiency.decode_attention_overhead_s, growing.context_s),
            pair_s=growing.pair_s,
            decode_rows=growing.context_s / growing.pair_s if model.is_latent else TILE_ROWS,
            windows=_windows(accelerator, model, tensor_parallel),
            state_s=_state_s(accelerator, model, tensor_parallel),
            mixed=TokenCost(
                layers * efficiency.mixed_overhead_s, layers * efficiency.mixed_sequence_s
            ),
            experts=experts,
        )
    )


class _Attention(NamedTuple):
    """Seconds of a decode per token of its context, and of a prefill per query-key pair."""

    context_s: float
    pair_s: float


def _attention(
    accelerator: Accelerator, model: Model, tensor_parallel: int, layers: int
) -> _Attention:
    """Attention in so many layers. A decode reads its context and multiplies it with the heads,
    which takes longer where many heads share one latent."""
    efficiency = accelerator.roofline
    bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e9
    rate = efficiency.mixed_attention_compute * accelerator.peak_flops("bf16")
    kv_bytes = layers * model.layer_kv_bytes(tensor_parallel)
    read_s = kv_bytes / (efficiency.decode_attention_memory * bandwidth)
    multiply_s = layers * 4 * (model.decode_width / tensor_parallel) / rate
    pair_s = layers * 4 * (model.attention_width / tensor_parallel) / rate
    return _Attention(max(read_s, multiply_s), pair_s)


def _windows(accelerator: Accelerator, model: Model, tensor_parallel: int) -> WindowTerms | None:
    if model.window_layers is None or model.window_tokens is None:
        return None
    costs = _attention(accelerator, model, tensor_parallel, model.window_layers)
    return WindowTerms(model.window_tokens, costs.context_s, costs.pair_s)


def _state_s(accelerator: Accelerator, model: Model, tensor_parallel: int) -> float:
    """Reading and writing the states of one sequence, a decode step's share of linear attention."""
    if model.linear_layers is None or model.linear_state_bytes is None:
        return 0.0
    bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e9
    moved = 2 * model.linear_layers * model.linear_state_bytes / tensor_parallel
    return moved / (accelerator.roofline.decode_attention_memory * bandwidth)


class _Matrices:
    """Matrices of one layer: bytes, and floating-point operations of one token.

    ``bf16_flops`` counts an operation in a faster precision for as much less as it is faster.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.bytes = 0.0
        self.bf16_flops = 0.0

    def add(self, weights: float, dtype: WeightDtype) -> None:
        form, gpu = WEIGHT_FORMATS[dtype], self._accelerator
        faster = gpu.peak_flops(form.compute) / gpu.peak_flops("bf16")
        self.bytes += weights * form.bytes
        self.bf16_flops += weights * 2 / faster


def _expert_times(
    accelerator: Accelerator, model: Model, tensor_parallel: int, expert_parallel: int
) -> WeightTimes:
    efficiency = accelerator.roofline
    bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e9
    form = WEIGHT_FORMATS[model.expert_format]
    flops = accelerator.peak_flops(form.compute)
    shards = expert_parallel if expert_parallel > 1 else tensor_parallel
    expert = model.mlp_parameters_per_layer
    expert_share = 1 if expert_parallel > 1 else tensor_parallel
    return WeightTimes(
        expert / expert_share * form.bytes / (efficiency.expert_memory * bandwidth),
        2 * expert * (model.experts_per_token or 0) / shards / (efficiency.linear_compute * flops),
    )


def all_reduce_s_per_step(model: Model, tensor_parallel: int, peer_link: Link) -> TokenCost:
    """The two all-reduces per layer; zeros on a single rank.

    Raises:
        ValueError: the link has no all-reduce figures.
    """
    if tensor_parallel == 1:
        return TokenCost(0.0, 0.0)
    latency, bandwidth = peer_link.all_reduce_latency_s, peer_link.all_reduce_gb_per_s
    if latency is None or bandwidth is None:
        raise ValueError(
            f"link {peer_link.name} has no all-reduce figures; use an NVLink or PCIe peer link"
        )
    calls = 2 * model.layers
    share = 2 * (tensor_parallel - 1) / tensor_parallel
    per_token = model.hidden * ACTIVATION_BYTES * share / (bandwidth * 1e9)
    return TokenCost(calls * latency, calls * per_token)


def exchange_s_per_step(model: Model, engines: int, peer_link: Link) -> TokenCost:
    """Gathering and scattering tokens around expert layers.

    A gather and a scatter of the group's tokens move what one ring all-reduce of them moves.
    """
    if engines == 1:
        return TokenCost(0.0, 0.0)
    base, per_token = all_reduce_s_per_step(model, engines, peer_link)
    return TokenCost(base / 2, per_token / 2)
