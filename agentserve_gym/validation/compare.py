"""Measured against simulated: errors of a case, per figure and per request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agentserve_gym.validation.cases import MeasuredCase
from agentserve_gym.validation.replay import Column, Replay
from agentserve_gym.validation.targets import PREEMPTIONS_WITHIN, PublishedRun


@dataclass(frozen=True, slots=True)
class CaseErrors:
    """Errors of one case, as shares of the measured value (0.02 is 2 %).

    Attributes:
        mean, p50, p99: per figure (``ttft``, ``tpot``, ``e2e``), signed.
        per_request: per figure, mean absolute error over requests.
        makespan: signed. ``preemptions``: simulated.
    """

    case: str
    timing: str
    mean: dict[str, float]
    p50: dict[str, float]
    p99: dict[str, float]
    per_request: dict[str, float]
    makespan: float
    preemptions: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "case": self.case,
            "timing": self.timing,
            "mean": self.mean,
            "p50": self.p50,
            "p99": self.p99,
            "per_request": self.per_request,
            "makespan": self.makespan,
            "preemptions": self.preemptions,
        }


def compare(case: MeasuredCase, replayed: Replay) -> CaseErrors:
    """Compare a replay with the case that it repeats.

    Raises:
        ValueError: if they have different numbers of requests.
    """
    if len(replayed.turns) != len(case.e2e_s):
        raise ValueError(
            f"{case.name}: {len(case.e2e_s)} requests measured, {len(replayed.turns)} simulated"
        )
    pairs: dict[str, tuple[Column, Column]] = {
        "ttft": (case.ttft_s, replayed.ttft_s()),
        "tpot": (case.tpot_s[_decoding(replayed)], replayed.tpot_s()),
        "e2e": (case.e2e_s, replayed.e2e_s()),
    }
    return CaseErrors(
        case.name,
        case.settings.timing,
        {name: _error(a.mean(), b.mean()) for name, (a, b) in pairs.items()},
        {name: _error(np.median(a), np.median(b)) for name, (a, b) in pairs.items()},
        {
            name: _error(np.percentile(a, 99), np.percentile(b, 99))
            for name, (a, b) in pairs.items()
        },
        {name: float(np.mean(np.abs(b / a - 1.0))) for name, (a, b) in pairs.items()},
        _error(case.makespan_s, replayed.makespan_s()),
        int(replayed.report["preemptions"]),
    )


def misses(errors: CaseErrors, run: PublishedRun) -> list[str]:
    """Names of the figures whose targets the errors miss; empty if they meet all."""
    checks = {
        "TTFT": (errors.mean["ttft"], run.ttft),
        "TPOT": (errors.mean["tpot"], run.tpot),
        "E2E": (errors.mean["e2e"], run.e2e),
        "per-request E2E": (errors.per_request["e2e"], run.per_request_e2e),
    }
    if run.preemptions is not None:
        checks["preemptions"] = (errors.preemptions / run.preemptions - 1.0, PREEMPTIONS_WITHIN)
    return [name for name, (value, allowed) in checks.items() if abs(value) > allowed]


def _decoding(replayed: Replay) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([turn.output_tokens > 1 for turn in replayed.turns])


def _error(measured: Any, simulated: Any) -> float:
    return float(simulated / measured - 1.0)
