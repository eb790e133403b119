"""``agentserve submit``: a policy's runs of a leaderboard's edition, in one file."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli.driving import allow_local_modules
from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.stopping import resumable
from agentserve_gym.leaderboard.edition import Edition, load_edition, load_private_seeds
from agentserve_gym.leaderboard.policies import make_card
from agentserve_gym.leaderboard.runs import submit as run
from agentserve_gym.leaderboard.submission import Submission, too_slow, write_submission
from agentserve_gym.report.markdown import interval

_MODEL = "model.zip"

EditionOption = Annotated[str, typer.Option(help="An edition's name, or a .toml file.")]
SeedsOption = Annotated[
    Path | None, typer.Option(help="The private seeds, for who keeps them: the private part.")
]
JobsOption = Annotated[int, typer.Option(min=1, max=256, help="Parallel processes.")]


def submit(
    policy: Annotated[
        str,
        typer.Argument(
            help="A policy as --policy reads it; a training's folder or model.zip; with "
            "--algorithm another Stable-Baselines3 model; with --env module:function, called "
            "with an observation and an action mask."
        ),
    ],
    edition: EditionOption = "v1",
    seeds: SeedsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; default: EDITION-NAME.json here.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="On the leaderboard; default: the policy's own.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Who made it; needed unless it comes with the package.")
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="Its rule in a line; needed as --author.")
    ] = None,
    observes: Annotated[
        str | None, typer.Option(help="What it decides by; default: what a live router sees.")
    ] = None,
    training_cost: Annotated[
        str | None, typer.Option(help="What its weights cost, in words; needed as --author.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="Of a model that agentserve train did not make, as of evaluate."),
    ] = None,
    vecnormalize: Annotated[
        Path | None, typer.Option(help="Its VecNormalize statistics. Also a pickle.")
    ] = None,
    env: Annotated[
        str | None, typer.Option(help="Environment whose observations a model or function takes.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Who takes the decisions that a model or function does not."),
    ] = None,
    jobs: JobsOption = 2,
    json: JsonOption = False,
) -> None:
    """Score a policy for the leaderboard, and write what it achieved to one file.

    A call that was stopped goes on where it was, from FILE.rows.csv.
    """
    allow_local_modules()
    text = policy_text(policy, algorithm, vecnormalize, env, baseline)
    scored = load_edition(edition)
    private = None if seeds is None else load_private_seeds(seeds)
    card = make_card(
        text,
        name=name,
        author=author,
        description=description,
        observes=observes,
        training_cost=training_cost,
    )
    path = out or default_file(scored, card.name, private=private is not None)
    if path.exists():
        raise ValueError(f"{path} exists; name another file with --out")
    with reporting() as report, resumable(shlex.join(["agentserve", *sys.argv[1:]])):
        made = run(card, scored, private, path.with_suffix(".rows.csv"), jobs, report)
    write_submission(path, made)
    if json:
        print_json(made.totals.model_dump(mode="json"))
    else:
        _print(made, scored)
    if not made.totals.in_time:
        note(f"too slow to be ranked: {too_slow(made.totals, scored)}")
    note(f"submission: {path}; to check it: agentserve verify {path}")


def policy_text(
    policy: str,
    algorithm: str | None = None,
    vecnormalize: Path | None = None,
    env: str | None = None,
    baseline: str | None = None,
) -> str:
    """A policy, model or function, as ``parse_policy`` reads it."""
    given: dict[str, object | None]
    if algorithm is not None:
        maker, given = "load_sb3", {"path": _model_file(policy), "algorithm": algorithm}
        given["env"] = env
        given["vecnormalize"] = vecnormalize
    elif vecnormalize is not None:
        raise typer.BadParameter("--vecnormalize goes with --algorithm")
    elif _names_model(policy):
        if env is not None:
            raise typer.BadParameter("--env goes with --algorithm or module:function")
        maker, given = "load_policy", {"path": _model_file(policy)}
    elif env is not None:
        maker, given = "load_function", {"text": policy, "env": env}
    elif baseline is not None:
        raise typer.BadParameter("--baseline goes with a model, or with --env and module:function")
    else:
        return policy
    given["baseline"] = baseline
    said = ",".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return f"agentserve_gym.train:{maker}({said})"


def _names_model(text: str) -> bool:
    """Whether it is a model's file or the folder of a training, and no policy's name."""
    is_path = "(" not in text and ("/" in text or text.endswith(".zip"))
    return is_path or (Path(text) / _MODEL).is_file()


def _model_file(text: str) -> Path:
    """The file itself, as the fingerprint is of files."""
    return Path(text) / _MODEL if Path(text).is_dir() else Path(text)


def default_file(edition: Edition, name: str, *, private: bool) -> Path:
    """What a submission's file is called."""
    words = re.sub(r"[^\w.]+", "-", name).strip("-")
    return Path(f"{edition.name}-{words}{'-private' if private else ''}.json")


def _print(made: Submission, edition: Edition) -> None:
    title = f"{made.card.name}: edition {edition.name}, {made.part} seeds, over {edition.reference}"
    table = Figures(title, ["", "ratio"])
    ratios = made.totals.ratios
    table.rows = [[f"all cells, {name}", interval(ratios[name].estimate)] for name in ratios]
    table.rows += [[cell, interval(found.estimate)] for cell, found in made.totals.cells.items()]
    table.print(console())
