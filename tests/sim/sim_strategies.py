"""Random workloads and scenarios for property tests.

Durations and lengths are generic on purpose: events that coincide by construction may be ordered
either way, and only equal shapes make the fused and the plain engine comparable.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from agentserve_gym.hardware import hybrid_blocks, model
from agentserve_gym.sim import Scenario, load_scenario
from agentserve_gym.sim.kernel.victims import VICTIMS

BLOCK = 16
MODELS = [*["llama-3.1-8b"] * 3, "gpt-oss-120b", "qwen3.5-35b-a3b"]
"""Full attention mostly; sliding windows; linear attention."""
PREFIXES = {"tools": 200, "system-a": 137, "system-b": 137}

new_tokens = st.one_of(st.sampled_from([1, 15, 16, 17, 32]), st.integers(1, 1200))
output_tokens = st.one_of(st.sampled_from([1, 2, 16, 17]), st.integers(1, 250))


def seconds(high: float) -> st.SearchStrategy[float]:
    """Generic positive durations."""
    return st.floats(0.001, high, exclude_max=True).map(lambda x: round(x, 6) + 1.7e-7)


gaps = st.one_of(st.just(0.0), seconds(0.2), seconds(10.0))


@st.composite
def tool_calls(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": draw(st.sampled_from(["a", "b", "c"])),
        "duration_s": draw(seconds(2.0)),
        "failures": draw(st.sampled_from([0, 0, 0, 1])),
    }


@st.composite
def programs(draw: st.DrawFn, *, depth: int = 0) -> dict[str, Any]:
    """An inline program; a reset may cut into the shared prefix."""
    system = draw(st.sampled_from([None, "system-a", "system-b"]))
    keys = [] if not draw(st.booleans()) else ["tools", *([system] if system else [])]
    shared = sum(PREFIXES[key] for key in keys)
    count = draw(st.integers(1, 4))
    turns = []
    for number in range(count):
        turn: dict[str, Any] = {
            "new_input_tokens": draw(new_tokens),
            "output_tokens": draw(output_tokens),
        }
        if number and draw(st.integers(0, 7)) == 0:
            turn["new_input_tokens"] = 0
        elif number and draw(st.integers(0, 7)) == 0:
            turn["reset_to_tokens"] = draw(st.sampled_from([0, shared])) + draw(st.integers(0, 500))
        if number < count - 1:
            if draw(st.booleans()):
                turn["tools"] = draw(st.lists(tool_calls(), min_size=1, max_size=2))
            if "tools" not in turn or draw(st.booleans()):
                turn["gap_s"] = draw(gaps)
            if depth == 0 and draw(st.integers(0, 6)) == 0:
                turn["children"] = draw(st.lists(programs(depth=1), min_size=1, max_size=2))
        turns.append(turn)
    return {
        "arrival_s": draw(seconds(4.0)),
        "prefix": [{"key": key, "tokens": PREFIXES[key]} for key in keys],
        "turns": turns,
    }


def peak_tokens(program: dict[str, Any]) -> int:
    """Most tokens that a program, or one of its children, has at once."""
    chain = sum(segment["tokens"] for segment in program["prefix"])
    peak = 0
    for turn in program["turns"]:
        chain = min(chain, turn.get("reset_to_tokens", chain))
        chain += turn["new_input_tokens"] + turn["output_tokens"]
        peak = max([peak, chain, *map(peak_tokens, turn.get("children", ()))])
    return peak


@st.composite
def named_models(draw: st.DrawFn, programs: list[dict[str, Any]], models: list[str]) -> None:
    """Let some programs and sub-agents name one of the models."""
    for program in programs:
        program["model"] = draw(st.sampled_from([None, *models]))
        for turn in program["turns"]:
            draw(named_models(turn.get("children", []), models))


@st.composite
def nodes(
    draw: st.DrawFn, name: str, fewest_blocks: int, other_model: str | None
) -> dict[str, Any]:
    spare = draw(st.sampled_from([1.0, 1.0, 1.3, 2.0, 4.0]))
    node: dict[str, Any] = {
        "name": name,
        "instances": [
            {
                "accelerator": "rtx-4090",
                "count": draw(st.integers(1, 2)),
                "kv_blocks": int(fewest_blocks * spare),
            }
        ],
        "host_link": {
            "bandwidth_gbps": draw(st.sampled_from([0.05, 0.5, 20.0])),
            "duplex_gbps": draw(st.sampled_from([None, 30.0])),
        },
    }
    if other_model is not None:
        node["instances"].append({**node["instances"][0], "model": other_model})
    if draw(st.booleans()):
        node["dram"] = {"capacity_gib": draw(st.sampled_from([0.1, 0.5, 5.0]))}
    if draw(st.booleans()):
        node["peer_link"] = {"bandwidth_gbps": 100.0}
    return node


@st.composite
def tiers(draw: st.DrawFn, nodes: list[str]) -> dict[str, Any]:
    """A further tier on some of the nodes."""
    return {
        "name": "nvme",
        "nodes": draw(st.sampled_from([None, nodes[:1]])),
        "shared": draw(st.booleans()),
        "capacity_gib": draw(st.sampled_from([0.1, 2.0])),
        "read_gbps": draw(st.sampled_from([1.0, 20.0])),
        "write_gbps": draw(st.sampled_from([0.5, 10.0])),
        "mixed_gbps": draw(st.sampled_from([None, 5.0])),
        "staged": draw(st.booleans()),
    }


@st.composite
def tools(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "concurrency": draw(st.sampled_from([{}, {"a": 1}, {"a": 1, "b": 2}])),
        "failure_probability": draw(st.sampled_from([0.0, 0.3])),
        "slowdown_per_call": draw(st.sampled_from([0.0, 0.1])),
        "timeout_s": draw(st.sampled_from([None, 1.5])),
    }


def most_besides(llm: str, budget: int) -> int:
    """Most blocks that a turn needs besides those of its context."""
    besides = hybrid_blocks(model(llm), BLOCK)
    return besides.windows + besides.states + besides.passing * (budget // BLOCK)


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    horizon: bool = True,
    delays: bool = True,
    most_programs: int = 8,
    networked: bool = False,
) -> Scenario:
    """A scenario with one to three nodes and one or two models; HBM pools from just large enough to
    roomy. ``networked``: two or three nodes, joined by a network."""
    workload = draw(st.lists(programs(), min_size=1, max_size=most_programs))
    llm = draw(st.sampled_from(MODELS))
    other = draw(
        st.sampled_from([None, None, *(name for name in dict.fromkeys(MODELS) if name != llm)])
    )
    if other is not None:
        draw(named_models(workload, [llm, other]))
    budget = draw(st.sampled_from([64, 256, 2048]))
    fewest = -(-max(map(peak_tokens, workload)) // BLOCK) + 1
    fewest += max(most_besides(name, budget) for name in (llm, other or llm))
    names = [f"n{i}" for i in range(draw(st.integers(1 + networked, 3)))]
    cluster: dict[str, Any] = {
        "model": llm,
        "nodes": [draw(nodes(name, fewest, other)) for name in names],
    }
    if draw(st.booleans()):
        cluster["cxl"] = {
            "nodes": names[: draw(st.integers(1, len(names)))],
            "capacity_gib": draw(st.sampled_from([0.1, 2.0])),
            "bandwidth_gbps": draw(st.sampled_from([1.0, 20.0])),
        }
    if draw(st.booleans()):
        cluster["tiers"] = [draw(tiers(names))]
    if networked or draw(st.booleans()):
        cluster["network"] = {"bandwidth_gbps": draw(st.sampled_from([1.0, 20.0]))}
    arrivals = [
        {"kind": "trace"},
        {"kind": "closed_loop", "concurrency": draw(st.integers(1, 4))},
        {"kind": "poisson", "rate_per_s": 2.0},
    ]
    return load_scenario(
        {
            "name": "random",
            "cluster": cluster,
            "workload": {"kind": "inline", "programs": workload},
            "arrivals": draw(st.sampled_from(arrivals)),
            "engine": {
                "async_scheduling": draw(st.booleans()),
                "pins": draw(st.sampled_from(["hard", "soft"])),
                "max_num_seqs": draw(st.sampled_from([1, 2, 4, 64])),
                "max_num_batched_tokens": budget,
                "preemption_victim": draw(st.sampled_from(sorted(VICTIMS))),
            },
            "router": {
                "reoffer_s": draw(st.sampled_from([0.3, 2.0])),
                "session_timeout_s": draw(st.sampled_from([0.1, 5.0])),
                "signal_delay_s": draw(st.sampled_from([0.0, 0.05])) if delays else 0.0,
                "held_order": draw(
                    st.sampled_from(["turn_arrival", "program_arrival", "shortest_context"])
                ),
            },
            "tools": draw(st.one_of(st.just({}), tools())),
            "horizon_s": draw(st.sampled_from([None, None, 3.3, 8.7])) if horizon else None,
        }
    )
