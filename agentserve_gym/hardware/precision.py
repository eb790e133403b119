"""Precisions in which weights and KV are kept, what they weigh, and in what they are multiplied."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

WeightDtype = Literal["bf16", "fp8", "nvfp4", "mxfp4", "int4", "int4-g32"]
KvDtype = Literal["bf16", "fp8"]
ComputeDtype = Literal["bf16", "fp8", "fp4"]


class WeightFormat(NamedTuple):
    """One way to keep weights.

    Attributes:
        bytes: of a weight, its share of the scales included.
        compute: what the tensor cores multiply, where the accelerator can.
    """

    bytes: float
    compute: ComputeDtype


WEIGHT_FORMATS: Final[dict[WeightDtype, WeightFormat]] = {
    "bf16": WeightFormat(2.0, "bf16"),
    "fp8": WeightFormat(1.0, "fp8"),
    "nvfp4": WeightFormat(4.5 / 8, "fp4"),
    "mxfp4": WeightFormat(4.25 / 8, "bf16"),
    "int4": WeightFormat(4.125 / 8, "bf16"),
    "int4-g32": WeightFormat(4.5 / 8, "bf16"),
}
"""Bits of a weight with its scale: nvfp4 one fp8 scale for 16 weights (NVIDIA), mxfp4 one 8-bit
exponent for 32 (OCP Microscaling 1.0), int4 one 16-bit scale for 128 (GPTQ, AWQ), int4-g32 one for
32 (Kimi-K2). An fp8 checkpoint's scale is one for 128 x 128 weights, or for a tensor: nothing.
mxfp4 and int4 are weight-only: their kernels widen the weights and multiply bf16."""

KV_BYTES: Final[dict[KvDtype, int]] = {"bf16": 2, "fp8": 1}
"""Bytes of one element of keys or values."""

ACTIVATION_BYTES: Final = 2
"""Activations between layers are bf16 in every format, as are embeddings and the head: quantized
checkpoints leave those two out."""
