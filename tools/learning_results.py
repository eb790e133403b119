"""Judge the weights that come with the package, and write docs/learning.md with its pictures.

python -m tools.learning_results          # goes on where it was stopped
python -m tools.learning_results --page   # from what has run so far
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agentserve_gym.bench.headroom import HeadroomStudy
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.results import ResultsFile, key
from agentserve_gym.bench.runner import Job, plan_jobs, run_jobs
from agentserve_gym.bench.study import Study
from agentserve_gym.bench.suite import Suite
from agentserve_gym.cli.progress import reporting
from agentserve_gym.report.page import write_page
from agentserve_gym.scale import processes
from tools.learning_ingredients import INGREDIENTS, ingredients_suite, write_lacking
from tools.learning_page import Evidence, judged, page, pictures
from tools.learning_studies import (
    GENERAL,
    TRAINING_SEEDS,
    ahead_suite,
    elsewhere_suite,
    general_parts_suite,
    left_suite,
    parts_suite,
    retrained_folder,
    retrained_suite,
    specialist_suite,
    swapped_suite,
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


EVERYWHERE = ("standard", "unseen")
"""Folders of SUITES in which weights of other trainings are judged and losses explained, too."""


def main() -> None:
    """Run what has not run yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.learning_results")
    parser.add_argument("--page", action="store_true", help="from what has run so far")
    running = not parser.parse_args().page
    os.chdir(ROOT)  # policies name weights from here
    if running:
        for seed in TRAINING_SEEDS:
            _train(seed)
    written = evidence(_run_left if running else _kept)
    write_page(PAGE, page(written), pictures(written.studies))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def evidence(outcomes: Callable[[str, Suite], list[Outcome]]) -> Evidence:
    """Everything that the page is written from.

    Args:
        outcomes: of a suite, whose results are in a folder.
    """
    suites = {folder: suite() for folder, suite in SUITES.items()}
    studies = {folder: Study(suite, outcomes(folder, suite)) for folder, suite in suites.items()}
    again = {folder: retrained_suite(suites[folder]) for folder in EVERYWHERE}
    lost = []
    for folder in EVERYWHERE:
        for cell, best in judged(studies[folder], GENERAL).lost.items():
            mixed = swapped_suite(suites[folder], cell, GENERAL, best)
            lost.append((best, Study(mixed, outcomes(folder, mixed))))
    for ingredient in INGREDIENTS:
        write_lacking(ingredient)
    without, ahead, left = ingredients_suite(), ahead_suite(), left_suite()
    return Evidence(
        studies,
        {folder: Study(suite, outcomes(folder, suite)) for folder, suite in again.items()},
        Study(without, outcomes("ingredients", without)),
        lost,
        Study(ahead, outcomes("ahead", ahead)),
        HeadroomStudy(left, outcomes("left", left)).figures(),
    )


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


def _kept(folder: str, suite: Suite) -> list[Outcome]:
    """What has run so far."""
    del suite
    return _results(folder).outcomes


def _run_left(folder: str, suite: Suite) -> list[Outcome]:
    """What has run, and what has not run yet."""
    results = _results(folder)
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
    return results.outcomes


if __name__ == "__main__":
    main()
