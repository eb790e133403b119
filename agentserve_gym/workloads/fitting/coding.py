"""Parameters of the coding classes."""

from __future__ import annotations

import math
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
    rounded,
    tracelab_duration,
)

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

_EXPLORE = ["file_read", "search", "bash:read_search", "bash:git"]
_EXECUTE = ["bash:test", "bash:script", "bash:install_build"]
# Published: exploring falls from .59-.64 of the calls in the first quarter to .34-.38 in the last,
# executing rises from .12-.18 to .40-.42 (two models on one host). The quarters between are chosen
# so that the mean over the quarters is the kinds' overall share.
_PHASES = {
    "claude": {"explore": [0.59, 0.46, 0.37, 0.34], "execute": [0.18, 0.32, 0.38, 0.41]},
    "glm": {"explore": [0.64, 0.50, 0.40, 0.36], "execute": [0.12, 0.36, 0.41, 0.42]},
}
# Published: search -> file read .45-.50, edit -> test or script .39-.46, test -> test .36-.39.
_TRANSITIONS = [
    {"after": "search", "next": ["file_read"], "p": 0.475},
    {"after": "file_edit", "next": ["bash:test", "bash:script"], "p": 0.425},
    {"after": "bash:test", "next": ["bash:test"], "p": 0.375},
]


def _coding_chain(host: str) -> Table:
    return {
        "groups": {"explore": _EXPLORE, "execute": _EXECUTE},
        "group_shares": _PHASES[host],
        "transitions": _TRANSITIONS,
    }


def _coding_sub_agents(probability: float, tool_kind: str | None) -> Table:
    """WEKA's sub-agents: 5/11/17 turns (p10/p50/p90), first prompt 10.3k with an 8.7k prefix."""
    table: Table = {"prefix_tokens": 8_700}
    if tool_kind is not None:
        table["tool_kind"] = tool_kind
    else:
        table["probability"] = probability
    table["initial"] = {"family": "lognormal_mixture", "w": [1.0], "mu": [7.38], "sigma": [0.5]}
    table["turns"] = {"family": "gamma", "shape": 5.2, "scale": 2.2}
    return table


def coding_auto_class(
    published: Mapping[str, Any], entry: str, host: str, prefix: Table, overhead_tokens: int
) -> Table:
    """AgentCgroup: published fits throughout; only the chain between kinds is constructed."""
    fit = published[entry]
    return {
        "source": f"{fit['source']} (published fits; the runs are not redistributed)",
        "overhead_tokens": overhead_tokens,
        # Published: one call a turn 96 % (Claude) and 84 % (GLM, two 11.5 %).
        "calls_per_gap": [0.96, 0.04] if host == "claude" else [0.84, 0.115, 0.045],
        "turns": published_turns(fit["turns"]),
        "prefix": prefix,
        "initial": {"family": "lognormal_mixture", "w": [1.0], "mu": [5.3], "sigma": [0.6]},
        "output": published_mixture(fit["output"]),
        "correlation": {
            "turns_new": -0.4,
            "new_program": 0.06,
            "output_program": 0.07,
            "duration_program": 0.2,
        },
        "tools": {
            kind: {
                "share": tool["p"],
                "duration_s": published_duration(tool["duration_s"]),
                "result_tokens": published_mixture(tool["result_tokens"]),
            }
            for kind, tool in fit["tools"].items()
        },
        "chain": _coding_chain(host),
        "gap_user_s": people(published),
        "sub_agents": (
            {"task": _coding_sub_agents(0.0, "subagent")} if "subagent" in fit["tools"] else {}
        ),
    }


def swe_bench_class(published: Mapping[str, Any]) -> Table:
    """SWE-bench Verified through mini-swe-agent, from the moments that AgentServeSim gives (arXiv
    2606.09613): 1.5k shared tokens, 41.9 +- 14.9 turns, 1,161 +- 4,125 ms a tool call with a
    median of about a second, 356k prompt tokens a program.

    Turns and prompt tokens together leave 280 tokens of growth a turn, which is a reuse of .97
    (published: .95). How they split into output and result is chosen.
    """
    mixture = {"family": "lognormal_mixture"}
    return {
        "source": "AgentServeSim (arXiv 2606.09613), moments of 50 programs; no runs",
        "calls_per_gap": [1.0],
        "turns": {"family": "gamma", "shape": 7.91, "scale": 5.3},
        "prefix": {"weights": [1], "tools_tokens": [1_500], "system_tokens": [0]},
        "initial": mixture | {"w": [1.0], "mu": [5.8], "sigma": [0.6]},
        "output": mixture | {"w": [1.0], "mu": [4.26], "sigma": [0.6]},
        "tools": {
            "bash": {
                "share": 1.0,
                "duration_s": mixture
                | {"w": [0.99, 0.01], "mu": [-0.13, 2.3], "sigma": [0.35, 1.6], "cap": FINAL_CAP_S},
                "result_tokens": mixture | {"w": [1.0], "mu": [4.77], "sigma": [1.0]},
            }
        },
        "gap_user_s": people(published),
    }


def coding_interactive_class(published: Mapping[str, Any], rows: Sequence[Table]) -> Table:
    """WEKA fresh starts, refitted on the train rows where the context has to come out right.

    The context grows by output plus new input, except where old thinking is dropped. Tool kinds
    and their durations are not in these traces: shares and durations by family are TraceLab's, and
    within a family the kinds' shares are AgentCgroup's (same agent program).
    """
    fit = published["coding_interactive"]
    steps = _interactive_steps(rows)
    return {
        "source": f"{fit['source']}; tool durations: TraceLab (CC BY 4.0), digitized quantiles",
        "p_next_is_user": fit["p_next_is_user"],
        "calls_per_gap": [0.84, 0.12, 0.04],  # TraceLab: 1.21 calls a round
        "turns": published_turns(fit["turns"]),
        "prefix": _interactive_prefix(rows),
        "initial": published_mixture(fit["initial_extra"]),
        "output": published_mixture(fit["output"]),
        "new_tool": fit_lognormal_mixture(steps["new_tool"], 3),
        "new_user": fit_lognormal_mixture(steps["new_user"], 2),
        "opening_new": steps["opening"],
        "dropping": {
            "probability": round(len(steps["kept"]) / steps["steps"], 4),
            "kept": fit_lognormal_mixture(steps["kept"], 2),
        },
        "compaction": {
            "threshold_tokens": 160_000,
            "of_window": 0.8,
            "low_tokens": 30_000,
            "high_tokens": 60_000,
        },
        # turns against growth: of -.44 (measured on program means) to -.9, and a program's share of
        # .1 to .3, these bring the final context of the train rows closest without making the
        # longest sessions grow too slowly.
        "correlation": {
            "turns_new": -0.6,
            "turns_output": -0.2,
            "new_program": 0.2,
            "output_program": 0.117,
            "duration_program": 0.2,
            "output_new": -0.26,
        },
        "tools": _interactive_tools(published),
        "chain": _coding_chain("claude"),
        "gap_user_s": people(published),
        "sub_agents": {
            # Sub-agents recorded as such, and calls that share only the prefix with the rest. Their
            # sum agrees with TraceLab's share of agent calls, 1.2 %.
            "explore": _coding_sub_agents(0.0014, None),
            "branch": {
                "probability": 0.009,
                "prefix_tokens": 0,
                "initial": {"family": "lognormal_mixture", "w": [1.0], "mu": [7.5], "sigma": [1.0]},
                "turns": {"family": "gamma", "shape": 2.0, "scale": 5.5},
            },
        },
    }


_OPENING_GAPS = 5


def _interactive_steps(rows: Sequence[Table]) -> dict[str, Any]:
    """Per-turn changes of the context, resets aside: new input, or what a dropped output leaves.

    The first gaps are kept apart: an agent opens by loading files and instructions, 14k tokens in
    the first gap on average, 6k in the second, 3k in the next three, then 1.6k.
    """
    new: dict[str, list[float]] = {"tool": [], "user": [], "0": [], "1": [], "2": []}
    kept: list[float] = []
    steps = 0
    for row in rows:
        pairs = zip(row["turns"], row["turns"][1:], strict=False)
        for gap, (before, after) in enumerate(pairs):
            growth = after["input_tokens"] - before["input_tokens"]
            if after.get("reset") or growth <= 0 or before["output_tokens"] < 1:
                continue
            steps += 1
            if after["new_input_tokens"] == 0:
                kept.append(min(0.999, growth / before["output_tokens"]))
                continue
            key = after["trigger"] if gap >= _OPENING_GAPS else str(min(gap, 2))
            new[key].append(after["new_input_tokens"])
    first, second, later = (fit_lognormal_mixture(new[key], 2) for key in ("0", "1", "2"))
    return {
        "new_tool": new["tool"],
        "new_user": new["user"],
        "opening": [first, second] + [later] * (_OPENING_GAPS - 2),
        "kept": kept,
        "steps": steps,
    }


def _interactive_prefix(rows: Sequence[Table]) -> Table:
    """83 groups by a Zipf law (largest 12.2 %, ten largest 46 %), sized as the train rows are.

    A group's size is the quantile at a golden-ratio sequence, so that large and small groups alike
    cover the whole range of sizes.
    """
    sizes = [row["prefix_group"].removeprefix("tools").split("|sys") for row in rows]
    tools = np.sort([int(tool) for tool, _ in sizes])
    system = np.sort([int(s) for _, s in sizes])
    pairs = Counter(row["prefix_group"] for row in rows)
    private = sum(count for count in pairs.values() if count == 1) / len(rows)
    ranks = np.arange(1, 84)
    u_tools, u_system = ranks * _GOLDEN % 1.0, ranks * math.sqrt(2.0) % 1.0
    return {
        "private_system": round(private, 3),
        "weights": rounded(1000 * ranks**-0.76 / np.sum(ranks**-0.76)),
        "tools_tokens": np.quantile(tools, u_tools).astype(int).tolist(),
        "system_tokens": np.quantile(system, u_system).astype(int).tolist(),
    }


_TRACELAB_CALLS = {
    "shell": 330_565,
    "file_edit": 46_481,
    "file_read_search": 37_079,
    "planning": 7_296,
    "web": 4_120,
}


def _interactive_tools(published: Mapping[str, Any]) -> Table:
    kinds = published["coding_auto(cpu-host, Claude haiku)"]["tools"]
    family = {"file_edit": "file_edit", "file_read": "file_read_search"}
    family |= {"search": "file_read_search", "plan": "planning"}
    of = {kind: family.get(kind, "shell") for kind in kinds if kind != "subagent"} | {"web": "web"}
    weight = {kind: tool["p"] for kind, tool in kinds.items()} | {"web": 1.0}
    total = Counter[str]()
    for kind, name in of.items():
        total[name] += weight[kind]
    calls = sum(_TRACELAB_CALLS.values())  # sub-agents aside: they are simulated, not drawn
    fits = published["tracelab_tool_latency_fits"]
    return {
        kind: {
            "share": round(_TRACELAB_CALLS[name] / calls * weight[kind] / total[name], 4),
            "duration_s": tracelab_duration(fits[name]) | {"cap": FINAL_CAP_S},
        }
        for kind, name in of.items()
    }
