"""Tests that play whole clusters take minutes interpreted: they run on the compiled kernel."""

from __future__ import annotations

import pytest

from agentserve_gym.compiled import running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if running() is not None:
        return
    skip = pytest.mark.skip(reason="plays whole clusters for minutes: make test-compiled runs it")
    for item in items:
        if item.get_closest_marker("whole_cluster") is not None:
            item.add_marker(skip)
