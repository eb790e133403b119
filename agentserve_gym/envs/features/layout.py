"""Where each feature lies in the flat observation, and the documentation of all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from agentserve_gym.envs.features import table
from agentserve_gym.envs.features.feature import Each, Feature

DEFAULT_PIN_TTLS_S = (2.0, 20.0)
DEFAULT_TIERS = ("dram",)


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
        self.groups: dict[str, tuple[Feature, ...]] = {
            "decision": self._named(table.DECISION),
            "program": self._named(table.PROGRAM),
            "tools": self._named(table.TOOLS),
            "global": self._named(table.GLOBAL),
        }
        self.dynamic = self._named(table.INSTANCE)
        self.static = self._named(table.STATIC)
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

    def _named(self, features: Sequence[Feature]) -> tuple[Feature, ...]:
        """Entries of the table, those for each tier or pin TTL repeated for all of them."""
        words: dict[Each, list[dict[str, object]]] = {
            "": [{}],
            "tier": [{"tier": tier, "TIER": tier.upper()} for tier in self.tiers],
            "ttl": [{"ttl": ttl, "ttl_s": ttl_s} for ttl, ttl_s in enumerate(self.pin_ttls_s)],
        }
        found: list[Feature] = []
        for each, entries in groupby(features, key=attrgetter("each")):
            neighbours = tuple(entries)
            for of_one in words[each]:
                found += [feature.named(**of_one) for feature in neighbours]
        return tuple(found)


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
