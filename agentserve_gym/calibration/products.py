"""Matrix products in the precisions of weights, as far as PyTorch has kernels for them.

Weights are kept as an engine keeps them. Activations are bf16: fp8 products convert them first, as
engines do in one kernel; for nvfp4 PyTorch has no such kernel, so that its products are of
activations that are fp4 already. mxfp4 and int4 need kernels that widen weights on the way, which
PyTorch lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentserve_gym.hardware.precision import WeightDtype

if TYPE_CHECKING:
    import torch

Product = Callable[["torch.Tensor"], "torch.Tensor"]
"""(tokens, into) bf16 to (tokens, out) bf16."""

ExpertProduct = Callable[["torch.Tensor", Sequence[int]], "torch.Tensor"]
"""(tokens, into) bf16, tokens in the order of their experts, and the end of each expert's tokens,
to (tokens, out) bf16."""

_SCALED_ROWS, _SCALED_COLUMNS = 128, 4
"""Scales of nvfp4 come in tiles of 128 rows by 4 groups of 16 weights."""


def product(dtype: WeightDtype, weight: torch.Tensor) -> Product:
    """Multiplication with a bf16 matrix (out, into), kept in a precision.

    Raises:
        ValueError: PyTorch has no kernel for it.
    """
    make = {"bf16": _bf16, "fp8": _fp8, "nvfp4": _nvfp4}.get(dtype)
    if make is None:
        raise ValueError(f"PyTorch has no kernel for {dtype} weights; allowed: bf16, fp8, nvfp4")
    return make(weight)


def expert_product(dtype: WeightDtype, weights: torch.Tensor) -> ExpertProduct:
    """Multiplication of each expert's tokens with its matrix: one kernel for all experts where
    PyTorch has it (bf16 and fp8 on a GPU), else one after the other.

    Args:
        weights: (experts, out, into), bf16.

    Raises:
        ValueError: PyTorch has no kernel for the precision.
    """
    if weights.device.type == "cuda" and dtype == "bf16":
        return _grouped_bf16(weights)
    if weights.device.type == "cuda" and dtype == "fp8":
        return _grouped_fp8(weights)
    return _one_by_one([product(dtype, weight) for weight in weights])


def require_products(dtype: WeightDtype, device: torch.device, *, of_experts: bool) -> None:
    """Raises ValueError, in one line, unless products in this precision run on the device."""
    import torch

    weight = torch.zeros(128, 128, dtype=torch.bfloat16, device=device)
    try:
        product(dtype, weight)(weight)
        if of_experts:
            expert_product(dtype, weight.view(2, 64, 128))(weight, [64, 128])
    except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ValueError(f"{dtype} matrix products do not run on {device} here: {reason}") from None


def _bf16(weight: torch.Tensor) -> Product:
    import torch

    return lambda batch: torch.nn.functional.linear(batch, weight)


def _fp8(weight: torch.Tensor) -> Product:
    import torch
    from torch.nn.functional import ScalingType, scaled_mm

    narrow = weight.to(torch.float8_e4m3fn).t()
    scale = torch.ones((), dtype=torch.float32, device=weight.device)
    whole = ScalingType.TensorWise

    def run(batch: torch.Tensor) -> torch.Tensor:
        activations = batch.to(torch.float8_e4m3fn)
        return scaled_mm(
            activations, narrow, scale, whole, scale, whole, output_dtype=torch.bfloat16
        )

    return run


def _one_by_one(products: Sequence[Product]) -> ExpertProduct:
    import torch

    def run(batch: torch.Tensor, ends: Sequence[int]) -> torch.Tensor:
        starts = (0, *ends[:-1])
        parts = zip(products, starts, ends, strict=True)
        return torch.cat([one(batch[start:end]) for one, start, end in parts if end > start])

    return run


def _grouped_bf16(weights: torch.Tensor) -> ExpertProduct:
    from torch.nn.functional import grouped_mm

    turned = weights.transpose(1, 2)
    offsets = _offsets(weights.device)
    return lambda batch, ends: grouped_mm(batch, turned, offs=offsets(ends))


def _grouped_fp8(weights: torch.Tensor) -> ExpertProduct:
    import torch
    from torch.nn.functional import (  # type: ignore[attr-defined]  # not in its stub
        ScalingType,
        scaled_grouped_mm,
    )

    narrow = weights.to(torch.float8_e4m3fn).transpose(1, 2)
    experts, out, _ = weights.shape
    weight_scales = torch.ones(experts, out, device=weights.device)
    offsets = _offsets(weights.device)
    rows = ScalingType.RowWise

    def run(batch: torch.Tensor, ends: Sequence[int]) -> torch.Tensor:
        activations = batch.to(torch.float8_e4m3fn)
        scales = torch.ones(batch.shape[0], device=batch.device)
        found: torch.Tensor = scaled_grouped_mm(
            activations, narrow, scales, rows, weight_scales, rows,
            offs=offsets(ends), output_dtype=torch.bfloat16,
        )  # fmt: skip
        return found

    return run


def _offsets(device: torch.device) -> Callable[[Sequence[int]], torch.Tensor]:
    """The ends of experts' tokens on the device, kept: a graph cannot copy them there."""
    import torch

    known: dict[tuple[int, ...], torch.Tensor] = {}

    def find(ends: Sequence[int]) -> torch.Tensor:
        key = tuple(ends)
        if key not in known:
            known[key] = torch.tensor(key, dtype=torch.int32, device=device)
        return known[key]

    return find


def _nvfp4(weight: torch.Tensor) -> Product:
    import torch
    from torch.nn.functional import ScalingType, SwizzleType, scaled_mm

    groups, tiled = ScalingType.BlockWise1x16, SwizzleType.SWIZZLE_32_4_4

    def packed(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Two values a byte, and a scale for every 16."""
        values = torch.zeros(rows, columns // 2, dtype=torch.uint8, device=weight.device)
        tiles = -(-rows // _SCALED_ROWS) * -(-columns // (16 * _SCALED_COLUMNS))
        scales = torch.ones(tiles * _SCALED_ROWS * _SCALED_COLUMNS, device=weight.device)
        return values.view(torch.float4_e2m1fn_x2), scales.to(torch.float8_e4m3fn)

    out, into = weight.shape
    narrow, weight_scales = packed(out, into)
    known: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def run(batch: torch.Tensor) -> torch.Tensor:
        tokens = batch.shape[0]
        if tokens not in known:
            known[tokens] = packed(tokens, into)
        activations, scales = known[tokens]
        return scaled_mm(
            activations, narrow.t(), scales, groups, weight_scales, groups,
            swizzle_a=tiled, swizzle_b=tiled, output_dtype=torch.bfloat16,
        )  # fmt: skip

    return run
