"""Counter-based random numbers: the same draw for the same identity, in any order of events.

What happens to a tool call must not depend on what a policy did to other programs before (common
random numbers), so each draw is a hash of who asks instead of the next value of a shared stream.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """A 64-bit hash of integers (SplitMix64's finalizer, Steele et al. 2014, chained)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def uniform(*parts: int) -> float:
    """A number in (0, 1) that depends on ``parts`` alone."""
    return ((mix(*parts) >> 12) + 0.5) / (1 << 52)
