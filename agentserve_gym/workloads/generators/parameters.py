"""The fitted parameters of one agent class, loaded from its file in ``parameters/``.

Those files hold numbers only, each with its source; they are written by
``python -m agentserve_gym.workloads.fit``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.workloads.generators.chain import ToolChain
from agentserve_gym.workloads.generators.quantiles import QuantileBank, QuantileTable


@dataclass(frozen=True)
class Prefixes:
    """Shared prefixes in two levels: tool definitions, then the system prompt.

    Programs of one group share the first level. A share ``private_system`` of them has a system
    prompt of its own; the others share their group's.
    """

    edges: tuple[float, ...]  # cumulative weights of the groups, the last left out
    tools_tokens: tuple[int, ...]
    system_tokens: tuple[int, ...]
    output_level: tuple[float, ...]  # a group's mean score of output lengths (its model's style)
    output_level_variance: float
    private_system: float


@dataclass(frozen=True)
class Compaction:
    """At ``min(threshold_tokens, of_window * window)`` the context shrinks to U(low, high)."""

    threshold_tokens: int
    of_window: float
    low_tokens: int
    high_tokens: int


@dataclass(frozen=True)
class Correlation:
    """Correlations of scores. ``*_program``: share of variance that is the program's own."""

    turns_new: float = 0.0
    turns_output: float = 0.0
    new_program: float = 0.0
    output_program: float = 0.0
    duration_program: float = 0.0
    output_new: float = 0.0


@dataclass(frozen=True)
class Dropping:
    """How often the previous output is mostly left out of the next prompt (old thinking).

    ``kept`` is the share of it that the context still grows by.
    """

    probability: float
    kept: QuantileTable


@dataclass(frozen=True)
class SubAgents:
    """One way to start a sub-agent in a tool gap.

    ``tool_kind`` names the tool that stands for it in the chain; without one it starts with
    ``probability`` in any tool gap. ``prefix_tokens`` 0 means that it shares its parent's prefix.
    """

    name: str
    probability: float
    tool_kind: str | None
    prefix_tokens: int
    initial: QuantileTable
    turns: QuantileTable


@dataclass(frozen=True)
class ClassParameters:
    """Everything that `agent.draw_programs` needs for one class."""

    name: str
    turns: QuantileTable
    prefixes: Prefixes
    initial: QuantileTable
    output: QuantileTable
    new_tool: QuantileTable | None
    new_user: QuantileTable | None
    opening: tuple[QuantileTable, ...]  # new input of the first gaps, where an agent loads context
    overhead_tokens: int
    p_user: float
    correlation: Correlation
    dropping: Dropping | None
    compaction: Compaction | None
    calls_edges: tuple[float, ...]
    chain: ToolChain
    durations: QuantileBank
    results: QuantileBank | None
    human_gap: QuantileTable
    simulated_gap: QuantileTable
    sub_agents: tuple[SubAgents, ...]


@cache
def load_parameters(agent_class: str) -> ClassParameters:
    """Parameters of ``agent_class`` (one of `AGENT_CLASSES`)."""
    path = files("agentserve_gym.workloads.generators") / "parameters" / f"{agent_class}.toml"
    return parse_parameters(agent_class, tomllib.loads(path.read_text(encoding="utf-8")))


def parse_parameters(agent_class: str, data: Mapping[str, Any]) -> ClassParameters:
    """Build the tables from the parsed file."""
    tools: Mapping[str, Mapping[str, Any]] = data["tools"]
    by_kind = all("result_tokens" in tool for tool in tools.values())
    return ClassParameters(
        name=agent_class,
        turns=_table(data["turns"]),
        prefixes=_prefixes(data["prefix"]),
        initial=_table(data["initial"]),
        output=_table(data["output"]),
        new_tool=None if by_kind else _table(data["new_tool"]),
        new_user=_table(data["new_user"]) if "new_user" in data else None,
        opening=tuple(_table(row) for row in data.get("opening_new", [])),
        overhead_tokens=int(data.get("overhead_tokens", 0)),
        p_user=float(data.get("p_next_is_user", 0.0)),
        correlation=Correlation(**data.get("correlation", {})),
        dropping=_dropping(data.get("dropping")),
        compaction=Compaction(**data["compaction"]) if "compaction" in data else None,
        calls_edges=_edges(data["calls_per_gap"]),
        chain=_chain(data),
        durations=QuantileBank([_log_values(tool["duration_s"]) for tool in tools.values()]),
        results=(
            QuantileBank([_log_values(tool["result_tokens"]) for tool in tools.values()])
            if by_kind
            else None
        ),
        human_gap=_table(data["gap_user_s"]["human"]),
        simulated_gap=_table(data["gap_user_s"]["simulated"]),
        sub_agents=tuple(
            _sub_agents(name, row) for name, row in data.get("sub_agents", {}).items()
        ),
    )


def _table(parameters: Mapping[str, Any]) -> QuantileTable:
    return QuantileTable.from_parameters(parameters)


def _log_values(parameters: Mapping[str, Any]) -> NDArray[np.float64]:
    return _table(parameters).log_values


def _edges(weights: list[float]) -> tuple[float, ...]:
    cumulative = np.cumsum(weights) / np.sum(weights)
    return tuple(float(edge) for edge in cumulative[:-1])


def _prefixes(data: Mapping[str, Any]) -> Prefixes:
    levels = data.get("output_level", [0.0] * len(data["weights"]))
    return Prefixes(
        edges=_edges(data["weights"]),
        tools_tokens=tuple(data["tools_tokens"]),
        system_tokens=tuple(data["system_tokens"]),
        output_level=tuple(levels),
        output_level_variance=float(np.average(np.square(levels), weights=data["weights"])),
        private_system=float(data.get("private_system", 0.0)),
    )


def _dropping(data: Mapping[str, Any] | None) -> Dropping | None:
    return None if data is None else Dropping(data["probability"], _table(data["kept"]))


def _chain(data: Mapping[str, Any]) -> ToolChain:
    chain = data.get("chain", {})
    return ToolChain(
        shares={kind: tool["share"] for kind, tool in data["tools"].items()},
        groups=chain.get("groups", {}),
        group_shares=chain.get("group_shares", {}),
        transitions=[(row["after"], row["next"], row["p"]) for row in chain.get("transitions", [])],
    )


def _sub_agents(name: str, data: Mapping[str, Any]) -> SubAgents:
    return SubAgents(
        name=name,
        probability=float(data.get("probability", 0.0)),
        tool_kind=data.get("tool_kind"),
        prefix_tokens=int(data["prefix_tokens"]),
        initial=_table(data["initial"]),
        turns=_table(data["turns"]),
    )
