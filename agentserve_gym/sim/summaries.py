"""Summaries of metrics: means and percentiles over a run so far."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from agentserve_gym.sim.kernel.programs import Phase
from agentserve_gym.sim.kernel.tiers import HBM
from agentserve_gym.sim.metrics import Metrics


def summary(values: array[float]) -> dict[str, float]:
    """Mean and percentiles (``numpy.percentile``'s linear rule); zeros where there are none."""
    if not values:
        return {"mean": 0.0, "p50": 0.0, "p90": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    data = np.frombuffer(values)
    p50, p90, p95, p99 = np.percentile(data, (50, 90, 95, 99))
    return {
        "mean": float(data.mean()),
        "p50": float(p50),
        "p90": float(p90),
        "p95": float(p95),
        "p99": float(p99),
        "max": float(data.max()),
    }


def mean(values: array[float]) -> float:
    """The mean; zero where there are none."""
    return float(np.frombuffer(values).mean()) if values else 0.0


def figures(metrics: Metrics) -> dict[str, Any]:
    """Everything as plain numbers."""
    turns = len(metrics.e2e_s)
    makespan = metrics.last_completion_s
    return {
        "programs": len(metrics.jct_s),
        "subagents": metrics.subagents,
        "turns": turns,
        "jct_s": summary(metrics.jct_s),
        "slowdown": summary(metrics.slowdown),
        "ttft_s": summary(metrics.ttft_s),
        "tpot_s": summary(metrics.tpot_s),
        "e2e_s": summary(metrics.e2e_s),
        "makespan_s": makespan,
        "output_tokens": metrics.output_tokens,
        "output_tokens_per_s": metrics.output_tokens / makespan if makespan else 0.0,
        "phase_s": {phase.name.lower(): metrics.phase_s[phase] for phase in Phase},
        "prompt_tokens": metrics.prompt_tokens,
        "hit_rate": metrics.hit_rate(),
        "lower_hit_rate": sum(metrics.hit_tokens[HBM + 1 :]) / max(metrics.prompt_tokens, 1),
        "hit_tokens": dict(zip(metrics.tiers, metrics.hit_tokens, strict=True)),
        "migrated_tokens": metrics.migrated_tokens,
        "recomputed_tokens": metrics.recomputed_tokens,
        "slo_goodput": metrics.slo_turns / turns if turns else 0.0,
        "holds": metrics.holds,
        "invalid_answers": metrics.invalid_answers,
    }
