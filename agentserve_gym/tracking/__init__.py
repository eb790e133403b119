"""Logging of trainings to experiment trackers: Weights & Biases and MLflow (the extra ``log``)."""

from agentserve_gym.tracking.services import check_services
from agentserve_gym.tracking.tracker import NOT_LOGGED, LogTo, Tracker, note_log, open_tracker

__all__ = [
    "NOT_LOGGED",
    "LogTo",
    "Tracker",
    "check_services",
    "note_log",
    "open_tracker",
]
