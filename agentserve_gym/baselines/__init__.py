"""Heuristic policies: every published rule as a small part, and oracles above them.

A policy is routing + residency + admission + scheduling. ``parse_policy("sglang+continuum")``
builds one from names, ``list_policies()`` tells which parts exist, and one policy object serves
one simulation (``run_policy``).
"""

from __future__ import annotations

from agentserve_gym.baselines.driving import drive, require_valid_answers, run_policy
from agentserve_gym.baselines.parser import list_policies, parse_policy
from agentserve_gym.baselines.parts import Admission, Choice, Part, Residency, Routing, Scheduling
from agentserve_gym.baselines.policy import ComposedPolicy, NamedPolicy
from agentserve_gym.baselines.registry import PolicyInfo, register, register_bundle
from agentserve_gym.baselines.scores import ScoreKeeper, Scores

__all__ = [
    "Admission",
    "Choice",
    "ComposedPolicy",
    "NamedPolicy",
    "Part",
    "PolicyInfo",
    "Residency",
    "Routing",
    "Scheduling",
    "ScoreKeeper",
    "Scores",
    "drive",
    "list_policies",
    "parse_policy",
    "register",
    "register_bundle",
    "require_valid_answers",
    "run_policy",
]
