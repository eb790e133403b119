"""Hardware: accelerators, models, memory tiers and links as data, and how long an iteration takes.

``catalogue`` reads the data files, ``kv_pool`` says how many KV blocks fit beside the weights,
``pricing`` has the latency models, and ``sources`` picks one for an engine: coefficients fitted to
measured tables where there are any, else a roofline. Where coefficients come from is in
`agentserve_gym.calibration`.
"""

from .catalogue import (
    GIB,
    Accelerator,
    Link,
    MemoryTier,
    ServingSoftware,
    accelerator,
    link,
    list_accelerators,
    list_links,
    list_memory_tiers,
    list_models,
    list_serving_software,
    memory_tier,
    model,
    serving_software,
)
from .coefficient_file import CompactFile, read_compact_file, write_compact_file
from .coefficients import CompactCoefficients
from .decoder import Model
from .kv_pool import NON_KV_OVERHEAD_BYTES, hybrid_blocks, kv_pool_blocks
from .pricing.compact import CompactLatency
from .pricing.layers import ExpertSpread
from .pricing.lockstep import SharedExpertLatency, lockstep_decode_run, lockstep_step_s
from .pricing.profile import ProfileLatency
from .pricing.roofline import RooflineLatency
from .pricing.timing import (
    UNBOUNDED_STEPS,
    BatchStep,
    DecodeRun,
    LatencyModel,
    joined_decode,
)
from .profile import profile_latency, tables_latency
from .profile_tables import ProfileTables, find_profile, load_profile, plain_name
from .roofline import roofline_latency
from .sources import (
    CompactCase,
    LatencyProvenance,
    latency_model,
    latency_provenance,
    latency_software,
    list_compact_cases,
    list_measured_cases,
)

__all__ = [
    "GIB",
    "NON_KV_OVERHEAD_BYTES",
    "UNBOUNDED_STEPS",
    "Accelerator",
    "BatchStep",
    "CompactCase",
    "CompactCoefficients",
    "CompactFile",
    "CompactLatency",
    "DecodeRun",
    "ExpertSpread",
    "LatencyModel",
    "LatencyProvenance",
    "Link",
    "MemoryTier",
    "Model",
    "ProfileLatency",
    "ProfileTables",
    "RooflineLatency",
    "ServingSoftware",
    "SharedExpertLatency",
    "accelerator",
    "find_profile",
    "hybrid_blocks",
    "joined_decode",
    "kv_pool_blocks",
    "latency_model",
    "latency_provenance",
    "latency_software",
    "link",
    "list_accelerators",
    "list_compact_cases",
    "list_links",
    "list_measured_cases",
    "list_memory_tiers",
    "list_models",
    "list_serving_software",
    "load_profile",
    "lockstep_decode_run",
    "lockstep_step_s",
    "memory_tier",
    "model",
    "plain_name",
    "profile_latency",
    "read_compact_file",
    "roofline_latency",
    "serving_software",
    "tables_latency",
    "write_compact_file",
]
