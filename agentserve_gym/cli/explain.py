"""Which of two runs is faster, and why, in words; every figure is measured."""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.cli.driving import Run
from agentserve_gym.plots.style import duration

_WORDS = {
    "queue": "waiting for an instance",
    "load": "loading KV",
    "prefill": "prefill",
    "decode": "decode (whose steps share the GPU with prefills)",
    "gap": "tool gaps (sub-agents included)",
}
_WORTH_SAYING = 0.05


def explain(runs: Sequence[Run]) -> list[str]:
    """Sentences on the fastest and the slowest run by mean JCT.

    Args:
        runs: at least two runs of one scenario.
    """
    ranked = sorted(runs, key=_mean_jct_s)
    fast, slow = ranked[0], ranked[-1]
    saved_s = _mean_jct_s(slow) - _mean_jct_s(fast)
    share = saved_s / _mean_jct_s(slow) if _mean_jct_s(slow) else 0.0
    headline = (
        f"{fast.record.policy} is faster than {slow.record.policy}: mean JCT "
        f"{duration(_mean_jct_s(fast))} against {duration(_mean_jct_s(slow))}, {share:.0%} less."
    )
    return [headline, _where(fast, slow, saved_s), _cause(fast, slow)]


def _where(fast: Run, slow: Run, saved_s: float) -> str:
    """The phases in which a program saves time, largest first."""
    differences = {phase: _phase_s(slow, phase) - _phase_s(fast, phase) for phase in _WORDS}
    told = [
        f"{duration(seconds)} less {_WORDS[phase]}"
        for phase, seconds in sorted(differences.items(), key=lambda item: -item[1])
        if seconds > _WORTH_SAYING * saved_s
    ]
    return f"A program on average has {', '.join(told)}." if told else "No phase stands out."


def _cause(fast: Run, slow: Run) -> str:
    again = [run.record.report["recomputed_tokens"] / 1e6 for run in (slow, fast)]
    return (
        f"{slow.record.policy} computed {again[0]:,.1f} million prompt tokens a second time; it "
        f"found {_hits(slow)}. {fast.record.policy} computed {again[1]:,.1f} million a second "
        f"time; it found {_hits(fast)}."
    )


def _hits(run: Run) -> str:
    rates = run.record.report["hit_rate"]
    tiers = [f"{rate:.0%} in {tier.upper()}" for tier, rate in rates.items() if rate >= 0.005]
    return f"{', '.join(tiers)} (of all prompt tokens)" if tiers else "none in memory"


def _mean_jct_s(run: Run) -> float:
    return float(run.record.report["mean_jct_s"]["all"])


def _phase_s(run: Run, phase: str) -> float:
    return float(run.record.report["phase_s"][phase]) / max(int(run.record.report["programs"]), 1)
