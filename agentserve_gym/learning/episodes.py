"""Episodes of training: a cell, perhaps with another load and other pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from agentserve_gym.baselines import NamedPolicy, drive
from agentserve_gym.bench.suite import find_scenario, load_suite, with_trace
from agentserve_gym.learning.recipe import Recipe, Variation
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from agentserve_gym.sim.kernel.randomness import mix

FIRST_TRAINING_SEED = 2**20
"""As in the environments: below it are the seeds that policies are chosen and judged by."""
FIRST_SELECTION_SEED = 500_000
MOST_ANSWERS_A_TURN = 16
"""A run with more is cut off: a gate that holds nearly everything is asked over and over."""
_FEW_ANSWERS = 20_000
_ROOM_IN_POOL = 0.9


@dataclass(frozen=True, slots=True)
class Episode:
    """What is played: a scenario to its end, and a seed; of which ``cell``."""

    cell: int
    scenario: Scenario
    seed: int


class Episodes:
    """The episodes of a recipe."""

    def __init__(self, recipe: Recipe, traces: Path | None = None) -> None:
        """Find the cells.

        Raises:
            ValueError: for an unknown suite or scenario.
        """
        suite = load_suite(recipe.suite, traces)
        if recipe.cells:
            cells = suite.only(recipe.cells, [], None).cells
        else:
            cells = [cell for cell in suite.cells if cell.load != "light"]
        self._recipe = recipe
        self.names = [cell.scenario for cell in cells]
        self._scenarios = [with_trace(find_scenario(name), traces) for name in self.names]

    def training(self, update: int) -> list[Episode]:
        """One a pair, every cell about as often as the others."""
        order = Random(f"{self._recipe.seed} {update}")
        numbers = list(range(len(self._scenarios)))
        chosen: list[int] = []
        while len(chosen) < self._recipe.pairs:
            order.shuffle(numbers)
            chosen += numbers
        episodes = []
        for pair, number in enumerate(chosen[: self._recipe.pairs]):
            drawn = mix(self._recipe.seed, update, pair) % (2**31 - FIRST_TRAINING_SEED)
            seed = FIRST_TRAINING_SEED + drawn
            played = varied(self._scenarios[number], self._recipe.variation, seed)
            episodes.append(Episode(number, played, seed))
        return episodes

    def selection(self) -> list[Episode]:
        """The same ones whenever it is asked: every cell as it is, on a few seeds."""
        first = FIRST_SELECTION_SEED
        return self.on_seeds(range(first, first + self._recipe.selection_seeds))

    def on_seeds(self, seeds: Sequence[int]) -> list[Episode]:
        """Every cell as it is on each of the seeds."""
        return [
            Episode(number, scenario, seed)
            for number, scenario in enumerate(self._scenarios)
            for seed in seeds
        ]


def varied(scenario: Scenario, variation: Variation, seed: int) -> Scenario:
    """The scenario with another load and other pools, or as it is; drawn by ``seed``."""
    draw = Random(f"variation {seed}")
    if draw.random() >= variation.share:
        return scenario
    load, pool = (_log_uniform(draw, bounds) for bounds in (variation.load, variation.pool))
    content = scenario.model_dump(mode="json")
    _scale_load(content["arrivals"], load)
    if scenario.workload.kind == "generated":  # recorded contexts might not fit a smaller pool
        _scale_pools(content, pool)
    return load_scenario(content)


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


def episode_cost(episode: Episode, policy: NamedPolicy, tail: float) -> float:
    """log mean JCT + ``tail`` x log p99 JCT, of every program.

    A run that is cut off costs as if what has arrived had taken twice as long as it has so far.
    """
    simulation = Simulation(episode.scenario, episode.seed)
    metrics = simulation.metrics
    cut_off = 0.0
    for answers, _ in enumerate(drive(simulation, policy), start=1):
        if answers > _FEW_ANSWERS and answers > MOST_ANSWERS_A_TURN * len(metrics.ttft_s):
            cut_off = log(2.0)
            break
    jct_s = metrics.jct_s + simulation.orchestrator.times_so_far()[0]
    return cut_off + log(np.mean(jct_s)) + tail * log(np.percentile(jct_s, 99))
