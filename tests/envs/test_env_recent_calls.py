"""Shares of recent calls agree with counting them anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.envs.features.recent_calls import RecentCalls
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics


@given(bursts=st.lists(st.lists(st.floats(0.0, 30.0), max_size=130), max_size=8))
def test_shares_follow_bursts_of_any_length(bursts: list[list[float]]) -> None:
    kind = KindStatistics()
    limits_s = (2.0, 20.0)
    calls = RecentCalls(kind, limits_s)
    assert calls.shares_within() == [0.0, 0.0]
    for burst in bursts:
        for duration_s in burst:
            kind.learn(duration_s)
        number = len(kind.recent)
        expected = [
            sum(duration_s <= limit_s for duration_s in kind.recent) * (1.0 / number)
            if number
            else 0.0
            for limit_s in limits_s
        ]
        assert calls.shares_within() == expected
