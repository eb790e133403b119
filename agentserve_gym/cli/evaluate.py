"""``agentserve evaluate``: a trained policy against heuristics, on held-out seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentserve_gym.cli.learning import evaluation_table, reporting
from agentserve_gym.cli.output import JsonOption, console, print_json
from agentserve_gym.sim import load_scenario


def evaluate(
    model: Annotated[Path, typer.Option(help="A run's folder, or a model.zip.")],
    scenario: Annotated[
        str | None,
        typer.Option(help="A preset's name, or a file; default: what it was trained on."),
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Checked against the environment it was trained in.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy to compare with; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many held-out seeds, 2 to 100.")] = 10,
    metric: Annotated[
        Literal["jct", "slowdown", "slo"] | None,
        typer.Option(help="What differences are of; default: what it was trained for."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare a trained policy with heuristics on workloads that it has not seen."""
    from agentserve_gym.baselines import parse_policy
    from agentserve_gym.train import evaluate as compare
    from agentserve_gym.train import evaluation_seeds, load_policy
    from agentserve_gym.train.settings import COMPARED

    learned = load_policy(model)
    card = learned.card
    if env is not None and env != card.env:
        raise typer.BadParameter(f"env is {env!r}, but {model} was trained in {card.env}")
    loaded = load_scenario(scenario or card.scenario)
    others = [parse_policy(name) for name in policy or COMPARED]
    with reporting() as report:
        result = compare(
            learned, others, loaded, evaluation_seeds(seeds), metric or card.reward, report
        )
    if json:
        print_json({"model": str(model), "env": card.env, **result.as_dict()})
        return
    console().print(evaluation_table(result))
