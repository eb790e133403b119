"""Judge the weights that come with the package, and write docs/learning.md with its pictures.

python -m tools.learning_results          # goes on where it was stopped
python -m tools.learning_results --page   # from what has run so far
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.results import ResultsFile, key
from agentserve_gym.bench.runner import Job, plan_jobs, run_jobs
from agentserve_gym.bench.study import Study
from agentserve_gym.bench.suite import Suite
from agentserve_gym.cli.progress import reporting
from agentserve_gym.report.page import write_page
from agentserve_gym.scale import processes
from tools.learning_page import page, pictures
from tools.learning_studies import (
    TRAINING_SEEDS,
    elsewhere_suite,
    general_parts_suite,
    parts_suite,
    retrained_folder,
    retrained_suite,
    specialist_suite,
    unseen_suite,
)

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "learning"
PAGE = ROOT / "docs" / "learning.md"
JOBS = 2
SUITES: dict[str, Callable[[], Suite]] = {
    "default": specialist_suite,
    "standard": elsewhere_suite,
    "unseen": unseen_suite,
    "parts": parts_suite,
    "general-parts": general_parts_suite,
}
"""Folder -> what runs there."""


RETRAINED = ("standard", "unseen")
"""Folders of SUITES in which the weights of other trainings are judged, too."""


def main(arguments: list[str]) -> None:
    """Run what has not run yet, and write the page."""
    os.chdir(ROOT)  # policies name weights from here
    suites = {folder: suite() for folder, suite in SUITES.items()}
    kept = {folder: _results(folder) for folder in suites}
    running = "--page" not in arguments
    if running:
        for seed in TRAINING_SEEDS:
            _train(seed)
    again = {folder: retrained_suite(suites[folder]) for folder in RETRAINED}
    if running:
        for folder, suite in (*suites.items(), *again.items()):
            _run(suite, kept[folder])
    studies = {name: Study(suite, kept[name].outcomes) for name, suite in suites.items()}
    retrained = {name: Study(suite, kept[name].outcomes) for name, suite in again.items()}
    write_page(PAGE, page(studies, retrained), pictures(studies))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def _train(seed: int) -> None:
    """Train by the recipe `general`, or go on with it; nothing where that is done."""
    folder = retrained_folder(seed)
    how = ["--resume", folder]
    if not Path(folder).exists():
        how = ["--recipe", "general", "--seed", str(seed), "--out", folder]
    command = Path(sys.executable).with_name("agentserve")
    subprocess.run([command, "train", *how], check=True)


def _results(folder: str) -> ResultsFile:
    (RUNS / folder).mkdir(parents=True, exist_ok=True)
    return ResultsFile(RUNS / folder / "results.csv")


def _run(suite: Suite, results: ResultsFile) -> None:
    known = {key(outcome) for outcome in results.outcomes}
    left = [job for job in plan_jobs(suite) if job.key not in known]
    failures: list[str] = []
    done = 0
    with reporting() as report, processes(JOBS) as workers:

        def finished(outcome: Outcome) -> None:
            nonlocal done
            done += 1
            results.append(outcome)
            report(f"{suite.name}: runs", done, len(left))

        def failed(job: Job, error: Exception) -> None:
            failures.append(f"{job.key}: {error!r}")

        run_jobs(left, workers, finished, failed)
    if failures:
        sys.exit(f"{len(failures)} runs failed, the first is {failures[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
