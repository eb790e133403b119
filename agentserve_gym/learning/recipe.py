"""Recipes: what a learned policy is trained on, and how, as a file."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from agentserve_gym.baselines.learned.weights import (
    HEURISTIC,
    LAYOUT,
    Weights,
    changed_weights,
    heuristic_weights,
    load_weights,
)
from agentserve_gym.learning.variation import Variation
from agentserve_gym.messages import shown, unknown, validated
from agentserve_gym.sim.scenario import StrictModel
from agentserve_gym.tables import read_table, set_key

SCALES = {
    "route": 0.4, "route.host_credit": 0.15, "route.step": 0.3,
    "route_turns": 0.2, "route_away": 0.2,
    "admit": 0.12, "pause_above": 0.12, "pause": 0.7, "half_life": 0.5, "room": 0.2, "release": 0.4,
    "queue": 0.4, "yield": 0.4,
    "place_keep": 0.0, "place_pin": 0.3, "place_warm": 0.3, "place_cold": 0.3, "copy_far": 0.3,
    "pin": 0.5, "rank": 0.3,
}  # fmt: skip
"""How far a weight has to move, by group or ``group.name``, per standard deviation of what it
multiplies, to change mean JCT over the benchmark's cells about as much as any other; judged by
moving each alone. Only differences of places' values matter, so one of them stays."""


class Recipe(StrictModel):
    """One training.

    Attributes:
        name, description: for listings; the name is that of the run's folder.
        cells: scenarios of the benchmark's suite ``suite``, or any others; none: all of the suite
            that are not light.
        start: packaged weights, ``heuristic`` or a file to start from. ``begin``: weights that
            are other than there, by group and name.
        updates: of the weights. ``pairs``: of episodes for each, played with weights a step away
            from the present ones in opposite directions.
        spread: the step: its standard deviation along each direction, in units of its scale; it
            falls to a fifth over the last two thirds of the updates.
        rate: how far a slope of 1 moves the weights, in the same units; it falls to a tenth towards
            the end.
        scales: what differs from ``SCALES``; 0 leaves a weight as it is.
        tail: weight of log p99 JCT beside log mean JCT.
        variation: of episodes.
        select_every: updates between comparisons on the same ``selection_seeds`` seeds in every
            cell; the best weights are kept.
        seed: of everything that is drawn.
    """

    name: str
    description: str
    suite: str = "standard"
    cells: list[str] = Field(default=[])
    start: str = HEURISTIC
    begin: dict[str, dict[str, FiniteFloat]] = Field(default={})
    updates: PositiveInt = 60
    pairs: PositiveInt = 36
    spread: PositiveFloat = 0.3
    rate: PositiveFloat = 10.0
    scales: dict[str, NonNegativeFloat] = Field(default={})
    tail: NonNegativeFloat = 0.12
    variation: Variation = Variation()
    select_every: PositiveInt = 10
    selection_seeds: PositiveInt = 2
    seed: NonNegativeInt = 0

    @field_validator("start")
    @classmethod
    def _start_exists(cls, start: str) -> str:
        load_weights(start)
        return str(Path(start).resolve()) if start.endswith(".json") else start

    @field_validator("scales")
    @classmethod
    def _scales_name_weights(cls, scales: dict[str, float]) -> dict[str, float]:
        known = [*LAYOUT, *(f"{group}.{name}" for group in LAYOUT for name in LAYOUT[group])]
        for key in scales:
            if key not in known:
                raise ValueError(unknown("weight", key, known))
        return scales

    @field_validator("begin")
    @classmethod
    def _begin_names_weights(
        cls, begin: dict[str, dict[str, float]]
    ) -> dict[str, dict[str, float]]:
        changed_weights(heuristic_weights(), begin)
        return begin

    @property
    def run_name(self) -> str:
        """What a training is called where nobody calls it otherwise."""
        return f"{self.name_without_seed}-{self.seed}"

    @property
    def name_without_seed(self) -> str:
        """What trainings are called together that differ in their seeds alone."""
        return f"recipe-{self.name}"

    def first_weights(self) -> Weights:
        """Those that training starts from."""
        return changed_weights(load_weights(self.start), self.begin)

    def scale_vector(self) -> list[float]:
        """The scale of every weight: the recipe's or the usual one; its own, or its group's."""
        found = []
        for group, names in LAYOUT.items():
            for name in names:
                said = (
                    scales.get(key)
                    for scales in (self.scales, SCALES)
                    for key in (f"{group}.{name}", group)
                )
                found.append(next(scale for scale in said if scale is not None))
        return found


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    folder = resources.files(__package__) / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir())


def load_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """A recipe of the package, or of a .toml or .json file.

    Args:
        changes: settings that differ from the recipe's, such as ``variation.share``.

    Raises:
        ValueError: for an unknown name, or naming each unknown key or bad value.
    """
    if Path(name).suffix in (".toml", ".json"):
        values = read_table(Path(name))
    elif name in recipe_names():
        inside = resources.files(__package__) / "recipes" / f"{name}.toml"
        values = tomllib.loads(inside.read_text(encoding="utf-8"))
    else:
        hint = unknown("recipe", name, recipe_names())
        raise ValueError(f"{hint}; or a .toml or .json file")
    for key, value in (changes or {}).items():
        set_key(values, key, value)
    return make_recipe(values, f"recipe {shown(name)}")


def make_recipe(values: dict[str, Any], where: str) -> Recipe:
    """A recipe from a mapping; ``where`` it was read is named in messages.

    Raises:
        ValueError: naming each unknown key (with the nearest valid one) or bad value.
    """
    return validated(Recipe, values, where)
