"""Runs of an edition, by the benchmark's own runner: all of them, or some again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

import agentserve_gym
from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench.measure import Outcome, measure
from agentserve_gym.bench.results import ResultsFile, key
from agentserve_gym.bench.runner import Job, code_fingerprint, run_jobs
from agentserve_gym.bench.suite import find_scenario
from agentserve_gym.compiled import kernel
from agentserve_gym.leaderboard.edition import Edition, Part, PrivateSeeds, Recorded
from agentserve_gym.leaderboard.policies import fingerprint, require_live_view
from agentserve_gym.leaderboard.submission import (
    Card,
    MadeBy,
    Row,
    Submission,
    rounded,
    row_of,
    totals_of,
)
from agentserve_gym.leaderboard.timed import timed
from agentserve_gym.report.page import current_commit
from agentserve_gym.scale import processes

Report = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""
Run = tuple[str, int]
"""A cell, and the place of a seed in the part's list, from 1 on."""


def submit(
    card: Card,
    edition: Edition,
    private: PrivateSeeds | None,
    notes: Path,
    workers: int,
    report: Report,
) -> Submission:
    """Run a policy through an edition.

    Args:
        private: seeds of the private part; ``None`` for the public one.
        notes: file of finished runs, which a later call goes on from; removed at the end.
        workers: parallel processes.

    Raises:
        ValueError: if the policy is not allowed, the seeds are not the edition's, or runs fail.
    """
    require_live_view(parse_policy(card.policy))
    seeds = edition.seeds(private)
    places = range(1, len(seeds) + 1)
    everything = [(cell, place) for place in places for cell in edition.cell_names]
    jobs = plan(card, edition, seeds, everything)
    results = ResultsFile(notes)
    run_all(jobs, results.outcomes, results.append, workers, report)
    part: Part = "public" if private is None else "private"
    found = {key(outcome): outcome for outcome in results.outcomes}
    rows = [
        row_of(found[jobs[cell, place].key], place)
        for cell in edition.cell_names
        for place in places
    ]
    made = Submission(
        edition=edition.name,
        edition_sha256=edition.sha256,
        part=part,
        card=card,
        made_by=made_by(),
        totals=totals_of(rows, edition, part),
        rows=rows,
    )
    notes.unlink()
    return made


def again(
    submission: Submission,
    edition: Edition,
    private: PrivateSeeds | None,
    chosen: Sequence[Run],
    workers: int,
    report: Report,
) -> list[tuple[Row, Row]]:
    """Some rows of a submission, each with what a run here gives.

    Raises:
        ValueError: as ``submit``.
    """
    jobs = plan(submission.card, edition, edition.seeds(private), chosen)
    outcomes: list[Outcome] = []
    run_all(jobs, [], outcomes.append, workers, report)
    found = {key(outcome): outcome for outcome in outcomes}
    told = {(row.cell, row.seed): row for row in submission.rows}
    return [(told[run], row_of(found[job.key], run[1])) for run, job in jobs.items()]


def record(cell: str, policy: str, seed: int, place: int) -> Recorded:
    """What a policy achieves in a cell with a seed, which is the ``place``-th of its part."""
    outcome = measure(find_scenario(cell), policy, parse_policy(policy), seed)
    figures = (outcome.jct_mean_s, outcome.jct_p99_s, outcome.slowdown)
    return Recorded(cell, place, *map(rounded, figures))


def plan(
    card: Card, edition: Edition, seeds: Sequence[int], chosen: Sequence[Run]
) -> dict[Run, Job]:
    """What is to be run, in this order; equal runs have equal digests."""
    code = code_fingerprint()
    what = f"{edition.name} {card.policy} {fingerprint(parse_policy(card.policy))} {code}"
    digest = hashlib.sha256(what.encode("utf-8")).hexdigest()[:10]
    scenarios = {name: find_scenario(name) for name in edition.cell_names}
    return {
        (cell, place): Job(
            scenario=scenarios[cell],
            label=card.name,
            policy=timed(card.policy),
            seed=seeds[place - 1],
            digest=digest,
            code=code,
        )
        for cell, place in chosen
    }


def run_all(
    jobs: dict[Run, Job],
    known: Iterable[Outcome],
    keep: Callable[[Outcome], None],
    workers: int,
    report: Report,
) -> None:
    """Run what is not known.

    Raises:
        ValueError: naming the first failure, after everything else has run.
    """
    done = {key(outcome) for outcome in known}
    left = [job for job in jobs.values() if job.key not in done]
    finished = len(jobs) - len(left)
    failures: list[str] = []

    def progressed() -> None:
        nonlocal finished
        finished += 1
        report("leaderboard: runs", finished, len(jobs))

    def kept(outcome: Outcome) -> None:
        keep(outcome)
        progressed()

    def failed(job: Job, error: Exception) -> None:
        failures.append(f"{job.scenario.name}: {error}")
        progressed()

    report("leaderboard: runs", finished, len(jobs))
    with processes(min(workers, max(len(left), 1))) as here:
        run_jobs(left, here, kept, failed)
    if failures:
        raise ValueError(f"{len(failures)} of {len(jobs)} runs failed; the first: {failures[0]}")


def made_by() -> MadeBy:
    """This version."""
    return MadeBy(
        agentserve_gym=agentserve_gym.__version__,
        code=code_fingerprint(),
        commit=current_commit(),
        kernel=kernel(),
        python=platform.python_version(),
        numpy=np.__version__,
    )
