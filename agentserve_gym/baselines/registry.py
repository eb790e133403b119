"""The parts that exist: found by importing every module of the family packages.

A new policy is one class with ``@register`` in one module of ``routing``, ``residency``,
``admission``, ``scheduling``, ``oracles`` or ``learned``; nothing else needs to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

from agentserve_gym.baselines.parts import Part

FAMILIES = ("routing", "residency", "admission", "scheduling")
_PACKAGES = (*FAMILIES, "oracles", "learned")
_PARTS: dict[str, type[Part]] = {}
_BUNDLES: dict[str, Bundle] = {}

AnyPart = TypeVar("AnyPart", bound=type[Part])


@dataclass(frozen=True, slots=True)
class Bundle:
    """A published system as the parts that its authors use together."""

    name: str
    parts: str
    rule: str
    source: str


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """One line of a listing.

    Attributes:
        name, family: the part (or ``bundle``, or ``user`` for entry points).
        rule, source: what it does, and who published it.
        parameters: name -> default.
        is_oracle: whether it knows what no live system could.
        events: its mechanism counters, the defining one first.
    """

    name: str
    family: str
    rule: str
    source: str
    parameters: dict[str, Any]
    is_oracle: bool
    events: tuple[str, ...] = ()


def register(
    name: str, rule: str, source: str, events: tuple[str, ...] = ()
) -> Callable[[AnyPart], AnyPart]:
    """Make a part known under a name.

    Raises:
        ValueError: if the name is taken.
    """

    def add(part: AnyPart) -> AnyPart:
        if name in _PARTS or name in _BUNDLES:
            raise ValueError(f"a policy named {name!r} exists already")
        part.name, part.rule, part.source, part.events = name, rule, source, events
        _PARTS[name] = part
        return part

    return add


def register_bundle(name: str, parts: str, rule: str, source: str) -> None:
    """Make a combination of parts known under a name of its own."""
    _BUNDLES[name] = Bundle(name, parts, rule, source)


@cache
def known_parts() -> dict[str, type[Part]]:
    """Every registered part by name, family by family."""
    _import_families()
    order = {family: position for position, family in enumerate(FAMILIES)}
    return dict(sorted(_PARTS.items(), key=lambda item: order[item[1].family]))


@cache
def known_bundles() -> dict[str, Bundle]:
    """Every registered bundle by name."""
    _import_families()
    return dict(_BUNDLES)


def _import_families() -> None:
    for family in _PACKAGES:
        package = importlib.import_module(f"agentserve_gym.baselines.{family}")
        for module in sorted(entry.name for entry in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{package.__name__}.{module}")


def part_info(part: type[Part]) -> PolicyInfo:
    """How a part is listed."""
    parameters = {parameter.name: parameter.default for parameter in fields(part)}
    return PolicyInfo(
        part.name, part.family, part.rule, part.source, parameters, part.is_oracle, part.events
    )


def bundle_info(bundle: Bundle) -> PolicyInfo:
    """How a bundle is listed."""
    rule = f"{bundle.rule} (= {bundle.parts})"
    return PolicyInfo(bundle.name, "bundle", rule, bundle.source, {}, False)
