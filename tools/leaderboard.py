"""Submissions of all policies that come with the package, and docs/leaderboard.md.

python -m tools.leaderboard                         # goes on where it was stopped
python -m tools.leaderboard --page                  # the page alone, of the files that are there
python -m tools.leaderboard --policy thunderagent   # a submission of this policy; repeatable
python -m tools.leaderboard --seeds FILE            # of the private part, for who has its seeds
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agentserve_gym.baselines.learned.weights import packaged_weights
from agentserve_gym.bench.suite import load_suite
from agentserve_gym.cli.progress import Report, reporting
from agentserve_gym.cli.submit import default_file
from agentserve_gym.files import write_file
from agentserve_gym.leaderboard.edition import (
    Edition,
    PrivateSeeds,
    load_edition,
    load_private_seeds,
)
from agentserve_gym.leaderboard.page import page, read_all
from agentserve_gym.leaderboard.policies import make_card
from agentserve_gym.leaderboard.runs import submit
from agentserve_gym.leaderboard.submission import read_submission, write_submission
from agentserve_gym.report.page import current_commit

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "leaderboard"
NOTES = ROOT / "runs" / "leaderboard"
PAGE = ROOT / "docs" / "leaderboard.md"
EDITION = "v1"
JOBS = 2


def main() -> None:
    """Run what is not there yet, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.leaderboard")
    parser.add_argument("--policy", action="append", choices=list(shipped()), metavar="LABEL")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--seeds", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    edition = load_edition(EDITION)
    failed: list[str] = []
    if not arguments.page:
        private = load_private_seeds(arguments.seeds) if arguments.seeds else None
        NOTES.mkdir(parents=True, exist_ok=True)
        FOLDER.mkdir(exist_ok=True)
        failed = submit_all(arguments.policy or list(shipped()), edition, private)
    write_file(PAGE, made(edition))
    print(f"wrote {PAGE.relative_to(ROOT)}")
    if failed:
        sys.exit(f"{len(failed)} policies failed: {', '.join(failed)}")


def submit_all(labels: list[str], edition: Edition, private: PrivateSeeds | None) -> list[str]:
    """Submit policies; labels of those whose runs failed."""
    failed = []
    with reporting() as report:
        for number, label in enumerate(labels, start=1):
            print(f"{number} of {len(labels)}: {label}", file=sys.stderr)
            try:
                add(label, edition, private, report)
            except ValueError as error:
                print(f"{label}: {error}", file=sys.stderr)
                failed.append(label)
    return failed


def shipped() -> dict[str, str]:
    """Label -> policy of all that a live system could run, with tuned parameters."""
    suite = load_suite("standard")
    others = ("oracle", "learned")
    curated = {e.label: e.policy for e in suite.policies if e.lever not in others}
    learned = [f"learned(weights={name})" for name in packaged_weights()]
    return {**curated, **{name: name for name in learned}}


def add(label: str, edition: Edition, private: PrivateSeeds | None, report: Report) -> None:
    """Submit a policy unless there is a file of it as it is now."""
    card = make_card(shipped()[label], name=label)
    path = FOLDER / default_file(edition, label, private=private is not None)
    if path.exists() and read_submission(path, edition).card == card:
        return
    notes = NOTES / path.with_suffix(".rows.csv").name
    write_submission(path, submit(card, edition, private, notes, JOBS, report))


def made(edition: Edition) -> str:
    """The page, of the files that are there."""
    return page(read_all(FOLDER, edition), edition, "make leaderboard-page", current_commit())


if __name__ == "__main__":
    main()
