"""Four measured routers before four vLLM pods on 16 H100, and the same served by the simulator.

The runs are llm-d's (github.com/llm-d/llm-d-kv-cache, ``benchmarking/37-capacity``, commit
a746476b, Apache-2.0), one each: Llama-3.1-70B in bf16, four GPUs a pod. Nothing is fitted to them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.messages import shown, unknown
from agentserve_gym.validation.replay import ReplaySettings
from agentserve_gym.validation.router_replay import (
    RouterReplaySettings,
    StageReplay,
    replay_router,
)
from agentserve_gym.workloads.shared_prefixes import LoadStage, SharedPrefixLoad

ROUTERS = ("precise", "default", "random", "load")
BREAKS_S = 2.0
"""A router breaks at the first rate at which the mean TTFT exceeds this."""

ALIKE = 0.02
"""Share by which mean TTFTs differ that rank no router before another."""

_SEEDS = (0, 1, 2)
_INSTANCES = 4
_LOAD = SharedPrefixLoad(83, 3, 8000, 1000, 1000)
_WARM_UP = LoadStage(9.0, 30.0)
_STAGE_S = {3.0: 210.0, 4.0: 180.0, 5.0: 120.0, 6.0: 120.0, 8.0: 90.0, 10.0: 70.0, 12.0: 60.0}
_STAGE_REQUESTS = 720.0
"""Of most stages; taken for rates whose length is not known."""
_ENGINE = ReplaySettings(
    Path(),
    "h100-sxm",
    "llama-3.1-70b",
    4,
    max_num_seqs=1024,
    max_num_batched_tokens=8192,
    kv_blocks=28_836,
    software="vllm-0.19",
)
"""461,376 KV tokens a pod, as reported. The limits and the version are not: these are vLLM's
defaults on an H100, and the catalogue's host time of a vLLM as it comes."""

_COLUMNS = (
    "rate_per_s", "output_tokens_per_s", "ttft_mean_s", "ttft_p90_s", "itl_mean_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasuredStage:
    """One router at one rate, as measured.

    Attributes:
        router: one of ``ROUTERS``.
        rate_per_s: requests sent per second.
        output_tokens_per_s: over the time to the last token.
        ttft_mean_s, ttft_p90_s: time to first token.
        itl_mean_s: between two events of an answer's stream, of which a token makes two.
    """

    router: str
    rate_per_s: float
    output_tokens_per_s: float
    ttft_mean_s: float
    ttft_p90_s: float
    itl_mean_s: float

    @property
    def tpot_s(self) -> float:
        """Time per output token."""
        return 2.0 * self.itl_mean_s


@dataclass(frozen=True, slots=True)
class RouterStage:
    """One router at one rate, measured and simulated.

    Attributes:
        measured: the run.
        simulated: the same stage, once per seed.
    """

    measured: MeasuredStage
    simulated: tuple[StageReplay, ...]

    @property
    def output_tokens_per_s(self) -> float:
        return _mean(stage.served.output_tokens_per_s() for stage in self.simulated)

    @property
    def ttft_mean_s(self) -> float:
        return _mean(stage.served.ttft_s().mean() for stage in self.simulated)

    @property
    def ttft_p90_s(self) -> float:
        return _mean(np.percentile(stage.served.ttft_s(), 90) for stage in self.simulated)

    @property
    def tpot_s(self) -> float:
        return _mean(stage.served.tpot_s().mean() for stage in self.simulated)

    @property
    def hit_rate(self) -> float:
        return _mean(stage.hit_rate for stage in self.simulated)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        measured = self.measured
        return {
            "router": measured.router,
            "rate_per_s": measured.rate_per_s,
            "measured": {
                "output_tokens_per_s": measured.output_tokens_per_s,
                "ttft_mean_s": measured.ttft_mean_s,
                "ttft_p90_s": measured.ttft_p90_s,
                "tpot_s": measured.tpot_s,
            },
            "simulated": {
                "output_tokens_per_s": self.output_tokens_per_s,
                "ttft_mean_s": self.ttft_mean_s,
                "ttft_p90_s": self.ttft_p90_s,
                "tpot_s": self.tpot_s,
                "hit_rate": self.hit_rate,
            },
        }


def read_router_runs(path: Path) -> list[MeasuredStage]:
    """The measured stages of a file, by router and rate.

    Raises:
        ValueError: a column is missing, a value is no positive number, a router is not known, or
            there is no row.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path}: no rows")
    stages = [_stage(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]
    return sorted(stages, key=lambda stage: (stage.rate_per_s, ROUTERS.index(stage.router)))


def run_routers(path: Path) -> list[RouterStage]:
    """Serve what was measured: every router of a file at its rates, one rate after the other.

    Raises:
        ValueError: as ``read_router_runs``.
    """
    measured = read_router_runs(path)
    found = []
    for router in ROUTERS:
        own = [stage for stage in measured if stage.router == router]
        if own:
            stages = tuple(LoadStage(s.rate_per_s, _seconds(s.rate_per_s)) for s in own)
            settings = RouterReplaySettings(_ENGINE, router, _INSTANCES, _LOAD, stages, _WARM_UP)
            runs = [replay_router(replace(settings, seed=seed)) for seed in _SEEDS]
            found += [RouterStage(*pair) for pair in zip(own, zip(*runs, strict=True), strict=True)]
    return sorted(found, key=lambda stage: stage.measured.rate_per_s)


def by_ttft(stages: Sequence[RouterStage]) -> tuple[list[list[str]], list[list[str]]]:
    """The routers of one rate from the lowest mean TTFT to the highest: measured, simulated.

    Those whose means differ by less than ``ALIKE`` from the one before are listed together.
    """
    return (
        _ranks({stage.measured.router: stage.measured.ttft_mean_s for stage in stages}),
        _ranks({stage.measured.router: stage.ttft_mean_s for stage in stages}),
    )


def breaking_rates(stages: Sequence[RouterStage]) -> tuple[float | None, float | None]:
    """The first rate at which a router breaks: measured, simulated; ``None`` where none does."""
    return (
        next((s.measured.rate_per_s for s in stages if s.measured.ttft_mean_s > BREAKS_S), None),
        next((s.measured.rate_per_s for s in stages if s.ttft_mean_s > BREAKS_S), None),
    )


def _mean(values: Iterable[Any]) -> float:
    return float(np.mean(list(values)))


def _ranks(ttft_s: dict[str, float]) -> list[list[str]]:
    ranks: list[list[str]] = []
    before = 0.0
    for router in sorted(ttft_s, key=lambda name: ttft_s[name]):
        if ranks and ttft_s[router] < (1.0 + ALIKE) * before:
            ranks[-1].append(router)
        else:
            ranks.append([router])
        before = ttft_s[router]
    return ranks


def _seconds(rate_per_s: float) -> float:
    return _STAGE_S.get(rate_per_s, _STAGE_REQUESTS / rate_per_s)


def _stage(row: dict[str, str], where: str) -> MeasuredStage:
    router = row.get("router", "")
    if router not in ROUTERS:
        raise ValueError(f"{where}: {unknown('router', router, ROUTERS)}")
    numbers = {name: _number(row.get(name), name, where) for name in _COLUMNS}
    return MeasuredStage(router, **numbers)


def _number(text: str | None, name: str, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0.0):
        raise ValueError(f"{where}: {name} is {shown(text)}; allowed: a number above 0")
    return value
