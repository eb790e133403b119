"""Matrix products in the precisions of weights, as far as PyTorch has kernels for them.

Weights are kept as an engine keeps them. Activations are bf16: fp8 products convert them first, as
engines do in one kernel; for nvfp4 PyTorch has no such kernel, so that its products are of
activations that are fp4 already. mxfp4 and int4 need kernels that widen weights on the way, which
PyTorch lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .precision import WeightDtype

if TYPE_CHECKING:
    import torch

Product = Callable[["torch.Tensor"], "torch.Tensor"]
"""(tokens, into) bf16 to (tokens, out) bf16."""

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


def require_products(dtype: WeightDtype, device: torch.device) -> None:
    """Raises ValueError, in one line, unless products in this precision run on the device."""
    import torch

    weight = torch.zeros(128, 128, dtype=torch.bfloat16, device=device)
    try:
        product(dtype, weight)(weight)
    except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
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
