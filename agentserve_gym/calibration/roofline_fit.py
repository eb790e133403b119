"""Fit a GPU's roofline efficiencies to the cases of the catalogue that rest on measurements.

Efficiencies belong to a GPU and carry over to models that were not measured on it: fitted to some
models, checked on another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentserve_gym.hardware.catalogue import Accelerator, RooflineEfficiency, link, model
from agentserve_gym.hardware.pricing.timing import BatchStep, lone_chunk, prefill_area
from agentserve_gym.hardware.profile_tables import Array
from agentserve_gym.hardware.roofline import roofline_latency
from agentserve_gym.hardware.sources import latency_model

from .fit import HeldOutError, held_out_error
from .least_squares import fit_nonnegative

FITTED = (
    "linear_memory",
    "linear_compute",
    "linear_exponent",
    "layer_overhead_s",
    "head_memory",
    "sequence_s",
    "decode_attention_memory",
    "decode_attention_overhead_s",
    "mixed_attention_compute",
    "mixed_sequence_s",
    "mixed_overhead_s",
)
EXPERT_FITTED = ("expert_memory", "expert_overhead_s")

Case = tuple[str, int]
"""Model name and tensor parallelism."""


def sample_steps(prefill_context: int = 32768) -> list[BatchStep]:
    """Steps all over the range that engines run in: decode-only, prefill and mixed."""
    steps = [
        BatchStep(count, count * context, context, 0, 0, 0, 0.0, count)
        for count in (1, 8, 32, 64, 128, 256)
        for context in (256, 1024, 4096, 16384)
    ]
    for chunk in (64, 256, 512, 1024, 2048, 8192):
        for history in (0, 2048, 8192, prefill_context):
            steps.append(lone_chunk(chunk, history))
            area = prefill_area(chunk, history)
            if chunk in (256, 1024, 2048):
                for count in (8, 64):
                    decodes = (count, count * 2048, 2048)
                    steps.append(BatchStep(*decodes, 1, chunk, history, area, count + 1))
    return steps


def fit_roofline(
    gpu: Accelerator, cases: Sequence[Case], held_out: Sequence[Case]
) -> tuple[RooflineEfficiency, HeldOutError]:
    """Fit a GPU's efficiencies to the compact form of some cases, and check on others.

    Raises:
        ValueError: a case has no coefficients in the catalogue.
    """
    steps = sample_steps()
    names = [*FITTED, *(EXPERT_FITTED if any(model(m).experts for m, _ in cases) else ())]
    true = _compact_times(gpu, cases, steps)

    def residuals(values: Array) -> Array:
        efficiency = _efficiency(gpu.roofline, names, values)
        return _roofline_times(gpu, efficiency, cases, steps) / true - 1

    start = np.array([getattr(gpu.roofline, name) for name in names])
    start[names.index("linear_exponent")] -= 1
    best = fit_nonnegative(residuals, np.maximum(start, 1e-7), outlier=0.1, iterations=60)
    rounded = np.array([float(f"{value:.4g}") for value in best])
    efficiency = _efficiency(gpu.roofline, names, rounded)
    checked = _compact_times(gpu, held_out, steps)
    predicted = _roofline_times(gpu, efficiency, held_out, steps)
    return efficiency, held_out_error(predicted, checked, checked)


def _efficiency(
    base: RooflineEfficiency, names: Sequence[str], values: Array
) -> RooflineEfficiency:
    fitted = {}
    for name, value in zip(names, values, strict=True):
        if name == "linear_exponent":
            fitted[name] = 1 + float(value)
        elif name.endswith("_s"):
            fitted[name] = float(value)
        else:
            fitted[name] = float(np.clip(value, 0.02, 1.2))
    return base.model_copy(update=fitted)


def _compact_times(gpu: Accelerator, cases: Sequence[Case], steps: list[BatchStep]) -> Array:
    times = []
    for name, tensor_parallel in cases:
        latency = latency_model(gpu, name, tensor_parallel, source="compact")
        times += [latency.step_s(step) for step in steps]
    return np.array(times)


def _roofline_times(
    gpu: Accelerator,
    efficiency: RooflineEfficiency,
    cases: Sequence[Case],
    steps: list[BatchStep],
) -> Array:
    changed = gpu.model_copy(update={"roofline": efficiency})
    peers = link(gpu.peer_link)
    times = []
    for name, tensor_parallel in cases:
        latency = roofline_latency(changed, model(name), tensor_parallel, 1, 1, peers)
        times += [latency.step_s(step) for step in steps]
    return np.array(times)
