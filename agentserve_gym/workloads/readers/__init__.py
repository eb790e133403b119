"""Readers of workload files, one module per format, and the writer of our own."""

from agentserve_gym.workloads.readers.detection import READERS, detect_format, read_programs
from agentserve_gym.workloads.readers.lines import TraceError
from agentserve_gym.workloads.readers.own import write_programs

__all__ = ["READERS", "TraceError", "detect_format", "read_programs", "write_programs"]
