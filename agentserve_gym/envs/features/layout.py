"""Where each feature lies in the flat observation, and the documentation of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from agentserve_gym.envs.features import table
from agentserve_gym.envs.features.feature import Feature

DEFAULT_PIN_TTLS_S = (2.0, 20.0)
DEFAULT_TIERS = ("dram",)

_Thing = TypeVar("_Thing", str, float)


class ObservationLayout:
    """Where each feature lies in the flat observation.

    Attributes:
        features: every feature in order of the vector.
        size: length of the vector.
        groups: features of each group that occurs once, in order.
        pin_ttls_s: for which there are features.
        tiers: names of the lower tiers that it has room for.
        dynamic, static: features of an instance that do and do not change within an episode; a
            row has them one after the other.
        max_instances: rows at the end, from ``instances_start`` on.
    """

    def __init__(
        self, max_instances: int, pin_ttls_s: Sequence[float], tiers: Sequence[str]
    ) -> None:
        self.max_instances = max_instances
        self.pin_ttls_s = tuple(pin_ttls_s)
        self.tiers = tuple(tiers)
        tiers_of, ttls_of = partial(_each, self.tiers), partial(_each, self.pin_ttls_s)
        self.groups: dict[str, tuple[Feature, ...]] = {
            "decision": table.DECISION,
            "program": table.PROGRAM + tiers_of(table.program_tier),
            "tools": table.TOOLS
            + ttls_of(table.kind_ttl)
            + table.OVERALL
            + ttls_of(table.overall_ttl),
            "global": table.GLOBAL + tiers_of(table.global_tier),
        }
        self.dynamic = table.INSTANCE + tiers_of(table.instance_tier)
        self.static = table.STATIC + tiers_of(table.static_tier)
        self.row = self.dynamic + self.static
        single = [feature for features in self.groups.values() for feature in features]
        self.instances_start = len(single)
        self.features: tuple[Feature, ...] = (*single, *(self.row * max_instances))
        self.size = len(self.features)

    def slices(self) -> dict[str, slice]:
        """Name to slice: every group, ``instances`` as a whole, ``instance_<i>`` as a row, and each
        feature as ``<group>.<feature>`` or ``instance_<i>.<feature>``."""
        found: dict[str, slice] = {}
        start = 0
        for group, features in self.groups.items():
            start = _add_group(found, group, features, start)
        found["instances"] = slice(start, self.size)
        for number in range(self.max_instances):
            start = _add_group(found, f"instance_{number}", self.row, start)
        return found


def _each(
    things: Sequence[_Thing], features: Callable[[int, _Thing], tuple[Feature, ...]]
) -> tuple[Feature, ...]:
    """The features of each tier or pin TTL, one after the other."""
    return tuple(chain.from_iterable(features(i, thing) for i, thing in enumerate(things)))


def _add_group(found: dict[str, slice], name: str, features: Sequence[Feature], start: int) -> int:
    stop = start + len(features)
    found[name] = slice(start, stop)
    for offset, feature in enumerate(features):
        found[f"{name}.{feature.name}"] = slice(start + offset, start + offset + 1)
    return stop


def observation_table(
    pin_ttls_s: Sequence[float] = DEFAULT_PIN_TTLS_S, tiers: Sequence[str] = DEFAULT_TIERS
) -> str:
    """Documentation of every feature: name, rule with unit and full scale, meaning."""
    layout = ObservationLayout(1, pin_ttls_s, tiers)
    groups: dict[str, Sequence[Feature]] = {**layout.groups, "instance_<i>": layout.row}
    lines: list[str] = []
    for group, features in groups.items():
        lines.append(f"{group}:")
        lines.extend(f"    {f.name} [{f.rule}]: {f.text}" for f in features)
    return "\n".join(lines)
