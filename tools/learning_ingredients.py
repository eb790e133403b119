"""Of docs/learning.md: what each thing that the general policy counts is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentserve_gym.baselines.learned.weights import (
    LAYOUT,
    SITUATION,
    TURN,
    changed_weights,
    load_weights,
    save_weights,
)
from agentserve_gym.bench.study import Study
from agentserve_gym.bench.suite import Suite
from agentserve_gym.report.markdown import change, code, plural, text_table
from tools.learning_limits import over_cells
from tools.learning_studies import GENERAL, general_parts_suite

SEEDS = 8


@dataclass(frozen=True, slots=True)
class Ingredient:
    """Something that the general policy counts, and the weights that make it count nothing."""

    name: str
    without: Mapping[str, Mapping[str, float]]


def _none_of(groups: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {group: {name: 0.0 for name in names if name in LAYOUT[group]} for group in groups}


_GATES = ("admit", "pause_above", "room")
_COUNTED_APART = ("one", "spill", "idle")
INGREDIENTS = {
    "evicted": Ingredient("routing: contexts that a turn evicts", _none_of(["route"], ["evicted"])),
    "imposed": Ingredient(
        "routing: the delay of turns that are there", _none_of(["route"], ["imposed"])
    ),
    "step": Ingredient(
        "routing: the time of a step that a turn joins", _none_of(["route"], ["step"])
    ),
    "spill": Ingredient("gate: wider where lower tiers hold more", _none_of(_GATES, ["spill"])),
    "idle": Ingredient("gate: opens where instances idle", _none_of(_GATES, ["idle"])),
    "rest": Ingredient(
        "gate: everything else about cluster and turn",
        _none_of(_GATES, [name for name in (*SITUATION, *TURN) if name not in _COUNTED_APART]),
    ),
    "uncached": Ingredient("release: what must be computed", _none_of(["release"], ["uncached"])),
    "age": Ingredient("release: age", _none_of(["release"], ["age"])),
    "service": Ingredient(
        "release: service that is expected to be left",
        _none_of(["release"], ["turns_left", "served", "turns_done"]),
    ),
    "yield": Ingredient("gate: those let in yield between turns", {"yield": {"one": 5.0}}),
    "queue": Ingredient("queues: shortest prefill first", _none_of(["queue"], ["uncached"])),
    "copies": Ingredient(
        "residency: copies in lower tiers", {"place_warm": {"one": -1.0}, "copy_far": {"one": -1.0}}
    ),
}
"""Of the general weights, by the name of the file of weights that lack it."""


def ingredients_suite() -> Suite:
    """Every cell of the standard suite that is not light, under weights that lack something.

    Raises:
        ValueError: the files of these weights are not there.
    """
    labels = [*(lacking(name) for name in INGREDIENTS), GENERAL]
    part = general_parts_suite().only([], labels, SEEDS)
    return part.model_copy(update={"name": "ingredients of the general policy"})


def lacking(ingredient: str) -> str:
    """The general policy without it; its weights lie below the repository."""
    return f"learned(weights={lacking_file(ingredient)})"


def lacking_file(ingredient: str) -> str:
    """Where these weights are."""
    return f"runs/learning/ingredients/without-{ingredient}.json"


def write_lacking(ingredient: str) -> None:
    """Write these weights."""
    weights = changed_weights(load_weights("general"), INGREDIENTS[ingredient].without)
    path = Path(lacking_file(ingredient))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, weights, {"general, without": INGREDIENTS[ingredient].name})


def ingredients_section(without: Study) -> str:
    """What each thing that the general policy counts is worth."""
    rows = []
    for name, ingredient in INGREDIENTS.items():
        lacks = lacking(name)
        worst = max(without.cells, key=lambda cell: cell.against(lacks, GENERAL).value)
        rows.append(
            (
                ingredient.name,
                change(over_cells(without.cells, lacks, GENERAL)),
                code(worst.name),
                change(worst.against(lacks, GENERAL)),
            )
        )
    seeds = plural(min(len(cell.seeds) for cell in without.cells), "seed")
    return (
        f"### What {code(GENERAL)} counts\n\nMean JCT in {plural(len(without.cells), 'cell')} of "
        f"the standard suite on {seeds}, when one thing counts no more and all other weights stay: "
        "above 0 is what it is worth. Nothing is trained again.\n\n"
        f"{text_table(('without', 'mean JCT', 'most in', 'there'), rows)}"
    )
