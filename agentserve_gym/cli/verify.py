"""``agentserve verify``: whether a leaderboard's file is what it says."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli.driving import allow_local_modules
from agentserve_gym.cli.output import note
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.submit import JobsOption, SeedsOption, policy_text
from agentserve_gym.leaderboard.edition import load_edition, load_private_seeds
from agentserve_gym.leaderboard.submission import edition_of, read_submission, too_slow
from agentserve_gym.leaderboard.verifying import drawn_rows
from agentserve_gym.leaderboard.verifying import verify as check
from agentserve_gym.report.markdown import plural

_SEEDS = 10**9


def verify(
    file: Annotated[Path, typer.Argument(help="A file that agentserve submit wrote.")],
    policy: Annotated[
        str | None,
        typer.Option(
            help="The submitted policy, or the file of its model, here. Needed where it is code or "
            "weights from outside. Code runs: only from people you trust."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows to run again.")] = 3,
    every: Annotated[bool, typer.Option("--all", help="Run all rows again.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the rows; default: another one every time.")
    ] = None,
    seeds: SeedsOption = None,
    edition: Annotated[
        str | None, typer.Option(help="The edition's .toml file, if this version has it not.")
    ] = None,
    jobs: JobsOption = 2,
) -> None:
    """Check a submission: its checksum, its totals, its policy, and some of its rows, run again."""
    allow_local_modules()
    scored = load_edition(edition or edition_of(file))
    submission = read_submission(file, scored)
    drawn_by = secrets.randbelow(_SEEDS) if seed is None else seed
    chosen = drawn_rows(submission, None if every else rows, drawn_by)
    private = None if seeds is None else load_private_seeds(seeds)
    with reporting() as report:
        remarks = check(
            file,
            submission,
            scored,
            policy=policy and policy_text(policy),
            private=private,
            chosen=chosen,
            workers=jobs,
            report=report,
        )
    how = "" if every or not chosen else f" (drawn with --seed {drawn_by})"
    again = f"{plural(len(chosen), 'row')} of {len(submission.rows)} run again{how}"
    typer.echo(f"{file}: checksum, totals, policy and {again} hold")
    for remark in remarks:
        note(remark)
    if not submission.totals.in_time:
        note(f"not ranked: {too_slow(submission.totals, scored)}")
