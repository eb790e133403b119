"""``agentserve demo``: coding-agent programs on four GPUs, under three policies."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli import pictures, tables
from agentserve_gym.cli.driving import run_policies
from agentserve_gym.cli.explain import explain
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.datasets import find_data_set, missing
from agentserve_gym.files import is_pipe
from agentserve_gym.sim import Scenario, load_scenario
from agentserve_gym.workloads import TraceWorkload, read_programs

# Stock serving, the best single heuristic of the benchmark, and a learned policy.
POLICIES = {
    "lru": "a program stays on its instance; its KV stays in HBM until others need the room, and "
    "is computed again if it is gone",
    "lmetric+kvbm+thunderagent+shortest_prefill": "the best single heuristic of the benchmark: "
    "least work and load, KV copied to DRAM and CXL, a gate that pauses programs where HBM is "
    "short, and short prefills first",
    "learned(weights=general)": "the same kinds of rules, with weights that were trained over the "
    "benchmark's cells and more",
}

# Replayed where it is there; programs are generated otherwise.
RECORDED = "coding-sessions"

_WINDOW_TOKENS = 120_000
_WHOLE_CONVERSATION = "fresh_start"


def demo(
    trace: Annotated[
        Path | None, typer.Option(help="Replay the programs of this workload file.")
    ] = None,
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path(
        "demo/comparison.png"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 0,
    json: JsonOption = False,
) -> None:
    """Compare three policies on coding-agent programs, and draw a picture.

    Replays recorded programs where the data set coding-sessions is here (see agentserve data), and
    generated programs otherwise.
    """
    if trace is not None and (str(trace) == "-" or is_pipe(trace)):
        raise ValueError(f"trace is {str(trace)!r}, but is read once a policy; allowed: a file")
    picture.parent.mkdir(parents=True, exist_ok=True)
    pictures.require_drawable(picture)
    source = trace if trace is not None else find_data_set(RECORDED)
    scenario = demo_scenario(source)
    origin = (
        f"programs recorded in {source.name}"
        if source is not None
        else "generated programs, like recorded ones in their statistics"
    )
    note(scenario.description)
    if source is None:
        note(f"Recorded programs are replayed where they are: {missing(RECORDED)}.")
    note(f"Replaying {origin} under")
    for name, rule in POLICIES.items():
        note(f"  {name}: {rule}")
    runs = run_policies(scenario, list(POLICIES), seed, recorded=True)
    sentences = explain(runs)
    programs = f"{runs[0].record.report['programs']} {origin}"
    pictures.draw(picture, runs, sentences[0].rstrip("."), f"{scenario.description} {programs}.")
    if json:
        print_json(
            {
                "scenario": scenario.name,
                "programs_from": str(source) if source is not None else "generator",
                "runs": [run.as_dict() for run in runs],
                "explanation": sentences,
                "picture": str(picture),
            }
        )
        return
    out = console()
    tables.comparison(runs, f"demo, seed {seed}").print(out)
    for sentence in sentences:
        out.print(sentence, markup=False)
    typer.echo(f"picture: {picture}")


def demo_scenario(trace: Path | None) -> Scenario:
    """The demonstration's scenario, on a workload file's programs if there is one.

    Of a file that tells them apart, programs recorded from their first turn on are used.

    Raises:
        ValueError: if the file cannot be read.
    """
    text = (resources.files("agentserve_gym.cli") / "demo.toml").read_text(encoding="utf-8")
    scenario = load_scenario(tomllib.loads(text))
    if trace is None:
        return scenario
    labels = {label for program in read_programs(trace) for label in program.labels}
    workload = TraceWorkload(
        path=str(trace),
        fresh_start_only=_WHOLE_CONVERSATION in labels,
        max_context_tokens=_WINDOW_TOKENS,
    )
    return scenario.model_copy(update={"workload": workload})
