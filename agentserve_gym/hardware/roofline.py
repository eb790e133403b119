"""The roofline of catalogue entries: peak rates, efficiencies and sizes become seconds."""

from __future__ import annotations

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
        tensor_parallel, expert_parallel, data_parallel: ranks; engines that step together are
            priced as if each had this batch.
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
    sliced = model.attention_parameters_per_layer - copied
    dense = _Matrices(accelerator)
    dense.add(sliced / tensor_parallel + copied, model.attention_format)
    dense.add(model.dense_parameters / layers / tensor_parallel, model.weight_dtype)
    head = model.vocab * model.hidden * ACTIVATION_BYTES / tensor_parallel
    context_s = _decode_context_s(accelerator, model, tensor_parallel)
    width = model.attention_width / tensor_parallel
    pair_s = layers * 4 * width / (efficiency.mixed_attention_compute * flops)
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
            decode=TokenCost(layers * efficiency.decode_attention_overhead_s, context_s),
            pair_s=pair_s,
            decode_rows=context_s / pair_s if model.is_latent else TILE_ROWS,
            mixed=TokenCost(
                layers * efficiency.mixed_overhead_s, layers * efficiency.mixed_sequence_s
            ),
            experts=experts,
        )
    )


def _decode_context_s(accelerator: Accelerator, model: Model, tensor_parallel: int) -> float:
    """Attention of a decode to one token of context: reading it, or multiplying it with the heads,
    which takes longer where many heads share one latent."""
    efficiency = accelerator.roofline
    bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e9
    kv_bytes = model.kv_bytes_per_token_per_rank(tensor_parallel)
    read_s = kv_bytes / (efficiency.decode_attention_memory * bandwidth)
    operations = model.layers * 4 * model.decode_width / tensor_parallel
    multiply_s = operations / (efficiency.mixed_attention_compute * accelerator.peak_flops("bf16"))
    return max(read_s, multiply_s)


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
