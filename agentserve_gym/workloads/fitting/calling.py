"""Parameters of function calling and web research."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agentserve_gym.workloads.fitting.common import (
    FINAL_CAP_S,
    Table,
    fit_lognormal_mixture,
    people,
    published_duration,
    published_mixture,
    published_turns,
    tracelab_duration,
)


def function_calling_class(
    published: Mapping[str, Any],
    entry: str,
    rows: Sequence[Table],
    turn_components: int,
    correlation: Table,
) -> Table:
    """Function calling (tau2, BFCL): refitted, because the published mixtures have few components.

    The measured tools are in-memory simulators (.07 to .4 ms). A real service answers over a
    network from a database, so the measured shape is kept and the scale multiplied by 1,000 (median
    about .4 s): an assumption, not a measurement.
    """
    fit = published[entry]
    return {
        "source": f"{fit['source']}; tool durations scaled by 1000 (assumed, see fit.py)",
        "p_next_is_user": fit.get("p_next_is_user", _user_share(rows)),
        "calls_per_gap": _calls_per_gap(rows),
        "turns": fit_lognormal_mixture([len(row["turns"]) for row in rows], turn_components),
        "prefix": _function_prefix(rows),
        "initial": fit_lognormal_mixture(_beyond_prefix(rows), 2),
        "output": fit_lognormal_mixture(
            [turn["output_tokens"] for row in rows for turn in row["turns"]], 4
        ),
        "new_tool": fit_lognormal_mixture(_new_after(rows, "tool"), 4),
        "new_user": fit_lognormal_mixture(_new_after(rows, "user"), 2),
        "correlation": correlation,
        "tools": {
            "api": {
                "share": 1.0,
                "duration_s": {
                    "family": "lognormal_mixture",
                    "w": [1.0],
                    "mu": [-1.0],
                    "sigma": [0.86],
                },
            }
        },
        "gap_user_s": people(published),
    }


def _user_share(rows: Sequence[Table]) -> float:
    triggers = Counter(turn["trigger"] for row in rows for turn in row["turns"][1:])
    return round(triggers["user"] / triggers.total(), 4)


def _calls_per_gap(rows: Sequence[Table]) -> list[float]:
    """Shares of 1, 2, ... parallel calls; the few gaps with more than six count as six."""
    counts = Counter(
        min(6, len(turn["tools"]))
        for row in rows
        for turn in row["turns"]
        if turn["tools"] and turn.get("gap_kind") != "end"
    )
    return [round(counts[n] / counts.total(), 4) for n in range(1, max(counts) + 1)]


def _new_after(rows: Sequence[Table], trigger: str) -> list[int]:
    return [
        max(1, turn["new_input_tokens"])
        for row in rows
        for turn in row["turns"][1:]
        if turn["trigger"] == trigger
    ]


def _group_of(row: Table) -> str:
    """Programs that share a prefix: the same tools and policy, counted by one tokenizer."""
    return str(row["prefix_group"])


def _group_prefixes(rows: Sequence[Table]) -> dict[str, int]:
    """Shared tokens of each group: what the file says, else just below the shortest prompt."""
    shortest: dict[str, int] = {}
    for row in rows:
        first = row["turns"][0]["input_tokens"]
        shared = row.get("shared_prefix_tokens", first - 20)
        group = _group_of(row)
        shortest[group] = min(shortest.get(group, shared), shared)
    return shortest


def _beyond_prefix(rows: Sequence[Table]) -> list[float]:
    shared = _group_prefixes(rows)
    return [max(1, row["turns"][0]["input_tokens"] - shared[_group_of(row)]) for row in rows]


def _function_prefix(rows: Sequence[Table]) -> Table:
    """One level (tools and policy come together); a group's level is its mean output score."""
    shared = _group_prefixes(rows)
    counts = Counter(_group_of(row) for row in rows)
    lengths = {
        group: np.log(
            [
                turn["output_tokens"]
                for row in rows
                if _group_of(row) == group
                for turn in row["turns"]
            ]
        )
        for group in counts
    }
    pooled = np.concatenate(list(lengths.values()))
    groups = [group for group, _ in counts.most_common()]
    return {
        "weights": [counts[group] for group in groups],
        "tools_tokens": [shared[group] for group in groups],
        "system_tokens": [0 for _ in groups],
        "output_level": [
            round(float((lengths[group].mean() - pooled.mean()) / pooled.std()), 3)
            for group in groups
        ],
    }


def web_research_class(published: Mapping[str, Any], rows: Sequence[Table]) -> Table:
    """deer-flow, 11 train threads: a prior rather than a fit; randomize widely.

    Result sizes by kind where published, else the class's. Durations: TraceLab for the web,
    AgentCgroup's Claude host for local tools.
    """
    fit = published["web_research(deer-flow)"]
    host = published["coding_auto(cpu-host, Claude haiku)"]["tools"]
    web = tracelab_duration(published["tracelab_tool_latency_fits"]["web"]) | {"cap": FINAL_CAP_S}
    counts = Counter(
        tool["kind"] for row in rows for turn in row["turns"] for tool in turn.get("tools", ())
    )
    kinds = [kind for kind in counts if kind in host or kind.startswith("web_")]
    known = sum(counts[kind] for kind in kinds)
    return {
        "source": f"{fit['source']}, train rows; durations: TraceLab (web), AgentCgroup (local)",
        "calls_per_gap": [1.0],
        "turns": published_turns(fit["turns"]),
        "prefix": {"weights": [1], "tools_tokens": [9_800], "system_tokens": [0]},
        "initial": {"family": "lognormal_mixture", "w": [1.0], "mu": [3.7], "sigma": [0.8]},
        "output": published_mixture(fit["output"]),
        "correlation": {"output_program": 0.05, "duration_program": 0.2},
        "tools": {
            kind: {
                "share": round(counts[kind] / known, 4),
                "duration_s": web
                if kind.startswith("web_")
                else published_duration(host[kind]["duration_s"]),
                "result_tokens": published_mixture(fit["result_tokens"].get(kind, fit["new_tool"])),
            }
            for kind in sorted(kinds)
        },
        "gap_user_s": people(published),
    }
