"""``agentserve train``: learn a policy, and judge it on workloads that it has not seen."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from agentserve_gym.cli.curves import draw_trainings, read_training
from agentserve_gym.cli.driving import allow_local_modules
from agentserve_gym.cli.learning import evaluation_table, warnings
from agentserve_gym.cli.output import JsonOption, console, note, plain_warnings, print_json
from agentserve_gym.cli.pictures import require_drawable
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.recipes import is_recipe_run, train_by_recipe, train_recipe_seeds
from agentserve_gym.cli.seeds import train_seeds
from agentserve_gym.cli.stopping import resumable
from agentserve_gym.cli.workers import RayOption, open_workers, worker_arguments
from agentserve_gym.tables import read_table, set_key
from agentserve_gym.tracking import LogTo, check_services


def train(
    env: Annotated[
        str | None,
        typer.Option(help="AgentServe-v0 (default), AgentServeRouting-v0, AgentServeOffload-v0."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="A preset (default: default), a cell of the benchmark, or a file."),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="maskable-ppo (default), ppo, or dqn (discrete actions).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Decisions to learn from; default 200000.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, exploration and training workloads.")
    ] = None,
    imitate: Annotated[
        str | None,
        typer.Option(help="Policy to start from, auto (default: the best candidate), or none."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Who takes the decisions that the environment does not ask.")
    ] = None,
    reward: Annotated[str | None, typer.Option(help="jct (default), slowdown or slo.")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy to compare with at the end; repeatable.")
    ] = None,
    eval_seeds: Annotated[
        int | None, typer.Option(help="Held-out seeds of the evaluation; default 30.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Of torch; default cpu.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A .toml or .json file with any settings.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: ppo.gamma=0.999; repeatable.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; default runs/ENV-SCENARIO-ALGORITHM-SEED."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Train a learned policy by a recipe instead: general, default, or a .toml file. "
            "Of the other options it takes --seed, --seeds, --set, --out, --jobs, --ray, --plot, "
            "--log and --json."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Train so often, with seeds from --seed on, side by side.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, max=256, help="With --recipe or --seeds: parallel processes.")
    ] = 2,
    ray: RayOption = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder, as it was set.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the training curve to this PNG file; agentserve curves does, too."),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE",
            help="Log settings, curves and results to wandb or mlflow, too; repeatable. Their own "
            "environment variables say where; without an account wandb writes to the run's folder.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a policy and compare it with heuristics on workloads it has not seen."""
    given: dict[str, Any] = {
        "env": env, "scenario": scenario, "algorithm": algorithm, "steps": steps, "seed": seed,
        "imitate": imitate, "baseline": baseline, "reward": reward, "device": device,
        "evaluation.policies": policy, "evaluation.seeds": eval_seeds,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    if plot is not None:
        require_drawable(plot)
    opening = open_workers(jobs, ray)
    if resume is not None and seeds is not None:
        raise typer.BadParameter("--resume is of one run; for --seeds, give the same command again")
    if plot is not None and seeds is not None:
        raise typer.BadParameter("--plot is of one run; for --seeds, see agentserve curves")
    if log and resume is not None:
        raise typer.BadParameter("--resume goes on logging where the run began to; give it alone")
    services = check_services(log or ())
    if recipe is not None or (resume is not None and is_recipe_run(resume)):
        if resume is not None and (recipe or given or settings or set_ or out):
            raise typer.BadParameter("--resume goes on with a run as it was set; give it alone")
        other = [name for name in given if name != "seed"] + (["settings"] if settings else [])
        if other:
            raise typer.BadParameter(f"--recipe takes no {', '.join(other)}; use --set")
        changes = {**given, **dict(map(read_assignment, set_ or ()))}
        if recipe is not None and seeds is not None:
            train_recipe_seeds(recipe, changes, seeds, out, opening, services, json=json)
            return
        where = worker_arguments(jobs, ray)
        folder = train_by_recipe(recipe, changes, out, resume, opening, where, services, json=json)
        if plot is not None:
            draw_trainings([read_training(folder)], plot)
        return
    if ray is not None and seeds is None:
        raise typer.BadParameter(
            "--ray runs trainings, or the episodes of a recipe, side by side; give --seeds or "
            "--recipe (one training through an environment is one process)"
        )

    from agentserve_gym.train import make_settings, runs

    allow_local_modules()
    if resume is not None:
        if given or settings or set_ or out:
            raise typer.BadParameter("--resume goes on with a run as it was set; give it alone")
        folder = resume
        with resumable(_resume_command(folder)), plain_warnings(), reporting() as report:
            evaluation, results = runs.resume(resume, report)
    else:
        values = read_table(settings) if settings is not None else {}
        for key, value in given.items():
            set_key(values, key, value)
        for assignment in set_ or ():
            set_key(values, *read_assignment(assignment))
        made = make_settings(values)
        if seeds is not None:
            train_seeds(made, seeds, out, opening, services, json=json)
            return
        folder = out or Path("runs") / made.run_name
        with resumable(_resume_command(folder)), plain_warnings(), reporting() as report:
            evaluation, results = runs.train(made, folder, report, LogTo(services))
    if plot is not None:
        draw_trainings([read_training(folder)], plot)
    if json:
        print_json({"run": str(folder), **results})
    else:
        evaluation_table(evaluation).print(console())
    for warning in warnings(evaluation):
        note(warning)
    note(f"run: {folder}; curves: tensorboard --logdir {folder / 'tensorboard'}")


def _resume_command(folder: Path) -> str:
    return shlex.join(["agentserve", "train", "--resume", str(folder)])


def read_assignment(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``, the value read as JSON where it is JSON."""
    from json import JSONDecodeError, loads

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise typer.BadParameter(f"cannot read {text!r}; write KEY=VALUE, such as ppo.gamma=0.999")
    try:
        return key.strip(), loads(value)
    except JSONDecodeError:
        return key.strip(), value
