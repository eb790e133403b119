"""What the features of learned parts look like over the benchmark's cells."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import NamedTuple

from agentserve_gym.baselines.learned.weights import GAP, LAYOUT, MEMBER, ORDER, SITUATION, TURN

CONSTANT = "one"
"""The feature that is always 1."""

KINDS: dict[str, tuple[str, ...]] = {
    "situation": SITUATION, "turn": TURN, "order": ORDER, "member": MEMBER, "gap": GAP,
}  # fmt: skip


class Look(NamedTuple):
    """Of a feature: its mean, and its standard deviation."""

    mean: float
    deviation: float


def looks(group: str, name: str) -> Look | None:
    """Of the feature that a weight multiplies; ``None`` for a weight that multiplies none."""
    kinds = [kind for kind in kinds_of(group) if name in KINDS[kind] and name != CONSTANT]
    return _measured()[kinds[0]][name] if kinds else None


def kinds_of(group: str) -> list[str]:
    """Of which kinds a group's features are."""
    return [kind for kind, names in KINDS.items() if set(names) <= set(LAYOUT[group])]


@cache
def _measured() -> dict[str, dict[str, Look]]:
    """By kind and name, as ``python -m tools.learning_features`` measured them."""
    text = (resources.files(__package__) / "features.toml").read_text(encoding="utf-8")
    return {
        kind: {name: Look(*look) for name, look in table.items()}
        for kind, table in tomllib.loads(text).items()
    }
