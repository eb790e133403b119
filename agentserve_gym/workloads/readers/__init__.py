"""Readers of workload files, one module per format, and writers of our own and Mooncake's."""

from agentserve_gym.workloads.readers.detection import READERS, detect_format, read_programs
from agentserve_gym.workloads.readers.lines import TraceError, rereadable
from agentserve_gym.workloads.readers.mooncake_writer import write_mooncake
from agentserve_gym.workloads.readers.own import write_programs

__all__ = [
    "READERS",
    "TraceError",
    "detect_format",
    "read_programs",
    "rereadable",
    "write_mooncake",
    "write_programs",
]
