"""PyTorch's attention kernels, of which the fastest stands for an engine's.

Engines choose among tuned kernels by shape as well. A chunk with a history attends to it with a
causal mask that ends at the last key, or in two parts, the history and the chunk itself, whose
results are joined by their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Attention = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""Of queries (sequences, heads, queries, width), keys and values (sequences, KV heads, keys, width)
to (sequences, heads, queries, width)."""


def attention_kernels(queries: int, keys: int, device: torch.device) -> Mapping[str, Attention]:
    """What may compute the attention of the last ``queries`` of ``keys`` tokens, by name.

    Some may not run on a device or for a shape; they raise RuntimeError then.
    """
    found = {"default": _default(queries, keys)}
    if device.type == "cuda":
        whole = queries in (1, keys)
        found["cudnn"] = _cudnn(queries > 1) if whole else _cudnn_in_parts(queries)
    return found


def fastest_attention(
    queries: int, keys: int, device: torch.device, time_us: Callable[[Attention], float]
) -> tuple[float, Attention]:
    """The fastest of the kernels that run, and its time in microseconds.

    Raises:
        RuntimeError: none runs.
    """
    timed, errors = [], []
    for kernel in attention_kernels(queries, keys, device).values():
        try:
            timed.append((time_us(kernel), kernel))
        except RuntimeError as error:  # out of memory is one, too
            errors.append(error)
    if not timed:
        raise errors[0]
    return min(timed, key=lambda pair: pair[0])


def _default(queries: int, keys: int) -> Attention:
    """PyTorch's own choice."""
    from torch.nn.attention.bias import CausalBias, causal_lower_right
    from torch.nn.functional import scaled_dot_product_attention

    mask: CausalBias | None = None
    if 1 < queries < keys:
        mask = causal_lower_right(queries, keys)
    causal = queries == keys > 1

    def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=_grouped(query, key)
        )

    return run


def _cudnn(causal: bool) -> Attention:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return scaled_dot_product_attention(
                query, key, value, is_causal=causal, enable_gqa=_grouped(query, key)
            )

    return run


def _cudnn_in_parts(queries: int) -> Attention:
    import torch

    past, own = _cudnn(causal=False), _cudnn(causal=True)

    def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        history = key.shape[2] - queries
        to_past = past(query, key[:, :, :history], value[:, :, :history])
        to_own = own(query, key[:, :, history:], value[:, :, history:])
        share = to_own[..., :1]  # as large as the weights that join them
        return torch.lerp(to_own, to_past, share)

    return run


def _grouped(query: torch.Tensor, key: torch.Tensor) -> bool:
    return query.shape[1] != key.shape[1]
