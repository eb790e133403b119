"""``agentserve bench``: scenarios x policies x seeds, with statistics that pair seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.bench import (
    Job,
    Outcome,
    ResultsFile,
    Study,
    load_suite,
    plan_jobs,
    run_jobs,
    write_report,
)
from agentserve_gym.bench.facts import FACTS, cell_facts
from agentserve_gym.bench.headroom import LEVERS, HeadroomFigures, HeadroomStudy, headroom_suite
from agentserve_gym.bench.headroom_file import headroom_summary
from agentserve_gym.bench.report import (
    require_headroom,
    require_report,
    summary,
    write_headroom,
)
from agentserve_gym.bench.results import key
from agentserve_gym.bench.search import (
    combinations,
    found_document,
    read_rungs,
    rung_suite,
    searched_cells,
    survivors,
)
from agentserve_gym.bench.suite import Suite, search_space, tuning_grids
from agentserve_gym.bench.tune import read_grids, tuned_document, tuning_jobs, tuning_suite
from agentserve_gym.cli.driving import allow_local_modules
from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.stopping import given_command, resumable
from agentserve_gym.cli.workers import Opening, RayOption, open_workers
from agentserve_gym.files import require_replaceable, write_file
from agentserve_gym.report.markdown import change, interval, plural
from agentserve_gym.scale import Workers

RESULTS = "results.csv"
HEADROOM_RESULTS = "headroom.csv"
HEADROOM_BASE = "lmetric+continuum_paper"
TUNED = "tuned.toml"
FOUND = "found.toml"


def bench(
    suite: Annotated[
        str, typer.Option(help="standard, quick, unseen, training, or a .toml file.")
    ] = "standard",
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this scenario of the suite, or any other; repeat it for more (with --tune: "
            "instead of its cells). A horizon is left out: programs run to their end."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Only this policy of the suite, or any other; repeat it for more."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds; default: the suite's.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Parallel processes.")] = 2,
    ray: RayOption = None,
    out: Annotated[Path, typer.Option(help="Folder of results.csv and the report.")] = Path(
        "bench-results"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder that has results.")
    ] = False,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Tune baselines instead, on seeds of their own: tuned.toml."),
    ] = False,
    headroom: Annotated[
        bool,
        typer.Option(
            "--headroom",
            help="Measure instead what looking ahead could gain over the one --policy, lever by "
            "lever and net of luck.",
        ),
    ] = False,
    share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="With --headroom: of the decisions, at how many alternatives are tried.",
        ),
    ] = 0.05,
    lever: Annotated[
        list[str] | None,
        typer.Option(
            help=f"With --headroom: only this one of {', '.join(LEVERS)}; repeat it for more."
        ),
    ] = None,
    programs_share: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            help="With --headroom: of each cell's programs, how many are run. Looking ahead costs "
            "the square of them.",
        ),
    ] = 1.0,
    facts: Annotated[
        bool,
        typer.Option(
            "--facts",
            help="Only what each cell is like: pressure under the stock policy, and luck.",
        ),
    ] = False,
    search: Annotated[
        bool,
        typer.Option(
            "--search",
            help="Search the best combination of parts in each cell instead, on seeds of its own: "
            "found.toml.",
        ),
    ] = False,
    docs: Annotated[
        Path | None, typer.Option(help="Write the report to this folder, too (docs).")
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(help="Folder of recorded traces; default: traces in the data folder."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a benchmark suite and report who is better where, and by how much."""
    opening = _resumable(open_workers(jobs, ray))
    if tune and search:
        raise ValueError("--tune and --search are two commands: give one of them")
    if tune:
        _tune(scenario or [], out, opening, resume=resume, traces=traces)
        return
    if search:
        part = load_suite(suite, traces).only(scenario or [], [], None)
        _search(part, out, opening, resume=resume, traces=traces)
        return
    if headroom:
        require_headroom(out, *([docs] if docs is not None else []))
        allow_local_modules()
        whole = load_suite(suite, traces)
        chosen = whole.only(scenario or [], [], seeds)
        base = _headroom_base(policy or [])
        looking = headroom_suite(chosen, base, share, lever or LEVERS, programs_share)
        cells = dict.fromkeys([*(cell.scenario for cell in whole.cells), *(scenario or [])])
        known = whole.only(list(cells), [], seeds)
        reported = headroom_suite(known, base, share, LEVERS, programs_share)
        measured = _headroom(looking, reported, out, opening, resume=resume, traces=traces)
        for folder in (out, docs):
            if folder is not None:
                note(f"headroom: {write_headroom(measured, folder)}")
        if json:
            print_json(headroom_summary(measured))
        else:
            _print_headroom(measured)
        return
    require_report(out, *([docs] if docs is not None else []))
    allow_local_modules()
    whole = load_suite(suite, traces)
    chosen = whole.only(scenario or [], policy or (whole.luck.policies if facts else []), seeds)
    if not scenario:
        for name, reason in chosen.skipped.items():
            note(f"{name} is left out: {reason}")
    planned = plan_jobs(chosen, traces)
    results = _open(out, resume=resume)
    with opening as workers:
        _work(planned, results, workers)
    study = Study(chosen, results.outcomes)
    note(f"report: {write_report(study, out)}")
    if docs is not None:
        note(f"report: {write_report(study, docs)}")
    if json:
        print_json(summary(study))
    elif facts:
        _print_facts(study)
    else:
        _print(study)


def _tune(
    scenarios: list[str], out: Path, opening: Opening, *, resume: bool, traces: Path | None
) -> None:
    require_replaceable(out / TUNED, "# Written by `agentserve bench --tune`", "tuned by bench")
    content = tuning_grids()
    if scenarios:
        content["cells"] = scenarios
    grids = read_grids(content)
    tuning = tuning_suite(content, grids, traces)
    planned = tuning_jobs(tuning, grids, traces)
    results = _open(out, resume=resume)
    with opening as workers:
        _work(planned, results, workers)
    document = tuned_document(tuning, grids, results.outcomes)
    write_file(out / TUNED, document)
    note(f"tuned parameters: {out / TUNED} (to use them, replace agentserve_gym/bench/{TUNED})")


def _headroom_base(policies: list[str]) -> str:
    if len(policies) > 1:
        raise ValueError(f"--headroom takes one --policy to start from, got {', '.join(policies)}")
    return policies[0] if policies else HEADROOM_BASE


def _headroom(
    looking: Suite,
    reported: Suite,
    out: Path,
    opening: Opening,
    *,
    resume: bool,
    traces: Path | None,
) -> HeadroomFigures:
    """Run what is missing of one; all that there is of the other, also from commands before."""
    results = _open(out, resume=resume, name=HEADROOM_RESULTS)
    planned = plan_jobs(looking, traces)
    with opening as workers:
        _work(planned, results, workers)
    return HeadroomStudy(reported, results.outcomes).figures()


def _print_headroom(figures: HeadroomFigures) -> None:
    heading = ["cell", "lever", "seeds", "clairvoyant", "placebo", "net"]
    table = Figures(f"headroom over {figures.base}: change of mean JCT", heading)
    for found in figures.levers:
        changes = (found.clairvoyant, found.placebo, found.net)
        row = [found.cell, found.lever, str(found.seeds)]
        table.rows.append([*row, *(change(item).replace("*", "") for item in changes)])
    for ahead in figures.deployable:
        gain = change(ahead.against_base).replace("*", "")
        table.rows.append([ahead.cell, "lookahead", str(ahead.seeds), gain, "", ""])
    table.print(console())


def _search(
    suite: Suite, out: Path, opening: Opening, *, resume: bool, traces: Path | None
) -> None:
    require_replaceable(out / FOUND, "# Written by `agentserve bench --search`", "found by bench")
    content = search_space()
    part = searched_cells(suite)
    candidates = tried = combinations(content, part)
    results = _open(out, resume=resume)
    with opening as workers:
        for rung in read_rungs(content):
            running = rung_suite(content, part, candidates, rung)
            _work(plan_jobs(running, traces), results, workers)
            candidates = survivors(running, candidates, rung.keep, results.outcomes)
    stock = part.entry(part.stock).policy
    document = found_document(running, stock, tried, candidates, results.outcomes)
    write_file(out / FOUND, document)
    note(f"combinations: {out / FOUND} (to use them, replace agentserve_gym/bench/{FOUND})")


def _open(out: Path, *, resume: bool, name: str = RESULTS) -> ResultsFile:
    out.mkdir(parents=True, exist_ok=True)
    path = out / name
    if path.exists() and not resume:
        raise ValueError(f"{path} exists; go on with --resume, or name another folder with --out")
    return ResultsFile(path)


@contextmanager
def _resumable(opening: Opening) -> Iterator[Workers]:
    """Workers that end before a stopped command says how to go on."""
    with resumable(given_command("--resume")), opening as workers:
        yield workers


def _work(planned: list[Job], results: ResultsFile, workers: Workers) -> None:
    """Run what the file does not hold yet.

    Raises:
        ValueError: naming the failures, after everything else has run.
    """
    known = {key(outcome) for outcome in results.outcomes}
    left = [job for job in planned if job.key not in known]
    failures: dict[tuple[str, type[Exception]], list[str]] = {}
    with reporting() as report:

        def progressed() -> None:
            finished = len(results.outcomes) - len(known) + sum(map(len, failures.values()))
            report("bench: runs", len(planned) - len(left) + finished, len(planned))

        def done(outcome: Outcome) -> None:
            results.append(outcome)
            progressed()

        def failed(job: Job, error: Exception) -> None:
            alike = failures.setdefault((job.policy, type(error)), [])
            alike.append(f"{job.scenario.name}, {job.policy}, seed {job.seed}: {error!r}")
            progressed()

        run_jobs(left, workers, done, failed)
    for first, *others in failures.values():
        note(f"failed: {first}{f' (and {len(others)} like it)' if others else ''}")
    count = sum(map(len, failures.values()))
    if count:
        raise ValueError(f"{count} of {len(planned)} runs failed; try again with --resume")


def _print_facts(study: Study) -> None:
    table = Figures(f"{study.suite.name}: {plural(len(study.cells), 'cell')}", list(FACTS))
    table.rows = [[cell.name, *cell_facts(cell, study.suite.stock)] for cell in study.cells]
    table.print(console())


def _print(study: Study) -> None:
    invalid = {entry.label: study.invalid_answers(entry.label) for entry in study.suite.policies}
    table = Figures(
        f"{study.suite.name}: {plural(len(study.ranking_cells), 'cell')} that rank",
        ["policy", "score (IQM)", "beats stock", "JCT / stock", "best or tied in"],
    )
    if any(invalid.values()):
        table.heading = [*table.heading, "invalid answers"]
    for row in study.overall:
        cells = [
            row.label,
            interval(row.score),
            f"{row.beats_stock.value:.0%}",
            f"{row.against_stock.value:.3f}",
            f"{row.tied_in} of {len(study.ranking_cells)}",
        ]
        table.rows.append([*cells, f"{invalid[row.label]:,}"] if any(invalid.values()) else cells)
    if study.ranking_cells:
        table.print(console())
    for cell in study.cells:
        if cell.is_control:
            why = f"policies spread by {cell.spread:.2%}" if cell.has_room else "no room for scores"
            note(f"{cell.name}: {why}: a control, not ranked")
    for label, count in invalid.items():
        if count:
            note(f"{label}: {count:,} answers were invalid and replaced by safe ones")
