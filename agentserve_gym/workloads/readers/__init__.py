"""Readers of workload files, and the writer of our own format."""

from __future__ import annotations

from pathlib import Path

from agentserve_gym.workloads.program import Program
from agentserve_gym.workloads.readers import agentprog
from agentserve_gym.workloads.readers.lines import TraceError

__all__ = ["TraceError", "read_programs"]


def read_programs(path: str | Path, format: str = "auto") -> list[Program]:  # noqa: A002
    return list(agentprog.read(Path(path)))
