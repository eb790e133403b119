"""The floors of the house: who may import whom, read from the source itself."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentserve_gym

PACKAGE = Path(agentserve_gym.__file__).parent
NAME = PACKAGE.name

FLOORS = (
    {"hardware.pricing", "workloads", "report", "scale", "tracking"},
    {"hardware", "sim.kernel"},
    {"sim", "calibration"},
    {"baselines", "envs.features"},
    {"envs", "plots", "timeline", "watch"},
    {"train"},
    {"bench", "validation"},
    {"leaderboard", "learning"},
    {"tuning"},
    {"cli"},
)
"""Rooms from the ground up; a room imports only rooms of lower floors."""

GROUND = {"compiled", "datasets", "extras", "files", "messages", "tables"}
"""Single modules that any room may import; they import no room."""

INNER_ROOMS = ("envs.features", "hardware.pricing", "sim.kernel")
"""Rooms inside rooms."""

READ_ALONE = {
    "hardware.pricing": {"hardware.pricing"},
    "sim.kernel": {"sim.kernel", "hardware.pricing", "workloads"},
    "envs.features": {"envs.features", "sim", "sim.kernel", "hardware.pricing"},
}
"""Rooms that import nothing of `HEAVY`, and of the package only these."""

HEAVY = {"pydantic", "simpy", "numpy", "gymnasium"}


COMPILED = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "agentserve"
]["compiled"]["modules"]


def modules() -> dict[str, Path]:
    """Every module's dotted name below the package, and its file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """What a module imports, annotations and functions included; relative ones made absolute."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([NAME, *above, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner.removeprefix(f"{NAME}.") in MODULES else base


def own(name: str) -> set[str]:
    """Modules of the package that a module imports, by name below the package."""
    found = {found for found in imports(name) if found.split(".")[0] == NAME}
    return {item.removeprefix(f"{NAME}.") for item in found if item != NAME}


def room(module: str) -> str:
    inner = [name for name in INNER_ROOMS if f"{module}.".startswith(f"{name}.")]
    return inner[0] if inner else module.split(".")[0]


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return number
    raise AssertionError(f"{module} is in no room of FLOORS; give it one")


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] not in GROUND])
def test_rooms_import_only_downward(name: str) -> None:
    if "." not in name and name in (NAME, "", "__init__"):
        return
    for imported in own(name):
        if imported in GROUND or room(imported) == room(name):
            continue
        assert floor(imported) < floor(name), f"{name} imports {imported}"


@pytest.mark.parametrize("name", sorted(GROUND))
def test_ground_modules_import_no_room(name: str) -> None:
    assert own(name) <= GROUND


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) in READ_ALONE])
def test_the_inner_rooms_read_alone(name: str) -> None:
    outside = {found.split(".")[0] for found in imports(name)} & HEAVY
    assert not outside
    rooms = {room(imported) for imported in own(name)}
    assert rooms <= READ_ALONE[room(name)]


def compiled_modules() -> list[str]:
    return [
        name
        for name, path in MODULES.items()
        if path.name != "__init__.py"
        and any(path.relative_to(PACKAGE.parent).match(pattern) for pattern in COMPILED)
    ]


@pytest.mark.parametrize("name", compiled_modules())
def test_compiled_modules_import_compiled_ones_alone(name: str) -> None:
    """To the compiler all others are values of any type, which it handles as slowly as Python."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for_types = {
        node.module
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    known = set(compiled_modules()) | {f"{item}".removeprefix(f"{NAME}.") for item in for_types}
    assert own(name) <= known
    outside = {found.split(".")[0] for found in imports(name)} - {NAME, "mypy_extensions"}
    assert outside <= sys.stdlib_module_names


def test_nothing_imports_in_a_circle() -> None:
    """A package's ``__init__`` gathers what is below it, so only modules count."""
    graph = {name: own(name) - {name} for name in MODULES if MODULES[name].name != "__init__.py"}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done or name not in graph:
            return
        for imported in sorted(graph[name]):
            visit(imported, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())
