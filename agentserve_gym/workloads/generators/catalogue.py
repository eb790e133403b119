"""The agent classes that can be generated: each has one parameter file in ``parameters/``."""

from __future__ import annotations

AGENT_CLASSES: tuple[str, ...] = (
    "coding_interactive",
    "coding_auto",
    "coding_auto_gpu_host",
    "swe_bench",
    "function_calling",
    "function_calling_telecom",
    "function_calling_bfcl",
    "web_research",
)
