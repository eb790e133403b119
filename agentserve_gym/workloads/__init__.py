"""Workloads: programs, where they come from, and when they arrive."""

from agentserve_gym.workloads.build import Workload, build_workload
from agentserve_gym.workloads.describe import describe
from agentserve_gym.workloads.generators.catalogue import AGENT_CLASSES
from agentserve_gym.workloads.program import (
    GapKind,
    PrefixSegment,
    Program,
    ToolCall,
    Turn,
)
from agentserve_gym.workloads.readers import (
    TraceError,
    detect_format,
    read_programs,
    rereadable,
    write_mooncake,
    write_programs,
)
from agentserve_gym.workloads.spec import (
    ArrivalSpec,
    ClosedLoopArrivals,
    DiurnalArrivals,
    GammaArrivals,
    GeneratedWorkload,
    InlineProgram,
    InlineWorkload,
    PoissonArrivals,
    StagedArrivals,
    TraceArrivals,
    TraceWorkload,
    WorkloadSpec,
)
from agentserve_gym.workloads.validation import validate_program

__all__ = [
    "AGENT_CLASSES",
    "ArrivalSpec",
    "ClosedLoopArrivals",
    "DiurnalArrivals",
    "GammaArrivals",
    "GapKind",
    "GeneratedWorkload",
    "InlineProgram",
    "InlineWorkload",
    "PoissonArrivals",
    "PrefixSegment",
    "Program",
    "StagedArrivals",
    "ToolCall",
    "TraceArrivals",
    "TraceError",
    "TraceWorkload",
    "Turn",
    "Workload",
    "WorkloadSpec",
    "build_workload",
    "describe",
    "detect_format",
    "read_programs",
    "rereadable",
    "validate_program",
    "write_mooncake",
    "write_programs",
]
