"""Formulas of features, and one function from those of a whole observation.

A formula is a Python expression. Its names are attributes of a ``Moment``; in a row of an instance
they are first of all columns of ``InstanceColumns``, each standing for what it holds of that
instance.

A function for each feature would be typed, but calling dozens of them cost about 4 % of an
interpreted step. So the formulas are compiled together, as a ``namedtuple`` is from its fields.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable
from functools import cache
from typing import cast

from agentserve_gym.envs.features.instances import InstanceColumns
from agentserve_gym.envs.features.moment import Moment

Values = Callable[[Moment], list[float]]


@cache
def together(once: tuple[str, ...], row: tuple[str, ...]) -> Values:
    """A function of a moment that computes the formulas of ``once``, and then those of ``row`` for
    each instance, one instance after the other.

    Raises:
        SyntaxError: for a formula that is not an expression.
    """
    in_row = _names(row)
    instances = InstanceColumns(())
    columns = sorted(name for name in in_row if hasattr(instances, name))
    shown = sorted((_names(once) | in_row.difference(columns)) - set(dir(builtins)))
    lines = [
        "def values_of(moment):",
        *(f"{name} = moment.{name}" for name in shown),
        f"values = [{', '.join(once)}]",
        f"for {', '.join(columns)}, in zip({', '.join(f'moment.instances.{c}' for c in columns)}):",
        f"    values += ({', '.join(row)},)",
        "return values",
    ]
    space: dict[str, object] = {}
    exec("\n    ".join(lines), space)
    return cast(Values, space["values_of"])


def _names(formulas: Iterable[str]) -> set[str]:
    """The names in formulas; attributes of what they name are not among them."""
    nodes = (node for text in formulas for node in ast.walk(ast.parse(text, mode="eval")))
    return {node.id for node in nodes if isinstance(node, ast.Name)}
