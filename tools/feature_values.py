"""Writes what computes every feature from the table of them: ``python -m tools.feature_values``.

Formulas stand in the table as text, each beside its name and scale. Here they become a few plain
functions, which compile; a function for each feature would cost more to call than most features
take.
"""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from agentserve_gym.envs.features import table
from agentserve_gym.envs.features.feature import Feature
from agentserve_gym.envs.features.instances import InstanceColumns
from agentserve_gym.sim.signals import Load

TARGET = Path(table.__file__).with_name("values.py")

_HEAD = '''"""The raw number of every feature, in the order of the layout.

Written by ``python -m tools.feature_values`` from the formulas in ``table``; change those.
"""

from __future__ import annotations

from agentserve_gym.envs.features.moment import Moment

'''
_LOOPS = {"tier": "for tier in moment.tiers:", "ttl": "for ttl in range(len(moment.ttls_s)):"}
_GIVEN = {*dir(builtins), *_LOOPS, *Load._fields, "index"}
_INSTANCES = InstanceColumns(())
_COLUMNS = {
    name for name in dir(_INSTANCES) if isinstance(getattr(_INSTANCES, name, None), list | tuple)
} - _GIVEN


def main() -> None:
    """Write the module."""
    TARGET.write_text(source(), encoding="utf-8")
    print(f"wrote {TARGET}")


def source() -> str:
    """The module's text.

    Raises:
        SyntaxError: for a formula that is not an expression.
    """
    asked = (*table.DECISION, *table.PROGRAM, *table.TOOLS)
    functions = (
        *_once("add_asked", "what a decision asks about", asked),
        *_once("add_always", "what there is at every moment", table.GLOBAL),
        *_for_each_instance("add_rows", "what changes of each instance", table.INSTANCE),
        *_for_each_instance("add_static_rows", "what never changes of each", table.STATIC),
    )
    return _formatted(_HEAD + "\n".join(functions))


def _once(name: str, text: str, features: Sequence[Feature]) -> Iterator[str]:
    """A function that adds features of the whole cluster."""
    names = _Names(set())
    additions = list(_additions(features, names))
    yield from _beginning(name, text, names)
    yield from additions


def _for_each_instance(name: str, text: str, features: Sequence[Feature]) -> Iterator[str]:
    """A function that adds features of one instance after the other."""
    names = _Names(_COLUMNS)
    additions = list(_additions(features, names))
    yield from _beginning(name, text, names)
    yield "    instances = moment.instances"
    yield from (f"    {column} = instances.{column}" for column in sorted(names.columns))
    yield "    for index in range(len(instances.view)):"
    if names.of_load:
        fields = (field if field in names.of_load else "_" for field in Load._fields)
        yield f"        {', '.join(fields)} = instances.load[index]"
    yield from (f"    {line}" for line in additions)


def _beginning(name: str, text: str, names: _Names) -> Iterator[str]:
    yield f"def {name}(moment: Moment, values: list[float]) -> None:"
    yield f'    """Add {text}."""'
    yield from (f"    {shown} = moment.{shown}" for shown in sorted(names.shown))


def _additions(features: Sequence[Feature], names: _Names) -> Iterator[str]:
    """Statements that add features, those of neighbours together."""
    for each, neighbours in groupby(features, key=lambda feature: feature.each):
        formulas = ", ".join(names.placed(feature.formula) for feature in neighbours)
        indent = "    "
        if each:
            yield f"{indent}{_LOOPS[each]}"
            indent *= 2
        yield f"{indent}values += [{formulas}]"


class _Names(ast.NodeTransformer):
    """Says of the names in formulas where they come from.

    Attributes:
        columns, of_load, shown: names that were met, of columns, of a ``Load``, and of what the
            moment shows.
    """

    def __init__(self, columns: set[str]) -> None:
        self.columns: set[str] = set()
        self.of_load: set[str] = set()
        self.shown: set[str] = set()
        self._known = columns

    def placed(self, formula: str) -> str:
        """A formula for a place where ``shown`` and ``columns`` are local names."""
        return ast.unparse(self.visit(ast.parse(formula, mode="eval")))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A method of the moment is called there: it is slow to hand around when compiled."""
        if isinstance(node.func, ast.Name) and node.func.id not in _GIVEN:
            node.func = ast.Attribute(ast.Name("moment"), node.func.id)
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self._known:
            self.columns.add(node.id)
            return ast.Subscript(node, ast.Name("index"))
        if node.id in Load._fields:
            self.of_load.add(node.id)
        elif node.id not in _GIVEN and node.id != "moment":
            self.shown.add(node.id)
        return node


def _formatted(text: str) -> str:
    """As the linter wants it."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
