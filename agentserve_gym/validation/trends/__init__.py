"""Published trends that are reported, not enforced: measured on small setups.

Each is a function that simulates a small setup and says what came out. The statements that are
enforced are tests.
"""

from __future__ import annotations

from collections.abc import Callable

from agentserve_gym.validation.trends.trend import Trend

SOFT_TRENDS: dict[str, Callable[[], Trend]] = {}
"""By number, in the published order."""

__all__ = ["SOFT_TRENDS", "Trend"]
