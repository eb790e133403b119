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
    """Sentences on the fastest run by mean JCT, and what it does better than the slowest.

    Args:
        runs: at least two runs of one scenario.
    """
    ranked = sorted(runs, key=_mean_jct_s)
    fast, slow = ranked[0], ranked[-1]
    saved_s = _mean_jct_s(slow) - _mean_jct_s(fast)
    others = " and ".join(_against(fast, other) for other in ranked[1:])
    headline = f"{fast.record.policy}: mean JCT {duration(_mean_jct_s(fast))}, {others}."
    return [headline, _where(fast, slow, saved_s), _cause(fast, slow)]


def _against(fast: Run, other: Run) -> str:
    """How much less than another run's."""
    other_s = _mean_jct_s(other)
    share = 1.0 - _mean_jct_s(fast) / other_s if other_s else 0.0
    decimals = 0 if share >= 0.01 else 1
    return f"{share:.{decimals}%} less than {other.record.policy} ({duration(other_s)})"


def _where(fast: Run, slow: Run, saved_s: float) -> str:
    """The phases in which a program saves time, largest first."""
    differences = {phase: _phase_s(slow, phase) - _phase_s(fast, phase) for phase in _WORDS}
    told = [
        f"{duration(seconds)} less {_WORDS[phase]}"
        for phase, seconds in sorted(differences.items(), key=lambda item: -item[1])
        if seconds > _WORTH_SAYING * saved_s
    ]
    if not told:
        return "No phase stands out."
    return f"Against {slow.record.policy} a program on average has {', '.join(told)}."


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
