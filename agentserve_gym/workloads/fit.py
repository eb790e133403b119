"""Write the generators' parameter files: ``python -m agentserve_gym.workloads.fit --traces DIR``.

``DIR`` holds the public traces as ``agentprog/1`` files and ``generator_params.json`` (published
fits; the AgentCgroup traces themselves are not redistributed). Only rows with ``split: train`` are
read. What a fit here replaces, and why, is said in each ``_..._class`` function.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = dict[str, Any]
FloatArray = NDArray[np.float64]

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


# ------------------------------------------------------------------------------------------ fitting


def fit_lognormal_mixture(values: Iterable[float], components: int, steps: int = 400) -> Table:
    """Maximum-likelihood mixture of log-normals by expectation-maximisation.

    Starts from equal slices of the sorted sample, so the result depends on the data only.
    """
    x = np.log(np.sort(np.asarray(list(values), dtype=float)))
    slices = np.array_split(x, components)
    w = np.full(components, 1.0 / components)
    mu = np.array([part.mean() for part in slices])
    sigma = np.array([max(0.1, part.std()) for part in slices])
    for _ in range(steps):
        log_density = -0.5 * ((x[:, None] - mu) / sigma) ** 2 - np.log(sigma) + np.log(w)
        peak = log_density.max(axis=1, keepdims=True)
        weight = np.exp(log_density - peak)
        weight /= weight.sum(axis=1, keepdims=True)
        total = weight.sum(axis=0)
        w = total / len(x)
        mu = (weight * x[:, None]).sum(axis=0) / total
        variance = (weight * (x[:, None] - mu) ** 2).sum(axis=0) / total
        sigma = np.maximum(0.05, np.sqrt(variance))
    return {
        "family": "lognormal_mixture",
        "w": _rounded(w),
        "mu": _rounded(mu),
        "sigma": _rounded(sigma),
        "cap": round(float(np.exp(x[-1])), 3),
    }


def _rounded(values: FloatArray) -> list[float]:
    return [round(float(value), 3) for value in values]


def _published(parameters: Mapping[str, Any]) -> Table:
    """A published mixture, without the columns that only describe it."""
    table = {"family": "lognormal_mixture"} | {k: parameters[k] for k in ("w", "mu", "sigma")}
    return table | ({"cap": parameters["cap"]} if "cap" in parameters else {})


def _published_duration(parameters: Mapping[str, Any]) -> Table:
    """A duration; where the longest seen is the tools' timeout, the tail goes on beyond it.

    Those draws are then cut by the scenario's timeout, and as many hit it as in the data (tests: the
    99th percentile is the timeout).
    """
    table = _published(parameters)
    if table["cap"] >= _TOOL_TIMEOUT_S:
        table["cap"] = _FINAL_CAP_S
    return table


def _published_turns(parameters: Mapping[str, Any]) -> Table:
    return {"family": "gamma", "shape": parameters["k"], "scale": parameters["theta"]}


# ------------------------------------------------------------------------------------------ classes

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
_TOOL_TIMEOUT_S = 120.0  # of the agents that were traced
_FINAL_CAP_S = 600.0


def _coding_chain(host: str) -> Table:
    return {
        "groups": {"explore": _EXPLORE, "execute": _EXECUTE},
        "group_shares": _PHASES[host],
        "transitions": _TRANSITIONS,
    }


def _people(published: Mapping[str, Any]) -> Table:
    """Waits of people (interactive coding, measured) and of an LLM that plays the user (tau2)."""
    human = _published(published["coding_interactive"]["gap_user_s"])
    simulated = _published(published["function_calling(tau2 retail+airline)"]["gap_user_sim_s"])
    return {"human": human, "simulated": simulated}


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


def _coding_auto_class(
    published: Mapping[str, Any], entry: str, host: str, prefix: Table, overhead_tokens: int
) -> Table:
    """AgentCgroup: published fits throughout; only the chain between kinds is constructed."""
    fit = published[entry]
    return {
        "source": f"{fit['source']} (published fits; the runs are not redistributed)",
        "overhead_tokens": overhead_tokens,
        "calls_per_gap": [0.96, 0.04] if host == "claude" else [0.84, 0.115, 0.045],
        "turns": _published_turns(fit["turns"]),
        "prefix": prefix,
        "initial": {"family": "lognormal_mixture", "w": [1.0], "mu": [5.3], "sigma": [0.6]},
        "output": _published(fit["output"]),
        "correlation": {
            "turns_new": -0.4,
            "new_program": 0.06,
            "output_program": 0.07,
            "duration_program": 0.2,
        },
        "tools": {
            kind: {
                "share": tool["p"],
                "duration_s": _published_duration(tool["duration_s"]),
                "result_tokens": _published(tool["result_tokens"]),
            }
            for kind, tool in fit["tools"].items()
        },
        "chain": _coding_chain(host),
        "gap_user_s": _people(published),
        "sub_agents": (
            {"task": _coding_sub_agents(0.0, "subagent")} if "subagent" in fit["tools"] else {}
        ),
    }


def _coding_interactive_class(published: Mapping[str, Any], rows: Sequence[Table]) -> Table:
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
        "calls_per_gap": [0.84, 0.12, 0.04],
        "turns": _published_turns(fit["turns"]),
        "prefix": _interactive_prefix(rows),
        "initial": _published(fit["initial_extra"]),
        "output": _published(fit["output"]),
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
        "gap_user_s": _people(published),
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
        "weights": _rounded(1000 * ranks**-0.76 / np.sum(ranks**-0.76)),
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
            "duration_s": _tracelab_duration(fits[name]) | {"cap": _FINAL_CAP_S},
        }
        for kind, name in of.items()
    }


def _tracelab_duration(fit: Mapping[str, Any]) -> Table:
    """A log-normal where it is good enough (shell, web), else the two-component mixture."""
    lognormal = fit["lognormal"]
    if lognormal["max_abs_log_err"] < 0.2:
        return {"family": "lognormal_mixture", "w": [1.0]} | {
            name: [lognormal[name]] for name in ("mu", "sigma")
        }
    return {"family": "lognormal_mixture"} | {n: fit["mixture2"][n] for n in ("w", "mu", "sigma")}


def _function_calling_class(
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
        "gap_user_s": _people(published),
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


def _web_research_class(published: Mapping[str, Any], rows: Sequence[Table]) -> Table:
    """deer-flow, 11 train threads: a prior rather than a fit; randomize widely.

    Result sizes by kind where published, else the class's. Durations: TraceLab for the web,
    AgentCgroup's Claude host for local tools.
    """
    fit = published["web_research(deer-flow)"]
    host = published["coding_auto(cpu-host, Claude haiku)"]["tools"]
    web = _tracelab_duration(published["tracelab_tool_latency_fits"]["web"]) | {"cap": _FINAL_CAP_S}
    counts = Counter(
        tool["kind"] for row in rows for turn in row["turns"] for tool in turn.get("tools", ())
    )
    kinds = [kind for kind in counts if kind in host or kind.startswith("web_")]
    known = sum(counts[kind] for kind in kinds)
    return {
        "source": f"{fit['source']}, train rows; durations: TraceLab (web), AgentCgroup (local)",
        "calls_per_gap": [1.0],
        "turns": _published_turns(fit["turns"]),
        "prefix": {"weights": [1], "tools_tokens": [9_800], "system_tokens": [0]},
        "initial": {"family": "lognormal_mixture", "w": [1.0], "mu": [3.7], "sigma": [0.8]},
        "output": _published(fit["output"]),
        "correlation": {"output_program": 0.05, "duration_program": 0.2},
        "tools": {
            kind: {
                "share": round(counts[kind] / known, 4),
                "duration_s": web
                if kind.startswith("web_")
                else _published_duration(host[kind]["duration_s"]),
                "result_tokens": _published(fit["result_tokens"].get(kind, fit["new_tool"])),
            }
            for kind in sorted(kinds)
        },
        "gap_user_s": _people(published),
    }


# ------------------------------------------------------------------------------------------ writing


def _read_train(path: Path) -> list[Table]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["split"] == "train"]


def fit_all(traces: Path) -> dict[str, Table]:
    """Parameters of every class, from the traces' train rows and the published fits."""
    published = json.loads((traces / "generator_params.json").read_text(encoding="utf-8"))
    weka = _read_train(traces / "programs_coding_interactive_weka.jsonl.gz")
    tau2 = _read_train(traces / "programs_function_calling_tau2.jsonl.gz")
    bfcl = _read_train(traces / "programs_function_calling_bfcl_v4_multiturn.jsonl.gz")
    web = _read_train(traces / "programs_web_research_deerflow.jsonl.gz")
    shop = [row for row in tau2 if row["domain"] in ("retail", "airline")]
    telecom = [row for row in tau2 if row["domain"] == "telecom"]
    multi = [row for row in bfcl if row["variant"] in ("base", "long_context")]
    claude = {
        "weights": [42, 42, 16],
        "tools_tokens": [14_500, 19_000, 20_800],
        "system_tokens": [0, 0, 0],
    }
    glm = {"weights": [1], "tools_tokens": [13_200], "system_tokens": [0]}
    return {
        "coding_interactive": _coding_interactive_class(
            published, [row for row in weka if row["fresh_start"]]
        ),
        # The context of the Claude runs grows by 1,037 a turn; counted output and results make 867.
        "coding_auto": _coding_auto_class(
            published, "coding_auto(cpu-host, Claude haiku)", "claude", claude, 170
        ),
        "coding_auto_gpu_host": _coding_auto_class(
            published, "coding_auto(GPU-host contended, GLM-4.7-flash)", "glm", glm, 0
        ),
        "function_calling": _function_calling_class(
            published, "function_calling(tau2 retail+airline)", shop, 2, {"output_program": 0.1}
        ),
        "function_calling_telecom": _function_calling_class(
            published, "function_calling(tau2 telecom)", telecom, 2, {}
        ),
        "function_calling_bfcl": _function_calling_class(
            published, "function_calling(bfcl multi-turn)", multi, 2, {}
        ),
        "web_research": _web_research_class(published, web),
    }


def to_toml(table: Mapping[str, Any]) -> str:
    """TOML text: plain values, then inline distributions, then sub-tables."""
    return "\n".join(_toml_lines(table, "")) + "\n"


def _toml_lines(table: Mapping[str, Any], path: str) -> list[str]:
    nested = {k: v for k, v in table.items() if isinstance(v, dict) and not _is_inline(v)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in table.items() if k not in nested]
    for key, value in nested.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        lines += ["", f"[{name}]", *_toml_lines(value, name)]
    return lines


def _is_inline(table: Mapping[str, Any]) -> bool:
    return "family" in table


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + "".join(f"  {_value(item)},\n" for item in value) + "]"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the workload generators' parameters.")
    parser.add_argument("--traces", type=Path, required=True, help="folder of the public traces")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "generators" / "parameters",
        help="folder for the parameter files",
    )
    arguments = parser.parse_args()
    for name, table in fit_all(arguments.traces).items():
        path = arguments.out / f"{name}.toml"
        temporary = path.with_suffix(".toml.partial")
        header = f"# {name}: written by python -m agentserve_gym.workloads.fit (numbers only)\n"
        temporary.write_text(header + to_toml(table), encoding="utf-8")
        temporary.replace(path)


if __name__ == "__main__":
    main()
