"""Memory tiers that can hold KV."""

from __future__ import annotations

from enum import IntEnum


class Tier(IntEnum):
    """A memory tier that can hold KV."""

    HBM = 0
    DRAM = 1
    CXL = 2


HBM, DRAM, CXL = Tier
"""The tiers by themselves: looking a member up in its enumeration takes a function call."""
