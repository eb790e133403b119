"""The weights of a learned policy: named groups of named numbers, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any

from agentserve_gym.files import write_file
from agentserve_gym.messages import shown, unknown

SITUATION = (
    "one", "working_set", "held", "tier", "fit", "gap", "instances", "reuse", "restoring",
    "spill", "idle",
)  # fmt: skip
"""The cluster, see ``Situation.features``."""
TURN = ("hit", "restorable", "first", "size", "turns_done", "waited")
"""A turn at the gate, see ``LearnedAdmission``."""
ORDER = (
    "context", "uncached", "hit", "age", "served", "turns_left", "turns_done", "first", "ready",
)  # fmt: skip
"""A turn in a queue, see ``order_features``."""
MEMBER = ("context", "acting", "elapsed", "turns_done", "turns_left", "served")
"""A program that may be paused, see ``LearnedAdmission``."""
GAP = ("expected_gap", "recompute", "restore", "person", "turns_done", "size")
"""A context that waits for a tool, see ``LearnedResidency``."""
PLACES = ("keep", "pin", "warm", "cold")
"""Where a context may wait."""

LAYOUT: dict[str, tuple[str, ...]] = {
    "route": ("host_credit", "backlog", "evicted", "imposed", "contexts", "step"),
    "route_turns": SITUATION,
    "route_away": SITUATION,
    "admit": (*SITUATION, *TURN),
    "room": SITUATION,
    "pause_above": SITUATION,
    "pause": MEMBER,
    "half_life": SITUATION,
    "release": ORDER,
    "yield": SITUATION,
    "queue": ORDER,
    **{f"place_{place}": (*SITUATION, *GAP) for place in PLACES},
    "copy_far": (*SITUATION, *GAP),
    "pin": ("length",),
    "rank": ("gap", "recompute"),
}
"""Every weight by group and name; vectors are in this order."""

SIZE = sum(len(names) for names in LAYOUT.values())
"""How many weights there are."""

HEURISTIC = "heuristic"
"""The name of the weights that no training made."""

_HEURISTIC = {
    "route": {"evicted": -4.0, "imposed": -4.0},
    "route_turns": {"one": 1.0},
    "admit": {"one": -0.1, "spill": 1.0},
    "pause_above": {"spill": 1.0},
    "pause": {"context": -1.0, "acting": 10.0},
    "half_life": {"one": 0.6},
    "release": {"uncached": 1.0},
    "yield": {"one": 5.0},
    "queue": {"uncached": 1.0, "ready": 0.02},
    "place_pin": {"one": -1.0},
    "place_warm": {"one": 1.0},
    "place_cold": {"one": -1.0},
    "copy_far": {"one": 1.0},
    "pin": {"length": 1.0},
}
"""LMetric in seconds; ThunderAgent's gate, the wider, the more lower tiers hold beyond HBM, and one
by free blocks; shortest prefill at the gate and in queues; write-through to the nearest and to the
farthest tier."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of weights.

    Attributes:
        name: of the file that it came from, or what it is.
        groups: the numbers of each group of ``LAYOUT``, in its order.
    """

    name: str
    groups: Mapping[str, list[float]]

    def vector(self) -> list[float]:
        """All of them, ``SIZE`` numbers."""
        return [value for group in LAYOUT for value in self.groups[group]]

    def as_dict(self) -> dict[str, dict[str, float]]:
        """By group and name."""
        return {
            group: dict(zip(names, self.groups[group], strict=True))
            for group, names in LAYOUT.items()
        }


def from_vector(vector: Sequence[float], name: str) -> Weights:
    """Weights from ``SIZE`` numbers.

    Raises:
        ValueError: for another number of them, or one that is not finite.
    """
    if len(vector) != SIZE:
        raise ValueError(f"weights {name}: {len(vector)} numbers; allowed: {SIZE}")
    groups: dict[str, list[float]] = {}
    start = 0
    for group, names in LAYOUT.items():
        groups[group] = [float(value) for value in vector[start : start + len(names)]]
        start += len(names)
    for group, values in groups.items():
        for key, value in zip(LAYOUT[group], values, strict=True):
            if not isfinite(value):
                raise ValueError(f"weights {name}: {group}.{key} is {value}; allowed: finite")
    return Weights(name, groups)


def heuristic_weights() -> Weights:
    """Those with which the parts are heuristics: what training starts from."""
    return _from_tables(_HEURISTIC, HEURISTIC, complete=False)


def changed_weights(weights: Weights, changes: Mapping[str, Mapping[str, float]]) -> Weights:
    """Weights of which some are others, by group and name.

    Raises:
        ValueError: for a name that there is not, or a number that is not finite.
    """
    tables = weights.as_dict()
    for group, values in changes.items():
        tables[group] = {**tables.get(group, {}), **values}
    return _from_tables(tables, weights.name, complete=True)


def packaged_weights() -> list[str]:
    """Names of the weights that come with the package."""
    folder = resources.files(__package__) / "weights"
    return sorted(item.name.removesuffix(".json") for item in folder.iterdir() if item.is_file())


@cache
def load_weights(name: str) -> Weights:
    """Weights that come with the package, or of a file.

    Args:
        name: of ``packaged_weights``, ``heuristic``, or the path of a JSON file that
            ``save_weights`` wrote.

    Raises:
        ValueError: if there are none of this name, or the file is not complete.
    """
    if name == HEURISTIC:
        return heuristic_weights()
    content = _read(name)
    if not isinstance(content, dict) or not isinstance(content.get("weights"), dict):
        raise ValueError(f"weights {shown(name)}: no table 'weights' in it")
    return _from_tables(content["weights"], name, complete=True)


def about_weights(name: str) -> dict[str, Any]:
    """Where weights come from, as ``save_weights`` was told.

    Raises:
        ValueError: if there are none of this name.
    """
    content = _read(name)
    about = content.get("about") if isinstance(content, dict) else None
    return about if isinstance(about, dict) else {}


def _read(name: str) -> Any:
    if name.endswith(".json"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"weights {shown(name)}: {error.strerror or error}") from error
    elif name in packaged_weights():
        text = (resources.files(__package__) / "weights" / f"{name}.json").read_text("utf-8")
    else:
        hint = unknown("weights", name, [*packaged_weights(), HEURISTIC])
        raise ValueError(f"{hint}; or the path of a .json file")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"weights {shown(name)}: not JSON: {error}") from error


def save_weights(path: Path, weights: Weights, about: Mapping[str, Any]) -> None:
    """Write weights as JSON; ``about`` says where they come from."""
    content = {"about": dict(about), "weights": weights.as_dict()}
    write_file(path, json.dumps(content, indent=1) + "\n")


def _from_tables(tables: Mapping[str, Any], name: str, *, complete: bool) -> Weights:
    """Weights by group and name; left out ones are 0 unless they have to be ``complete``."""
    for group, values in tables.items():
        if group not in LAYOUT or not isinstance(values, dict):
            raise ValueError(f"weights {shown(name)}: {unknown('group', group, list(LAYOUT))}")
        for key in values:
            if key not in LAYOUT[group]:
                known = list(LAYOUT[group])
                raise ValueError(f"weights {shown(name)}: {group}: {unknown('weight', key, known)}")
    vector: list[float] = []
    for group, names in LAYOUT.items():
        for key in names:
            value = tables.get(group, {}).get(key, None if complete else 0.0)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise ValueError(
                    f"weights {shown(name)}: {group}.{key} is {value!r}; allowed: a number"
                )
            vector.append(float(value))
    return from_vector(vector, name)
