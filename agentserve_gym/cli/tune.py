"""``agentserve tune``: search for the settings of a training."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from math import expm1
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentserve_gym.cli.driving import allow_local_modules
from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.stopping import resumable
from agentserve_gym.cli.train import read_assignment
from agentserve_gym.cli.workers import RayOption, WithRay, open_workers, worker_arguments
from agentserve_gym.report.markdown import plural
from agentserve_gym.tables import read_table, set_key

if TYPE_CHECKING:
    from agentserve_gym.tuning import Plan, Space, Tuned

tune = typer.Typer(
    name="tune",
    help="Search for settings of trainings (of baselines: agentserve bench --tune).",
    no_args_is_help=True,
    add_completion=False,
)


@tune.callback()
def _group() -> None:
    """A group, whose commands are given by name even while there is one alone."""


@tune.command("train", cls=WithRay)
def tune_train(
    env: Annotated[str | None, typer.Option(help="As of train.")] = None,
    scenario: Annotated[str | None, typer.Option(help="As of train.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="As of train.")] = None,
    steps: Annotated[int | None, typer.Option(help="As of train; of every trial.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A .toml or .json file with any settings of train.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting of train; repeatable.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Tune this recipe instead; it takes --set alone.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="What is tried: ppo, dqn, recipe (default: what fits), or a .toml file."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trainings in all; default: the space's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Parallel processes.")] = 2,
    ray: RayOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The tuning's folder; default runs/tune-...")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the tuning in this folder, or with --trials beyond its end."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search for settings with which a training gives the best policy.

    Every trial is a training, judged on workloads that no evaluation uses.
    """
    from agentserve_gym.tuning import resume_tuning
    from agentserve_gym.tuning import tune as begin_tuning

    given: dict[str, Any] = {
        "env": env, "scenario": scenario, "algorithm": algorithm, "steps": steps,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    allow_local_modules()
    opening = open_workers(jobs, ray)
    if resume is not None:
        if given or settings or set_ or recipe or space or out:
            raise typer.BadParameter(
                "--resume goes on with a tuning as it was set; it takes --trials, --jobs, --ray "
                "and --json"
            )
        folder = resume
        with resumable(_command(folder, jobs, ray)), opening as workers, reporting() as report:
            found = resume_tuning(folder, workers, report, trials)
    else:
        if recipe is not None:
            if given or settings:
                raise typer.BadParameter("--recipe takes settings by --set alone")
            plan, name = _recipe_plan(recipe, set_ or [], space, trials)
        else:
            plan, name = _settings_plan(given, settings, set_ or [], space, trials)
        folder = out or Path("runs") / name
        with resumable(_command(folder, jobs, ray)), opening as workers, reporting() as report:
            found = begin_tuning(plan, folder, workers, report)
    _say(found, folder, json=json)


def _recipe_plan(
    name: str, assignments: list[str], space: str | None, trials: int | None
) -> tuple[Plan, str]:
    from agentserve_gym.learning import load_recipe
    from agentserve_gym.tuning import plan_recipe

    recipe = load_recipe(name, dict(map(read_assignment, assignments)))
    return plan_recipe(recipe, _space(space or "recipe", trials)), f"tune-recipe-{recipe.name}"


def _settings_plan(
    given: dict[str, Any],
    settings: Path | None,
    assignments: list[str],
    space: str | None,
    trials: int | None,
) -> tuple[Plan, str]:
    from agentserve_gym.train import make_settings
    from agentserve_gym.tuning import plan_training

    values = read_table(settings) if settings is not None else {}
    for key, value in [*given.items(), *map(read_assignment, assignments)]:
        set_key(values, key, value)
    made = make_settings(values)
    fitting = "dqn" if made.algorithm == "dqn" else "ppo"
    plan = plan_training(values, _space(space or fitting, trials))
    return plan, f"tune-{made.env}-{Path(made.scenario).stem}-{made.algorithm}"


def _space(name: str, trials: int | None) -> Space:
    from agentserve_gym.tuning import load_space

    space = load_space(name)
    return space if trials is None else space.model_copy(update={"trials": trials})


def _command(folder: Path, jobs: int, ray: str | None) -> str:
    given = ["--resume", str(folder), *worker_arguments(jobs, ray)]
    return shlex.join(["agentserve", "tune", "train", *given])


def _say(found: Tuned, folder: Path, *, json: bool) -> None:
    from agentserve_gym.tuning.study import BEST

    best, first = found.best, found.trials[0]
    if json:
        trials = [asdict(trial) for trial in found.trials]
        print_json({"run": str(folder), "best": asdict(best), "trials": trials})
    else:
        _table(found).print(console())
    for trial in found.trials:
        if trial.error is not None:
            note(f"trial {trial.number} failed: {trial.error}")
    if len(versions := {trial.version for trial in found.trials if trial.version}) > 1:
        note(f"trials are of several versions: {'; '.join(sorted(versions))}")
    option = "--recipe" if found.plan.trains == "recipe" else "--settings"
    if best.number == first.number:
        note("no trial was better than the settings as they were given")
    note(f"to train with the best: agentserve train {option} {shlex.quote(str(folder / BEST))}")


def _table(found: Tuned) -> Figures:
    best, first, space = found.best, found.trials[0], found.plan.space
    table = Figures(
        f"best of {plural(len(found.trials), 'trial')}, trial {best.number}: "
        f"{plural(space.seeds, 'tuning workload')}",
        ["setting", "as given", "best"],
    )
    for name, given in found.plan.stock().items():
        table.rows.append([name, _figure(given), _figure(best.changes[name])])
    assert best.value is not None
    table.rows.append(["result", _figure(first.value), _figure(best.value)])
    if first.value is not None:
        is_log = found.plan.trains == "recipe"
        change = expm1(best.value - first.value) if is_log else best.value / first.value - 1.0
        table.rows.append(["change", "", f"{change:+.1%}"])
    table.remarks.append(
        f"result: {found.plan.measures}; smaller is better. The best of several, so expect less "
        "on other workloads"
    )
    return table


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "failed" if value is None else str(value)
