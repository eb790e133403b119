"""Validation: the simulator against runs of real engines that it was never fitted to."""

from agentserve_gym.validation.cases import MeasuredCase, find_cases, read_case
from agentserve_gym.validation.compare import CaseErrors, compare
from agentserve_gym.validation.replay import Replay, ReplaySettings, replay

__all__ = [
    "CaseErrors",
    "MeasuredCase",
    "Replay",
    "ReplaySettings",
    "compare",
    "find_cases",
    "read_case",
    "replay",
]
