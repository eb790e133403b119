"""Data sets that some tests need, and which a clone alone does not have."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from agentserve_gym.datasets import State, data_sets

_state = cache(lambda name: data_sets()[name].state())


def needed_data_set(name: str) -> Path:
    """Where a data set lies; the test is skipped without the copy that its numbers are of."""
    if _state(name) is not State.VERIFIED:
        pytest.skip(f"needs the data set {name} (see agentserve data)")
    return data_sets()[name].location()
