"""``agentserve evaluate``: a trained policy against heuristics, on held-out seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentserve_gym import ENV_IDS
from agentserve_gym.baselines import NamedPolicy
from agentserve_gym.cli.driving import parse_policies
from agentserve_gym.cli.learning import evaluation_table, warnings
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.sim import load_scenario


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, its model.zip, another Stable-Baselines3 model (with "
            "--algorithm), or module:function, called with an observation and an action mask."
        ),
    ],
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="Of a model that agentserve train did not make: a2c, ars, dqn, maskable-ppo, "
            "ppo, qrdqn, recurrent-ppo or trpo. Loading it executes code pickled in the file: "
            "only from people you trust."
        ),
    ] = None,
    vecnormalize: Annotated[
        Path | None,
        typer.Option(help="Its VecNormalize statistics, where it has some. Also a pickle."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="A preset, a cell of the benchmark, or a file; default: what a run was trained "
            "on, else default."
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            help="Environment that the model learned in; default: what a run says, else "
            "AgentServe-v0."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Who takes the decisions that the model was not trained for; default: what a run "
            "says, else affinity+lru."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy to compare with; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many held-out seeds, 2 to 100.")] = 10,
    metric: Annotated[
        Literal["jct", "slowdown", "slo"] | None,
        typer.Option(help="What differences are of; default: what a run was trained for, or jct."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare a trained policy with heuristics on workloads that it has not seen."""
    from agentserve_gym.train import evaluate as compare
    from agentserve_gym.train import evaluation_seeds, load_policy
    from agentserve_gym.train.settings import COMPARED

    others = parse_policies(policy or COMPARED)
    judged: NamedPolicy
    if algorithm is not None or _names_function(model):
        trained_in, trained_on = env or ENV_IDS[0], "default"
        judged = _foreign(model, algorithm, vecnormalize, trained_in, baseline or "affinity+lru")
    else:
        if vecnormalize is not None:
            raise typer.BadParameter("--vecnormalize goes with --algorithm")
        judged = load_policy(model, baseline)
        card = judged.card
        if env is not None and env != card.env:
            raise typer.BadParameter(f"env is {env!r}, but {model} was trained in {card.env}")
        trained_in, trained_on, metric = card.env, card.scenario, metric or card.reward
    loaded = load_scenario(scenario or trained_on)
    with reporting() as report:
        result = compare(judged, others, loaded, evaluation_seeds(seeds), metric or "jct", report)
    if json:
        print_json({"model": model, "env": trained_in, **result.as_dict()})
    else:
        evaluation_table(result).print(console())
    for warning in warnings(result):
        note(warning)


def _names_function(model: str) -> bool:
    return ":" in model and not Path(model).exists()


def _foreign(
    model: str, algorithm: str | None, vecnormalize: Path | None, env: str, baseline: str
) -> NamedPolicy:
    from agentserve_gym.train import load_function, load_sb3

    if algorithm is not None:
        return load_sb3(model, algorithm, env, baseline, vecnormalize)
    if vecnormalize is not None:
        raise typer.BadParameter("--vecnormalize goes with --algorithm, not with a function")
    return load_function(model, env, baseline)
