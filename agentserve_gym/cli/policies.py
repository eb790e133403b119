"""``agentserve policies``: what ``--policy`` may name."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby

from rich.table import Table

from agentserve_gym.baselines import PolicyInfo, list_policies
from agentserve_gym.cli.output import JsonOption, console, print_json


def policies(json: JsonOption = False) -> None:
    """List the parts of policies, with their rules and sources."""
    listed = list_policies()
    if json:
        print_json([asdict(info) for info in listed])
        return
    out = console()
    for family, members in groupby(listed, key=lambda info: info.family):
        table = Table("name", "rule", "source", title=family, title_justify="left")
        for column in table.columns:
            column.overflow = "fold"
        for info in members:
            table.add_row(_name(info), info.rule, info.source)
        out.print(table)
    out.print("Join parts with +, as in sglang+continuum; parts left out are affinity, lru, none.")


def _name(info: PolicyInfo) -> str:
    parameters = ", ".join(f"{key}={value}" for key, value in info.parameters.items())
    name = f"{info.name} ({parameters})" if parameters else info.name
    return f"{name}, oracle" if info.is_oracle else name
