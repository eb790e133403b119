"""Cells that differ from the benchmark's: other loads, pools, gaps and numbers of instances."""

from __future__ import annotations

from math import exp, log
from random import Random
from typing import Any

from pydantic import Field, PositiveFloat, model_validator

from agentserve_gym.sim import Scenario, load_scenario
from agentserve_gym.sim.scenario import StrictModel

_ROOM_IN_POOL = 0.9

Factor = tuple[PositiveFloat, PositiveFloat]


class Variation(StrictModel):
    """How training episodes differ from their cell, so that a policy learns more than the cells.

    Attributes:
        share: of the episodes that do.
        load: least and largest factor of the arrival rate. ``pool``: of HBM pools that a cell sizes
            by itself. ``gaps``: of tools' and people's times, unless programs are written out.
            ``instances``: of the number of instances of every kind, and of the arrival rate with
            it. Drawn evenly on a logarithmic scale.
    """

    share: float = Field(default=0.6, ge=0.0, le=1.0)
    load: Factor = (0.75, 1.3)
    pool: Factor = (0.75, 1.35)
    gaps: Factor = (1.0, 1.0)
    instances: Factor = (1.0, 1.0)

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Variation:
        for name in ("load", "pool", "gaps", "instances"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low:g}, {high:g}]; allowed: the smaller one first")
        return self


def varied(scenario: Scenario, variation: Variation, seed: int) -> Scenario:
    """The scenario with another load, other pools, gaps and numbers of instances, or as it is;
    drawn by ``seed``."""
    draw = Random(f"variation {seed}")
    if draw.random() >= variation.share:
        return scenario
    load, pool, gaps, instances = (
        _log_uniform(draw, bounds)
        for bounds in (variation.load, variation.pool, variation.gaps, variation.instances)
    )
    content = scenario.model_dump(mode="json")
    if scenario.workload.kind != "inline":
        content["workload"]["gap_scale"] *= gaps
    load *= _scale_instances(content, instances)
    _scale_load(content["arrivals"], load)
    if scenario.workload.kind == "generated":  # recorded contexts might not fit a smaller pool
        _scale_pools(content, pool)
    return load_scenario(content)


def _scale_instances(content: dict[str, Any], factor: float) -> float:
    """Scale the number of instances of every kind, at least to 1; by how much there are more."""
    kinds = [kind for node in content["cluster"]["nodes"] for kind in node["instances"]]
    before = sum(kind["count"] for kind in kinds)
    for kind in kinds:
        kind["count"] = max(round(kind["count"] * factor), 1)
    return float(sum(kind["count"] for kind in kinds) / before)


def _scale_pools(content: dict[str, Any], factor: float) -> None:
    """Scale the pools that the scenario sizes, and bound contexts by the smallest of them."""
    block_size = content["engine"]["block_size_tokens"]
    pools = []
    for node in content["cluster"]["nodes"]:
        for instance in node["instances"]:
            if instance["kv_blocks"] is not None:
                instance["kv_blocks"] = max(int(instance["kv_blocks"] * factor), 1)
                pools.append(instance["kv_blocks"] * block_size)
    longest = content["workload"]["max_context_tokens"]
    if longest and pools:
        fits = int(_ROOM_IN_POOL * min(pools))
        content["workload"]["max_context_tokens"] = min(longest, fits)


def _scale_load(arrivals: dict[str, Any], factor: float) -> None:
    for stage in [arrivals, *(arrivals.get("stages") or [])]:
        if stage.get("rate_per_s") is not None:
            stage["rate_per_s"] *= factor
    if arrivals.get("concurrency") is not None:
        arrivals["concurrency"] = max(round(arrivals["concurrency"] * factor), 1)


def _log_uniform(draw: Random, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return exp(draw.uniform(log(low), log(high)))
