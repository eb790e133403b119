"""A training by a recipe, in one folder.

runs/NAME/recipe.json    everything that was set
          updates.jsonl  what every pair cost, update by update, and the comparisons between them
          weights.json   the best weights by these comparisons: ``learned(weights=..)`` reads them
          tracking.json  which services it is logged to, where it is

What is learned follows from the recipe and these costs alone, so a run that was stopped goes on by
going through them once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from math import expm1
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import agentserve_gym
from agentserve_gym.baselines.learned.parts import learned_policy, watch_scores
from agentserve_gym.baselines.learned.weights import (
    Weights,
    from_vector,
    save_weights,
)
from agentserve_gym.files import drop_partial_line, write_file
from agentserve_gym.learning.episodes import Episode, Episodes, episode_cost
from agentserve_gym.learning.evolution import Evolution
from agentserve_gym.learning.features import Look, Vector, Watcher, pooled, scaled
from agentserve_gym.learning.history import (
    RECIPE,
    UPDATES,
    Comparison,
    compared,
    measured,
    noted_lines,
    read_recipe,
)
from agentserve_gym.learning.recipe import Recipe
from agentserve_gym.report.page import current_commit
from agentserve_gym.scale import InThisProcess, Workers, in_order
from agentserve_gym.tracking import NOT_LOGGED, LogTo, Tracker, note_log, open_tracker

WEIGHTS = "weights.json"
T = TypeVar("T")

Report = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run ended with: the kept comparison, and how long it took in all."""

    recipe: Recipe
    kept: Comparison
    wall_s: float


def train_recipe(
    recipe: Recipe, run: Path, workers: Workers, report: Report, traces: Path | None = None,
    log: LogTo = NOT_LOGGED,
) -> Trained:  # fmt: skip
    """Train in a new folder.

    Args:
        log: the services that the run is logged to, also when it is resumed.

    Raises:
        ValueError: if the folder holds a run already, or a cell is unknown.
    """
    if (run / RECIPE).exists():
        raise ValueError(f"{run} holds a run already; resume it, or choose another folder")
    episodes = Episodes(recipe, traces)
    run.mkdir(parents=True, exist_ok=True)
    write_file(run / RECIPE, json.dumps(recipe.model_dump(mode="json"), indent=1) + "\n")
    note_log(run, log)
    return _Training(recipe, run, episodes).go(workers, report)


def resume_recipe(
    run: Path, workers: Workers, report: Report, traces: Path | None = None
) -> Trained:
    """Go on with a run that was stopped.

    Raises:
        ValueError: if the folder holds no such run, or its costs are not this recipe's.
    """
    recipe = read_recipe(run)
    return _Training(recipe, run, Episodes(recipe, traces)).go(workers, report)


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One of several trainings that differ in their seeds, as a worker gets it."""

    recipe: Recipe
    run: Path
    log: LogTo = NOT_LOGGED


def finish_recipe(task: SeedRun) -> Trained:
    """What a training ended with that is begun, gone on with, or finished already, as the folder
    has it. Its episodes are played one after the other.

    Raises:
        ValueError: if the folder holds a run of another recipe.
    """
    here = InThisProcess()
    if not (task.run / RECIPE).is_file():
        return train_recipe(task.recipe, task.run, here, _silent, log=task.log)
    if read_recipe(task.run) != task.recipe:
        raise ValueError(f"{task.run} holds a run of another recipe; choose another folder")
    return resume_recipe(task.run, here, _silent)


def _silent(what: str, done: int, total: int) -> None:
    """A ``Report`` that says nothing."""


class _Training:
    def __init__(self, recipe: Recipe, run: Path, episodes: Episodes) -> None:
        self._recipe, self._run, self._episodes = recipe, run, episodes
        self._start = recipe.first_weights().vector()
        self._evolution: Evolution
        self._start_costs: list[float] = []
        self._begun_by: dict[str, str | None] = {}
        self._kept: Comparison | None = None
        self._wall_s = 0.0

    def go(self, workers: Workers, report: Report) -> Trained:
        """Go through what was noted, then on to the last update."""
        for line in self._noted():
            self._apply(line)
        if not self._start_costs or self._evolution.updates < self._recipe.updates:
            config = {**self._recipe.model_dump(mode="json"), **_made_by()}
            with open_tracker(self._run, self._recipe.run_name, config) as tracker:
                self._go_on(workers, report, tracker)
        assert self._kept is not None
        return Trained(self._recipe, self._kept, self._wall_s)

    def _go_on(self, workers: Workers, report: Report, tracker: Tracker) -> None:
        """Measure the start where nothing was noted yet, then update to the last update."""

        def play(function: Callable[[Task], T], tasks: list[Task], what: str) -> list[T]:
            return in_order(workers, function, tasks, lambda ended: report(what, ended, len(tasks)))

        def cost(tasks: list[Task], what: str) -> list[float]:
            return play(task_cost, tasks, what)

        if not self._start_costs:
            tasks = self._selection_tasks(np.array(self._start))
            costs, looks = zip(*play(task_look, tasks, "start: episodes"), strict=True)
            seeds = self._recipe.selection_seeds
            of_cells = [
                pooled(looks[first : first + seeds]) for first in range(0, len(looks), seeds)
            ]
            self._note({"start": list(costs), "looks": of_cells, "made_by": _made_by()})
            self._log({"update": 0, "selection": self._start_costs}, tracker)
        while self._evolution.updates < self._recipe.updates:
            self._log(self._one_update(cost), tracker)
        assert self._kept is not None
        tracker.summarize(
            {
                "kept/update": self._kept.update,
                "kept/change": expm1(self._kept.change),
                "wall_s": self._wall_s,
            }
        )

    def _log(self, line: dict[str, Any], tracker: Tracker) -> None:
        tracker.log(measured(line, self._start_costs, self._episodes.names), line["update"])

    def _one_update(self, cost: Callable[[list[Task], str], list[float]]) -> dict[str, Any]:
        """One update, and a comparison where it is time for one; returns what was noted."""
        began = time.perf_counter()
        number = self._evolution.updates + 1
        what = f"update {number} of {self._recipe.updates}: episodes"
        tasks = []
        pairs = self._evolution.pairs()
        episodes = self._episodes.training(number)
        for episode, pair in zip(episodes, pairs, strict=True):
            tasks += [Task(episode, vector, self._recipe.tail) for vector in pair]
        costs = cost(tasks, what)
        cells = [episode.cell for episode in episodes]
        line: dict[str, Any] = {"update": number, "cells": cells, "costs": _in_pairs(costs)}
        self._evolution.update(cells, line["costs"])
        if number % self._recipe.select_every == 0 or number == self._recipe.updates:
            tasks = self._selection_tasks(self._evolution.weights)
            line["selection"] = cost(tasks, f"after update {number}: episodes")
        line["wall_s"] = round(time.perf_counter() - began, 3)
        self._write(line)
        self._compare(line)
        return line

    def _selection_tasks(self, weights: Vector) -> list[Task]:
        tail = self._recipe.tail
        return [Task(episode, weights, tail) for episode in self._episodes.selection()]

    def _apply(self, line: dict[str, Any]) -> None:
        """Learn from a noted line.

        Raises:
            ValueError: if it is not the next one of this recipe.
        """
        if "start" in line:
            self._start_costs = line["start"]
            look = scaled(line["looks"], self._recipe.scale_vector())
            self._evolution = Evolution(self._recipe, self._start, look)
            self._begun_by = line["made_by"]
            self._compare({"update": 0, "selection": line["start"], "wall_s": 0.0})
            return
        if line["update"] != self._evolution.updates + 1:
            raise ValueError(f"{self._run / UPDATES}: update {line['update']} is out of order")
        self._evolution.update(line["cells"], line["costs"])
        self._compare(line)

    def _note(self, line: dict[str, Any]) -> None:
        self._write(line)
        self._apply(line)

    def _compare(self, line: dict[str, Any]) -> None:
        """Keep the present weights if they are the best so far."""
        self._wall_s += line["wall_s"]
        if "selection" not in line:
            return
        names = self._episodes.names
        found = compared(line["update"], line["selection"], self._start_costs, names)
        if self._kept is None or found.change < self._kept.change:
            self._kept = found
            save_weights(self._run / WEIGHTS, self._weights(), self._about(found))

    def _weights(self) -> Weights:
        return from_vector(self._evolution.weights.tolist(), self._recipe.name)

    def _about(self, found: Comparison) -> dict[str, Any]:
        return {
            "recipe": self._recipe.name,
            "cells": self._episodes.names,
            "selection": asdict(found),
            **self._begun_by,
        }

    def _noted(self) -> Iterable[dict[str, Any]]:
        """What was noted so far, in a file that ends with it."""
        drop_partial_line(self._run / UPDATES)
        return noted_lines(self._run)

    def _write(self, line: dict[str, Any]) -> None:
        with (self._run / UPDATES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclass(frozen=True, slots=True)
class Task:
    """An episode under some weights, as a worker gets it."""

    episode: Episode
    weights: Vector
    tail: float


def task_cost(task: Task) -> float:
    """What it costs."""
    policy = learned_policy(from_vector(task.weights.tolist(), "in training"))
    return episode_cost(task.episode, policy, task.tail)


def task_look(task: Task) -> tuple[float, Look]:
    """What it costs, and what the features of its decisions look like."""
    policy = learned_policy(from_vector(task.weights.tolist(), "in training"))
    watcher = Watcher()
    watch_scores(policy, watcher)
    return episode_cost(task.episode, policy, task.tail), watcher.look()


def _made_by() -> dict[str, str | None]:
    """The version that begins a run; to go on with another one does not make it that one's."""
    return {"version": agentserve_gym.__version__, "commit": current_commit()}


def _in_pairs(costs: list[float]) -> list[tuple[float, float]]:
    return list(zip(costs[::2], costs[1::2], strict=True))
