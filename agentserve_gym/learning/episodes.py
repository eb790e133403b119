"""Episodes of training: which cells, as they are or varied, on which seeds, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from random import Random

import numpy as np

from agentserve_gym.baselines import NamedPolicy, drive
from agentserve_gym.bench.suite import find_scenario, load_suite
from agentserve_gym.learning.recipe import Recipe
from agentserve_gym.learning.variation import varied
from agentserve_gym.sim import Scenario, Simulation
from agentserve_gym.sim.kernel.randomness import mix
from agentserve_gym.sim.loading import with_trace

FIRST_TRAINING_SEED = 2**20
"""As in the environments: below it are the seeds that policies are chosen and judged by."""
FIRST_SELECTION_SEED = 500_000
MOST_ANSWERS_A_TURN = 16
"""A run with more is cut off: a gate that holds nearly everything is asked over and over."""
_FEW_ANSWERS = 20_000


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
