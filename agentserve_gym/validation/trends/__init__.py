"""Published trends that are reported, not enforced: measured on small setups.

Each is a function that simulates a small setup and says what came out. The statements that are
enforced are tests; C8, C9, C16 and C19 are tests on synthetic agents, and both on whole ones.
"""

from __future__ import annotations

from collections.abc import Callable

from agentserve_gym.validation.trends.gating import (
    cliff_of_hits,
    decay_of_idle_programs,
    decode_by_sessions,
    gate_under_saturation,
    host_tier_and_gate,
)
from agentserve_gym.validation.trends.host_tiers import cliff_and_host_tier, nvme_behind_dram
from agentserve_gym.validation.trends.retention import best_ttl, pins_in_saturation, recompute_share
from agentserve_gym.validation.trends.routing import (
    multiplicative_scorer,
    spill_threshold,
    stale_index,
)
from agentserve_gym.validation.trends.serving import against_a_real_run, latency_costs_throughput
from agentserve_gym.validation.trends.swe_agents import (
    dram_and_cxl,
    gates_under_thrash,
    pins_with_order,
    reuse_sweep,
)
from agentserve_gym.validation.trends.tiers import (
    cxl_at_parity,
    load_against_recompute,
    prefetch_needs_an_idle_link,
    small_blocks,
    swap_crossover,
)
from agentserve_gym.validation.trends.trend import Trend
from agentserve_gym.validation.trends.workload import lone_coding_session, tool_gaps

SOFT_TRENDS: dict[str, Callable[[], Trend]] = {
    "C3": spill_threshold,
    "C5": stale_index,
    "C7": multiplicative_scorer,
    "C8": reuse_sweep,
    "C9": pins_with_order,
    "C12": pins_in_saturation,
    "C13": best_ttl,
    "C16": gates_under_thrash,
    "C17": recompute_share,
    "C19": dram_and_cxl,
    "C24": load_against_recompute,
    "C25": cxl_at_parity,
    "C26": swap_crossover,
    "C27": prefetch_needs_an_idle_link,
    "C28": small_blocks,
    "C30": latency_costs_throughput,
    "C34": against_a_real_run,
    "C36": lone_coding_session,
    "C37": tool_gaps,
    "R1": cliff_of_hits,
    "R2": gate_under_saturation,
    "R3": host_tier_and_gate,
    "R4": decay_of_idle_programs,
    "R5": cliff_and_host_tier,
    "R6": nvme_behind_dram,
    "R7": decode_by_sessions,
}
"""By number, in the published order: C of papers, R of real runs whose figures alone are known."""

NEEDED_DATA_SETS: dict[str, tuple[str, ...]] = {"C34": ("vllm-runs", "gpu-profiles")}
"""Of those that compare with measurements."""

__all__ = ["NEEDED_DATA_SETS", "SOFT_TRENDS", "Trend"]
