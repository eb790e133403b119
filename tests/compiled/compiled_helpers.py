"""The compiled modules and their classes, and every object that a simulation is made of."""

from __future__ import annotations

import gc
import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import agentserve_gym
from agentserve_gym.compiled import running

ROOT = Path(agentserve_gym.__file__).parents[1]
PATTERNS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "agentserve"
]["compiled"]["modules"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for pattern in PATTERNS
    for path in ROOT.glob(pattern)
    if path.name != "__init__.py"
)

SHARED = (type, ModuleType, FunctionType, Enum, str, bytes, int, float)
"""What no part of a simulation has for itself."""


def native_classes() -> list[type]:
    """Classes that compiling makes native; interpreted, all but those that never are."""
    found = [
        value
        for name in MODULES
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and value.__module__ == name
    ]
    if running() is not None:
        return [cls for cls in found if "__mypyc_attrs__" in vars(cls)]
    return [cls for cls in found if not issubclass(cls, Enum | tuple)]


def parts_of(thing: Any) -> Iterator[Any]:
    """Every object that a thing leads to, itself first."""
    seen = {id(thing)}
    todo = [thing]
    while todo:
        part = todo.pop()
        yield part
        for inner in gc.get_referents(part):
            if id(inner) not in seen and not isinstance(inner, SHARED):
                seen.add(id(inner))
                todo.append(inner)
