"""Judge the weights that come with the package, and write docs/learning.md.

python -m tools.learning_results        # goes on where it was stopped
"""

from __future__ import annotations

import sys
from pathlib import Path

from agentserve_gym.baselines.learned.weights import about_weights, packaged_weights
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.results import ResultsFile, key
from agentserve_gym.bench.runner import plan_jobs, run_jobs
from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.bench.suite import LuckPlan, Suite, load_suite
from agentserve_gym.files import write_file
from agentserve_gym.report.markdown import change, code, plural, table, text_table
from agentserve_gym.report.page import current_commit, joined, opening
from agentserve_gym.report.statistics import ratio
from agentserve_gym.scale import processes

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "learning"
PAGE = ROOT / "docs" / "learning.md"
JOBS = 2

SPECIALIST = "learned(weights=default)"
SPECIALIST_SEEDS = 30
SEARCHED = ("lmetric+write_through+shortest_prefill",)
"""What `agentserve bench --search --scenario default` found, of 300 on seeds of its own."""

_INTRODUCTION = """Policies whose weights were trained here
([training.md](training.md#learned-parts)) against every curated policy that a live system could
run, on seeds that neither training nor the choice among weights has seen. Changes are of the
learned policy against the row's, geometric mean over paired seeds with Student's 95 % interval;
negative is better, **bold** excludes no difference.
"""


def main() -> None:
    """Run what has not run yet, and write the page."""
    suite = specialist_suite()
    study = Study(suite, _outcomes(suite, RUNS / "default"))
    write_file(PAGE, page(study))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def specialist_suite() -> Suite:
    """The preset `default` under every curated policy and the specialist, on evaluation seeds."""
    standard = load_suite("standard")
    deployable = [entry.label for entry in standard.policies if entry.lever != "oracle"]
    labels = [*deployable, *SEARCHED, SPECIALIST]
    part = standard.only(["default"], labels, SPECIALIST_SEEDS)
    changes = {"name": "specialist for default", "first_seed": 0, "luck": LuckPlan()}
    return part.model_copy(update=changes)


def _outcomes(suite: Suite, folder: Path) -> list[Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultsFile(folder / "results.csv")
    known = {key(outcome) for outcome in results.outcomes}
    left = [job for job in plan_jobs(suite) if job.key not in known]
    failures: list[str] = []
    print(f"{suite.name}: {len(left)} runs", file=sys.stderr)
    with processes(JOBS) as workers:
        run_jobs(
            left,
            workers,
            results.append,
            lambda job, error: failures.append(f"{job.key}: {error!r}"),
        )
    if failures:
        sys.exit(f"{len(failures)} runs failed, the first is {failures[0]}")
    return results.outcomes


def page(specialist: Study) -> str:
    """The page."""
    return joined(
        [
            opening("Learned policies", "make learning-results", current_commit()),
            _INTRODUCTION,
            _weights(),
            _specialist(specialist.cells[0]),
        ]
    )


def _weights() -> str:
    """What comes with the package, and how it was trained."""
    rows = []
    for name in packaged_weights():
        about = about_weights(name)
        kept = about["selection"]
        rows.append(
            (
                code(name),
                code(f"agentserve train --recipe {about['recipe']}"),
                ", ".join(about["cells"]),
                str(kept["update"]),
                f"{100 * kept['change']:+.1f} %",
            )
        )
    heading = ("weights", "trained by", "cells", "kept after update", "cost on selection seeds")
    return (
        "## Weights of the package\n\n*Cost*: log mean JCT, and the share of log p99 that the "
        "recipe names, against the heuristics that training started from, on the seeds that the "
        f"weights were chosen by.\n\n{text_table(heading, rows)}"
    )


def _specialist(cell: CellResult) -> str:
    others = [label for label in cell.ranked if label != SPECIALIST]
    rows = []
    for label in others:
        changes = (
            change(ratio(cell.values(SPECIALIST, column), cell.values(label, column)))
            for column in ("jct_mean_s", "jct_p99_s", "slowdown")
        )
        rows.append((code(label), f"{cell.mean(label):.1f}", *changes))
    best = others[0]
    against = change(cell.against(SPECIALIST, best))
    won = int((cell.values(SPECIALIST) < cell.values(best)).sum())
    heading = ("against", "mean JCT, s", "mean JCT", "p99 JCT", "slowdown")
    return (
        f"## The specialist for the preset `default`\n\n{code(SPECIALIST)}: mean JCT "
        f"{cell.mean(SPECIALIST):.1f} s over {plural(len(cell.seeds), 'seed')}. Against the best "
        f"of {len(others)} others on these very seeds, {code(best)}: {against}, {won} of "
        f"{len(cell.seeds)} seeds won.\n\n{table(heading, rows)}"
    )


if __name__ == "__main__":
    main()
