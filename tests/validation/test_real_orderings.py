"""Orderings that real engines showed on agentic load and that hold here by wide margins."""

from __future__ import annotations

from itertools import pairwise

import pytest

from agentserve_gym.validation.trends.gating import decode_by_sessions
from agentserve_gym.validation.trends.host_tiers import coding, input_tokens_per_s

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_cache_falls_off_a_cliff_and_a_host_tier_catches_it(seed: int) -> None:
    """R5: hits 87 % at 16 users and 0.1 % at 32; a host tier serves 83 % of the tokens, shortens
    TTFT 3.3-fold and completes 3.8 times the requests."""
    few, many, tier = coding(16, seed=seed), coding(32, seed=seed), coding(32, True, seed=seed)
    assert few.hbm_hits > 0.80
    assert many.hbm_hits < 0.15
    assert tier.dram_hits > 0.5
    assert tier.hbm_hits + tier.dram_hits > 0.80
    assert tier.ttft_s < 0.5 * many.ttft_s
    assert tier.turns > 2 * many.turns


def test_nvme_holds_where_dram_alone_collapses() -> None:
    """R6: beyond DRAM, input tokens per second fall to about an eighth with DRAM alone, and keep
    about half with NVMe."""
    fitting = input_tokens_per_s(32, nvme=False)
    dram, nvme = input_tokens_per_s(64, nvme=False), input_tokens_per_s(64, nvme=True)
    assert dram < 0.25 * fitting
    assert 2.0 * dram < nvme < fitting


def test_gaps_between_tokens_rise_with_the_sessions_of_a_pod() -> None:
    """R7: 3.8 times at six times the sessions."""
    values = decode_by_sessions().values
    fp8_ms = [value for name, value in values.items() if name.startswith("tpot_ms")]
    assert all(fewer < more for fewer, more in pairwise(fp8_ms))
    assert 3.0 <= fp8_ms[-1] / fp8_ms[0] <= 5.0
