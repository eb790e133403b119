"""Whose state is whose: nobody reaches for what another part keeps to itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentserve_gym
from agentserve_gym.sim.kernel.copying import fields_of
from agentserve_gym.sim.kernel.programs import TurnState

PACKAGE = Path(agentserve_gym.__file__).parent
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

OWN = {"self", "cls"}

NAMED_TUPLES = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}
"""What Python documents of every named tuple."""

OTHER_LIBRARIES = {
    "scale/processes.py": {"_exit"},
    "sim/environment.py": {"_ok", "_value"},
    "train/sb3_policies.py": {"_get_constructor_parameters"},
}
"""Names of other libraries that they offer no other way to: os, SimPy and Stable-Baselines3."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in OWN


def reached_for(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Private attributes of anything but ``self`` and ``cls``: line and name, also where the name
    is handed to ``getattr`` and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called.strip("_") not in {"attrgetter", "delattr", "getattr", "hasattr", "setattr"}:
                continue
            if called != "attrgetter" and node.args and is_own(node.args[0]):
                continue
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from (
                        (node.lineno, name)
                        for name in argument.value.split(".")
                        if is_private(name)
                    )


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("turn._plan", ["_plan"]),
        ("self._turn._plan", ["_plan"]),
        ("a.b._x = 1", ["_x"]),
        ("del turns[0]._x", ["_x"]),
        ("getattr(turn, '_plan')", ["_plan"]),
        ("object.__setattr__(turn, '_x', 1)", ["_x"]),
        ("operator.attrgetter('turn._plan')", ["_plan"]),
        ("self._plan, cls._known, turn.__class__", []),
        ("getattr(self, '_plan')", []),
    ],
)
def test_the_check_sees_every_way_to_reach_for_an_attribute(source: str, names: list[str]) -> None:
    assert [name for _, name in reached_for(ast.parse(source))] == names


@pytest.mark.parametrize("name", MODULES)
def test_nobody_reads_what_another_keeps_to_itself(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    allowed = NAMED_TUPLES | OTHER_LIBRARIES.get(name, set())
    assert [found for found in reached_for(tree) if found[1] not in allowed] == []


@pytest.mark.parametrize("name", OTHER_LIBRARIES)
def test_every_exception_is_needed(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert OTHER_LIBRARIES[name] <= {found for _, found in reached_for(tree)}


FACTS = set(fields_of(TurnState))
"""What is known of a turn when it is released."""


def facts_assigned(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Assignments to a fact of a turn, whoever holds the turn: line and name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in FACTS:
            continue
        holder = node.value
        name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
        if name.lstrip("_") == "turn" and not isinstance(node.ctx, ast.Load):
            yield node.lineno, node.attr


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("turn.ready_s = 1.0", ["ready_s"]),
        ("request.turn.prompt_tokens += 1", ["prompt_tokens"]),
        ("self._turn.number, x = 0, 1", ["number"]),
        ("del turn.program", ["program"]),
        ("turn.offers = 1; request.program = turn.program; x = turn.ready_s", []),
    ],
)
def test_the_check_sees_every_way_to_assign_a_fact(source: str, names: list[str]) -> None:
    assert [name for _, name in facts_assigned(ast.parse(source))] == names


@pytest.mark.parametrize("name", [name for name in MODULES if name != "sim/kernel/programs.py"])
def test_nobody_changes_the_facts_of_a_turn(name: str) -> None:
    """No declaration forbids it: what is final cannot be set when a compiled turn is copied."""
    assert list(facts_assigned(ast.parse(MODULES[name].read_text(encoding="utf-8")))) == []
