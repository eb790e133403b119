"""The figures of an episode in ``info["metrics"]``.

They are known at its end, but recorders and buffers need the same keys, types and shapes at every
step. So they are one array, which costs next to nothing where they are not known yet and which
every library can store and batch; its entries have names too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from agentserve_gym.sim import Simulation, load_scenario


class EpisodeMetrics(np.ndarray[tuple[int], np.dtype[np.float64]]):
    """A float64 array whose entries are also found by name: ``metrics["jct_s/mean"]``.

    ``dict(metrics)`` gives all of them, by the names of ``metric_names()`` and in its order. What
    the report says of single lower tiers is not among them, ``lower_hit_rate`` is.
    """

    @classmethod
    def unknown(cls) -> EpisodeMetrics:
        """Those of an episode that is not over: infinite. (Not NaN: ``check_env`` compares infos,
        and NaN does not equal itself.)"""
        return np.full(len(metric_names()), np.inf).view(cls)

    @classmethod
    def of(cls, simulation: Simulation) -> EpisodeMetrics:
        """Those of a simulation that is over."""
        flat = flat_metrics(simulation.report())
        return np.array([flat[name] for name in metric_names()]).view(cls)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return float(self[_positions()[key]])
        return super().__getitem__(key)

    def keys(self) -> Iterator[str]:
        """The names, in order."""
        return iter(metric_names())


@cache
def metric_names() -> tuple[str, ...]:
    """The report's numbers that every cluster has, which are the same for every environment: all
    but those of single instances, links and lower tiers."""
    scenario = load_scenario("toy")
    report = Simulation(scenario).report()
    for name in ("seed", "busy_s", "moved_bytes"):
        del report[name]
    tiers = scenario.cluster.tier_names
    return tuple(name for name in flat_metrics(report) if name.split("/")[-1] not in tiers)


@cache
def _positions() -> dict[str, int]:
    return {name: position for position, name in enumerate(metric_names())}


def flat_metrics(report: dict[str, Any]) -> dict[str, float]:
    """A report's numbers as floats, one level: ``jct_s/mean``, ``busy_s/0``; text is left out."""
    flat: dict[str, float] = {}
    _flatten("", report, flat)
    return flat


def _flatten(name: str, value: Any, flat: dict[str, float]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{name}/{key}" if name else str(key), item, flat)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _flatten(f"{name}/{number}", item, flat)
    elif isinstance(value, (int, float)):
        flat[name] = float(value)
