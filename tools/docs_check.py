"""Whether generated documents are what this version computes: ``python -m tools.docs_check``.

Every generated page must say which command made it. The validation page is computed anew where
its data sets are here; of the benchmark two cells under two policies; of the training results the
heuristics; of learned policies their own figures; the leaderboard from its files, whose checksums
and totals must hold. Differences are printed and end with exit code 1. Performance is not
repeatable to the digit and is not measured.
"""

from __future__ import annotations

import difflib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from typer.testing import CliRunner

from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench import Outcome, Study, Suite, load_suite, plan_jobs, run_jobs
from agentserve_gym.bench.cell_pages import cells_page
from agentserve_gym.cli import app
from agentserve_gym.datasets import find_data_set
from agentserve_gym.leaderboard.edition import load_edition
from agentserve_gym.report.page import is_made_by
from agentserve_gym.scale import InThisProcess
from agentserve_gym.sim import load_scenario
from agentserve_gym.train import evaluation_seeds
from agentserve_gym.train.evaluation import score
from tools import leaderboard
from tools.learning_studies import GENERAL, SPECIALIST, elsewhere_suite, specialist_suite

DOCS = Path(__file__).resolve().parents[1] / "docs"
GENERATED = (
    "benchmark.md", "benchmark/cells.md", "benchmark/headroom.md", "conformance.md",
    "leaderboard.md", "learning.md", "performance.md", "training-results.md", "validation.md",
)  # fmt: skip

CELLS = ["light-functions-8b", "coding-8b-single"]
CELL_POLICIES = ["affinity", "lmetric"]
_RELATIVE_TO_BEST = 1
"""The column of a cell's table that depends on every policy of the page."""
NEEDED = {
    "validation.md": (
        "vllm-runs", "gpu-profiles", "coding-session-blocks", "agentic-runs", "router-runs",
    ),
}  # fmt: skip
LEARNED_CELL = "coding-8b-single"
HEURISTICS = ("affinity+lru", "lmetric+dram")

Lines = list[str]


def main() -> None:
    """Check, print, exit."""
    failures = 0
    for name, check in CHECKS.items():
        lacking = [data for data in NEEDED.get(name, ()) if find_data_set(data) is None]
        if lacking:
            print(f"{name}: not checked, for want of the data sets {', '.join(lacking)}")
            continue
        found = list(check())
        print(f"{name}: {'differs' if found else 'same'}", flush=True)
        print("".join(f"  {line}\n" for line in found), end="")
        failures += bool(found)
    if failures:
        sys.exit("these documents are not what this version computes; make them anew")


def _provenance() -> Iterator[str]:
    for name in GENERATED:
        if not any(is_made_by(line) for line in _lines(DOCS / name)):
            yield f"{name} does not say which command made it"


def _validation() -> Iterator[str]:
    """The whole page."""
    with tempfile.TemporaryDirectory() as place:
        arguments = ["validate", "--details", "--trends", "--report", place]
        result = CliRunner().invoke(app, arguments)
        made = Path(place) / "validation.md"
        if result.exit_code != 0 or not made.is_file():
            yield result.output.strip()
            return
        yield from _differences(_lines(DOCS / "validation.md"), _lines(made))


def _cells() -> Iterator[str]:
    """Rows of two policies in two cells, on the page's seeds, but for the column that depends on
    all policies."""
    page = (DOCS / "benchmark" / "cells.md").read_text(encoding="utf-8")
    seeds = int(re.findall(r"--seeds (\d+)", page)[0])
    suite = load_suite("standard").only(CELLS, CELL_POLICIES, seeds)
    known = _cell_rows(page)
    for key, row in _cell_rows(cells_page(Study(suite, _run(suite)))).items():
        if key[1] in CELL_POLICIES and known.get(key) != row:
            yield from _differences([str((*key, known.get(key)))], [str((*key, row))])


def _cell_rows(page: str) -> dict[tuple[str, str], Lines]:
    """(cell, policy) -> its figures."""
    rows, cell = {}, ""
    for line in page.splitlines():
        if line.startswith("## "):
            cell = line.removeprefix("## ")
        elif line.startswith("| "):
            policy, *figures = [text.strip() for text in line.strip("| ").split(" | ")]
            del figures[_RELATIVE_TO_BEST]
            rows[cell, policy] = figures
    return rows


def _training() -> Iterator[str]:
    """Mean JCT of heuristics on the held-out seeds."""
    text = (DOCS / "training-results.md").read_text(encoding="utf-8")
    seeds = int(re.findall(r"(\d+) held-out seeds, mean JCT of the", text)[0])
    scenario = load_scenario("default")
    for name in HEURISTICS:
        policy = parse_policy(name)
        mean_s = score(policy, scenario, evaluation_seeds(seeds), lambda *_: None).mean("jct")
        found = re.findall(rf"^\| `{re.escape(name)}`[^|]*\| ([\d.]+) \|", text, re.MULTILINE)
        if found != [f"{mean_s:.1f}"]:
            yield f"{name}: the page has {found}, this version {mean_s:.1f}"


def _learning() -> Iterator[str]:
    """Mean JCT of the policies whose weights come with the package, of the general one in a cell:
    they are trained on what is simulated, so this is also a test of the simulation."""
    text = (DOCS / "learning.md").read_text(encoding="utf-8")
    specialist = specialist_suite().only([], [SPECIALIST], None)
    found = re.findall(rf"`{re.escape(SPECIALIST)}`: mean JCT ([\d.]+) s", text)
    yield from _mean_of(SPECIALIST, specialist, found)
    section = text[text.index("cells of the [standard suite](benchmark.md), on ") :]
    section = section.partition("\n## ")[0]
    (seeds,) = re.findall(r"\A.*?, on (\d+) seed", section)
    general = elsewhere_suite().only([LEARNED_CELL], [GENERAL], int(seeds))
    found = re.findall(rf"^\| `{LEARNED_CELL}` \| ([\d.]+) \|", section, re.MULTILINE)
    yield from _mean_of(GENERAL, general, found)


def _mean_of(policy: str, suite: Suite, found: list[str]) -> Iterator[str]:
    """Whether the page has the policy's mean JCT in the suite's cell."""
    (cell,) = Study(suite, _run(suite)).cells
    mean_s = f"{cell.mean(policy):.1f}"
    if found != [mean_s]:
        yield f"{policy} in {cell.name}: the page has {found}, this version {mean_s}"


def _leaderboard() -> Iterator[str]:
    """The whole page, from the files of its submissions."""
    try:
        page = leaderboard.made(load_edition(leaderboard.EDITION))
    except ValueError as error:
        yield str(error)
        return
    yield from _differences(_lines(DOCS / "leaderboard.md"), page.splitlines())


def _run(suite: Suite) -> list[Outcome]:
    outcomes: list[Outcome] = []

    def failed(_job: object, error: Exception) -> None:
        raise error

    run_jobs(plan_jobs(suite, None), InThisProcess(), outcomes.append, failed)
    return outcomes


def _lines(path: Path) -> Lines:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _differences(old: Lines, new: Lines) -> Iterator[str]:
    """Lines that differ, but for who made the page."""
    old, new = ([line for line in lines if not is_made_by(line)] for lines in (old, new))
    yield from difflib.unified_diff(old, new, "the page", "this version", lineterm="", n=0)


CHECKS: dict[str, Callable[[], Iterator[str]]] = {
    "who made the pages": _provenance,
    "validation.md": _validation,
    "benchmark/cells.md": _cells,
    "training-results.md": _training,
    "learning.md": _learning,
    "leaderboard.md": _leaderboard,
}

if __name__ == "__main__":
    main()
