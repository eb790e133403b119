"""Prefix hits of models with sliding windows: ``python -m conformance.windows``.

vLLM keeps windowed layers in groups of their own over one pool of blocks. Our pool counts what they
take of it (``hardware.hybrid_blocks``) instead of keeping it block by block, so that runs are not
equal step for step; compared are the tokens that were found in the cache, and the steps.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from agentserve_gym.hardware import model
from agentserve_gym.sim import Scenario, Simulation, load_scenario, run
from conformance import theirs
from conformance.cases import Case, Shape, random_programs
from conformance.environment import vllm_python
from conformance.ours import OneEngine, Recorder
from conformance.trace import Step

MODELS = {"gpt-oss-120b": (2500, 4000, 8000), "gemma-3-27b": (5000, 9000, 16000)}
"""Models, and pools from where little is found again to where most is, blocks."""
PREFIXES = {"own contexts": (), "a shared prefix": (640,)}
SEEDS = (1, 2)


@dataclass(frozen=True, slots=True)
class WindowedCase(Case):
    """``windows``: groups of layers with a sliding window beside the one without, and the window,
    tokens."""

    windows: tuple[int, int] = (0, 0)


def windowed_cases(name: str, prefixes: tuple[int, ...]) -> list[WindowedCase]:
    """Forty programs on a pool that holds some of their contexts."""
    llm = model(name)
    groups = -(-(llm.window_layers or 0) // llm.growing_layers)
    shape = Shape(programs=40, gap_s=1.0, turns=(2, 6), tool_s=5.0, prefixes=prefixes)
    return [
        WindowedCase(
            f"{name}, {blocks} blocks, seed {seed}",
            random_programs(seed, shape),
            blocks,
            max_num_seqs=32,
            windows=(groups, llm.window_tokens or 0),
        )
        for blocks in MODELS[name]
        for seed in SEEDS
    ]


def scenario(case: Case, name: str) -> Scenario:
    """A case as one engine that serves the model."""
    instance = {"accelerator": "b200", "kv_blocks": case.kv_blocks, "timing": "roofline"}
    return load_scenario(
        {
            "name": case.name,
            "cluster": {"model": name, "nodes": [{"name": "node0", "instances": [instance]}]},
            "workload": {"kind": "inline", "programs": case.programs},
            "arrivals": {"kind": "trace"},
            "engine": {
                "max_num_seqs": case.max_num_seqs,
                "max_num_batched_tokens": case.max_num_batched_tokens,
                "async_scheduling": case.async_scheduling,
            },
        }
    )


def hit_tokens(steps: list[Step]) -> int:
    """Tokens that turns had when they were first scheduled."""
    had: dict[tuple[int, int], int] = {}
    for step in steps:
        for program, turn, tokens, _ in step.shares:
            had.setdefault((program, turn), tokens)
    return sum(had.values())


def main() -> None:
    """Print the comparison."""
    try:
        python = vllm_python(install=True)
    except ValueError as error:
        sys.exit(str(error))
    for title, prefixes in PREFIXES.items():
        print(f"{title}\n| | found by vLLM, tokens | here | steps of vLLM | here |")
        print("| :-- | --: | --: | --: | --: |")
        for name in MODELS:
            cases = windowed_cases(name, prefixes)
            mine = []
            for case in cases:
                simulation = Simulation(scenario(case, name), fused=False)
                recorder = Recorder(simulation)
                run(simulation, OneEngine(()))
                mine.append(recorder)
            pairs = [(case, each.times) for case, each in zip(cases, mine, strict=True)]
            for case, each, other in zip(cases, mine, theirs.play(python, pairs), strict=True):
                hits = hit_tokens(other.steps), hit_tokens(each.steps)
                steps = len(other.steps), len(each.steps)
                print(f"| {case.name} | {hits[0]:,} | {hits[1]:,} | {steps[0]:,} | {steps[1]:,} |")


if __name__ == "__main__":
    main()
