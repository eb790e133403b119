"""Hardware: accelerators, models, memory tiers and links as data, and how long an iteration takes.

``catalogue`` reads the data files, ``kv_pool`` says how many KV blocks fit beside the weights,
``timing`` is the protocol of all latency models, and ``sources`` picks one for an engine:
coefficients fitted to measured tables where there are any, else a roofline.
"""

from .catalogue import (
    GIB,
    Accelerator,
    Link,
    MemoryTier,
    Model,
    accelerator,
    link,
    list_accelerators,
    list_links,
    list_memory_tiers,
    list_models,
    memory_tier,
    model,
)
from .compact import CompactCoefficients, CompactLatency
from .kv_pool import NON_KV_OVERHEAD_BYTES, kv_pool_blocks
from .roofline import RooflineLatency
from .sources import LatencyProvenance, latency_model, latency_provenance, list_compact_cases
from .timing import UNBOUNDED_STEPS, BatchStep, DecodeRun, LatencyModel

__all__ = [
    "GIB",
    "NON_KV_OVERHEAD_BYTES",
    "UNBOUNDED_STEPS",
    "Accelerator",
    "BatchStep",
    "CompactCoefficients",
    "CompactLatency",
    "DecodeRun",
    "LatencyModel",
    "LatencyProvenance",
    "Link",
    "MemoryTier",
    "Model",
    "RooflineLatency",
    "accelerator",
    "kv_pool_blocks",
    "latency_model",
    "latency_provenance",
    "link",
    "list_accelerators",
    "list_compact_cases",
    "list_links",
    "list_memory_tiers",
    "list_models",
    "memory_tier",
    "model",
]
