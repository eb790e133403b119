"""The roofline latency form, for hardware without measured tables.

::

    t = L*[ linear(T) + k ] + head weights / (eh*BW) + c*S
      + decode-only: L*[ kv_bytes*ctx / (ea*BW) + ka ]
      + mixed:       L*[ 4*q_dim*A64 / (ef*FLOPS) + cs*nd + cm ]
      + all-reduce:  2*L*[ latency + bytes*2(n-1)/n / bandwidth ]

``linear(T) = (m^p + c^p)^(1/p)`` with m the time to read the weights and c the time to multiply
them, softened by the exponent p. A64 counts query-key pairs with chunks padded to the 64-row tiles
of the attention kernel: a decode in a mixed step costs a whole tile, 64 * its context.
"""

from __future__ import annotations

from .catalogue import Accelerator, Link, Model
from .timing import UNBOUNDED_STEPS, BatchStep, DecodeRun, LatencyModel

TILE_ROWS = 64
CACHED_TOKENS = 1025


class RooflineLatency(LatencyModel):
    """Prices steps from peak rates and efficiencies. Immutable and shared by copies.

    Args:
        accelerator: peaks and efficiencies.
        model: sizes.
        tensor_parallel, expert_parallel, data_parallel: ranks; engines that step together are
            priced as if each had this batch.
        peer_link: prices the all-reduce; needed where tensor_parallel > 1.

    Raises:
        ValueError: the model cannot be spread so, or the peer link cannot all-reduce.
    """

    __slots__ = (
        "_all_reduce",
        "_arguments",
        "_decode_base",
        "_decode_slope",
        "_dense_layer",
        "_exchange",
        "_expert_layer",
        "_fixed",
        "_head",
        "_mixed",
    )

    def __init__(
        self,
        accelerator: Accelerator,
        model: Model,
        tensor_parallel: int,
        expert_parallel: int,
        data_parallel: int,
        peer_link: Link,
    ) -> None:
        self._arguments = (
            accelerator,
            model,
            tensor_parallel,
            expert_parallel,
            data_parallel,
            peer_link,
        )
        efficiency = accelerator.roofline
        bandwidth = accelerator.memory_bandwidth_gb_per_s * 1e9
        flops = accelerator.bf16_tflops * 1e12
        kv_bytes = model.kv_bytes_per_token_per_rank(tensor_parallel)
        model.check_expert_parallel(expert_parallel)

        weights: float = model.attention_parameters_per_layer
        if model.experts is None:
            weights += model.mlp_parameters_per_layer
        weights /= tensor_parallel
        self._dense_layer = (
            weights * model.dtype_bytes / (efficiency.linear_memory * bandwidth),
            weights * 2 / (efficiency.linear_compute * flops),
        )
        shards = expert_parallel if expert_parallel > 1 else tensor_parallel
        expert = model.mlp_parameters_per_layer
        expert_share = 1 if expert_parallel > 1 else tensor_parallel
        self._expert_layer = (
            expert / expert_share * model.dtype_bytes / (efficiency.expert_memory * bandwidth),
            2
            * expert
            * (model.experts_per_token or 0)
            / shards
            / (efficiency.linear_compute * flops),
        )
        head = model.vocab * model.hidden * model.dtype_bytes / tensor_parallel
        self._fixed = model.layers * efficiency.layer_overhead_s + efficiency.step_overhead_s
        self._head = head / (efficiency.head_memory * bandwidth)
        self._decode_slope = kv_bytes / (efficiency.decode_attention_memory * bandwidth)
        query = model.heads * model.head_dim / tensor_parallel
        self._mixed = (
            model.layers * 4 * query / (efficiency.mixed_attention_compute * flops),
            model.layers * efficiency.mixed_sequence_s,
            model.layers * efficiency.mixed_overhead_s,
        )
        self._exchange = exchange_s_per_step(model, data_parallel, peer_link)
        self._all_reduce = all_reduce_s_per_step(model, tensor_parallel, peer_link)
        self._decode_base = tuple(self._base_s(count) for count in range(CACHED_TOKENS))

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        count, context, _, prefills, chunk, _, area, sampled = step
        if not prefills:
            return self._decode_base_s(count) + self._decode_slope * context
        mean_chunk = chunk / prefills
        padding = -(-mean_chunk // TILE_ROWS) * TILE_ROWS / mean_chunk
        pair_s, sequence_s, fixed_s = self._mixed
        attention = pair_s * (area * padding + TILE_ROWS * context) + sequence_s * count + fixed_s
        return self._linear_s(count + chunk, sampled) + attention

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; it is linear without end."""
        count = step[0]
        first = self._decode_base_s(count) + self._decode_slope * step[1]
        return DecodeRun(first, self._decode_slope * count, UNBOUNDED_STEPS)

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        model = self._arguments[1]
        if model.experts is None or not tokens:
            return 0.0
        layer = self._expert_layer_s(tokens, model.experts, model.experts_per_token or 1)
        base, per_token = self._exchange
        engines = self._arguments[4]
        return model.layers * layer + base + per_token * tokens * engines

    def _decode_base_s(self, count: int) -> float:
        return self._decode_base[count] if count < CACHED_TOKENS else self._base_s(count)

    def _base_s(self, count: int) -> float:
        """The part of a decode-only step that does not depend on the contexts."""
        if not count:
            return 0.0
        gpu, model = self._arguments[:2]
        attention = model.layers * gpu.roofline.decode_attention_overhead_s
        return self._linear_s(count, count) + attention

    def _linear_s(self, tokens: int, sampled: int) -> float:
        gpu, model = self._arguments[:2]
        read, multiply = self._dense_layer
        exponent = gpu.roofline.linear_exponent
        layer = _soft_max(read, multiply * tokens, exponent)
        base, per_token = self._all_reduce
        total = model.layers * layer + self.expert_s(tokens) + self._fixed
        if sampled:
            total += self._head + gpu.roofline.sequence_s * sampled
        return total + base + per_token * tokens

    def _expert_layer_s(self, tokens: int, experts: int, per_token: int) -> float:
        """One expert layer: weights of the experts activated on a rank, and their arithmetic."""
        gpu, _, _, ranks, engines, _ = self._arguments
        everyone = tokens * engines
        activated = experts / ranks * (1.0 - (1.0 - per_token / experts) ** everyone)
        read, multiply = self._expert_layer
        efficiency = gpu.roofline
        busy = _soft_max(read * activated, multiply * everyone, efficiency.linear_exponent)
        return busy + efficiency.expert_overhead_s

    def __deepcopy__(self, memo: dict[int, object]) -> RooflineLatency:
        return self

    def __reduce__(self) -> tuple[type[RooflineLatency], tuple[object, ...]]:
        return (RooflineLatency, self._arguments)


def _soft_max(first: float, second: float, exponent: float) -> float:
    """``(a^p + b^p)^(1/p)``: near the larger, above both where they are close."""
    larger, smaller = (first, second) if first > second else (second, first)
    ratio: float = (1.0 + (smaller / larger) ** exponent) ** (1.0 / exponent)
    return larger * ratio


def all_reduce_s_per_step(
    model: Model, tensor_parallel: int, peer_link: Link
) -> tuple[float, float]:
    """Fixed and per-token seconds of the two all-reduces per layer; zeros on a single rank.

    Raises:
        ValueError: the link has no all-reduce figures.
    """
    if tensor_parallel == 1:
        return (0.0, 0.0)
    latency, bandwidth = peer_link.all_reduce_latency_s, peer_link.all_reduce_gb_per_s
    if latency is None or bandwidth is None:
        raise ValueError(
            f"link {peer_link.name} has no all-reduce figures; use an NVLink or PCIe peer link"
        )
    calls = 2 * model.layers
    share = 2 * (tensor_parallel - 1) / tensor_parallel
    per_token = model.hidden * model.dtype_bytes * share / (bandwidth * 1e9)
    return (calls * latency, calls * per_token)


def exchange_s_per_step(model: Model, engines: int, peer_link: Link) -> tuple[float, float]:
    """Fixed and per-token seconds of gathering and scattering tokens around expert layers.

    A gather and a scatter of the group's tokens move what one ring all-reduce of them moves.
    """
    if engines == 1:
        return (0.0, 0.0)
    base, per_token = all_reduce_s_per_step(model, engines, peer_link)
    return (base / 2, per_token / 2)
