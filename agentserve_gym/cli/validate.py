"""``agentserve validate``: the simulator against measured runs and published trends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.datasets import find_data_set, missing
from agentserve_gym.validation import find_cases, read_case
from agentserve_gym.validation.ablations import pool_error, run_ablations
from agentserve_gym.validation.cases import MeasuredCase
from agentserve_gym.validation.conversation_page import cell_rows, withheld_rows
from agentserve_gym.validation.conversation_study import run_cells, run_withheld
from agentserve_gym.validation.findings import Findings
from agentserve_gym.validation.page import (
    PAGE,
    case_rows,
    lost_sections,
    pass_rows,
    require_report,
    write_report,
)
from agentserve_gym.validation.reuse import TRACE, replay_reuse
from agentserve_gym.validation.router_page import order_rows, router_rows
from agentserve_gym.validation.router_runs import run_routers
from agentserve_gym.validation.steps import (
    calibrated_passes,
    compact_against_tables,
    forward_passes,
)
from agentserve_gym.validation.study import (
    TIMINGS,
    profile_folder,
    run_case,
    run_unmeasured,
    unmeasured_runs,
    with_timing,
)
from agentserve_gym.validation.trends import NEEDED_DATA_SETS, SOFT_TRENDS

_REUSE_PROGRAMS = 100
_RUNS, _PROFILES, _ROUTERS = "vllm-runs", "gpu-profiles", "router-runs"
_CONVERSATIONS = "agentic-runs"


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to compute: which part of the findings it adds to, its name, and how."""

    part: str
    name: str
    run: Callable[[], None]


class Timing(StrEnum):
    """Which timing sources are compared."""

    PROFILE = "profile"
    COMPACT = "compact"
    ROOFLINE = "roofline"
    ALL = "all"


def validate(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of measured runs; default: the data set vllm-runs."),
    ] = None,
    timing: Annotated[Timing, typer.Option(help="Timing source of the replays.")] = Timing.ALL,
    profiles: Annotated[
        Path | None,
        typer.Option(
            help="Folder of profile tables; default: profiles beside the runs, or gpu-profiles."
        ),
    ] = None,
    details: Annotated[
        bool,
        typer.Option(
            help="Also conversations, routers, what each mechanism is worth, and single steps."
        ),
    ] = False,
    trends: Annotated[
        bool, typer.Option(help="Also published trends, on small setups (takes a few minutes).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write validation.md and its pictures to this folder.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Replay measured runs of real engines and print how far the simulation is off."""
    if report is not None:
        require_report(report)
    runs = folder or find_data_set(_RUNS)
    if runs is None and not trends:
        raise ValueError(f"{missing(_RUNS)}; or name a folder of measured runs")
    findings = Findings()
    jobs: list[Job] = []
    absent: set[str] = set()
    if runs is None:
        absent.add(_RUNS)
    else:
        tables = profiles or _beside(runs) or find_data_set(_PROFILES)
        jobs += replay_jobs(findings, runs, timing, tables, details=details)
        if details:
            jobs += cell_jobs(findings, absent) + router_jobs(findings, absent)
            jobs += reuse_jobs(findings, absent)
            jobs += step_jobs(findings, tables)
    if trends:
        jobs += trend_jobs(findings, absent)
    if report is not None:
        _require_whole_page(report, jobs, absent)
    if absent:
        note(f"left out is what needs data sets that are not here: {', '.join(sorted(absent))}")
    _work(jobs)
    if report is not None:
        command = _command(folder, timing, profiles, details=details, trends=trends)
        note(f"report: {write_report(findings, report, command)}")
    if json:
        print_json(findings.as_dict())
    else:
        print_findings(findings)


def _require_whole_page(folder: Path, jobs: list[Job], absent: set[str]) -> None:
    """Refuse, before anything runs, to replace a page by one that lacks some of its sections."""
    cases = {job.name.rpartition(", ")[0] for job in jobs if job.part == "cases"}
    lost = lost_sections(folder, {job.part for job in jobs}, cases)
    if absent and (folder / PAGE).is_file():
        lost += [f"what needs {name}" for name in sorted(absent)]
    if lost:
        raise ValueError(
            f"{folder / PAGE} would lose {', '.join(lost)}; run with --details, --trends and every "
            "data set, or name another folder"
        )


def _command(
    folder: Path | None, timing: Timing, profiles: Path | None, *, details: bool, trends: bool
) -> str:
    """How to compute the same again; folders by their names."""
    words = ["agentserve validate", folder.name if folder is not None else ""]
    words.append(f"--timing {timing.value}" if timing is not Timing.ALL else "")
    words.append(f"--profiles {profiles.name}" if profiles is not None else "")
    words += ["--details" if details else "", "--trends" if trends else "", "--report docs"]
    return " ".join(word for word in words if word)


def replay_jobs(
    findings: Findings, runs: Path, timing: Timing, profiles: Path | None, *, details: bool
) -> list[Job]:
    """One job per replay of a measured or published run.

    Raises:
        ValueError: a case cannot be read, or has no tables where they are asked for.
    """
    cases = [read_case(path) for path in find_cases(runs)]
    jobs: list[Job] = []
    for case in cases:
        jobs += [
            Job("cases", f"{case.name}, {name}", _case(findings, case, name, profiles))
            for name in _timings(case, timing, profiles)
        ]
        if details:
            ablations = _ablations(findings, case.name)
            jobs.append(Job("ablations", f"{case.name}, ablations", ablations))
    for run in unmeasured_runs(runs, cases):
        settings = run.settings(runs)
        best = "compact" if profile_folder(settings, profiles) is None else "profile"
        name = best if timing is Timing.ALL else timing.value

        def unmeasured(run: Any = run, name: str = name) -> None:
            findings.unmeasured.append(run_unmeasured(run, runs, name, profiles))

        jobs.append(Job("unmeasured", f"{run.accelerator} {run.model}, {name}", unmeasured))
        if details and run.preemptions is not None:
            timed = with_timing(settings, name, profiles)
            label = f"{run.accelerator}, {run.model}, tp{run.tensor_parallel}"

            def pool(label: str = label, timed: Any = timed) -> None:
                findings.pools.append(pool_error(label, timed))

            jobs.append(Job("pools", f"{label}, KV pool", pool))
    return jobs


def step_jobs(findings: Findings, profiles: Path | None) -> list[Job]:
    """Single steps: the compact form against tables, and every source against real prefills."""

    def steps() -> None:
        assert profiles is not None
        findings.steps += compact_against_tables(profiles)

    def passes() -> None:
        hosted = [row for row in forward_passes("auto", "vllm-0.19") if row.kind == "compact"]
        findings.passes += [*forward_passes("auto"), *hosted, *forward_passes("roofline")]
        findings.calibrated += calibrated_passes("auto")

    jobs = [Job("passes", "forward passes", passes)]
    return jobs if profiles is None else [Job("steps", "compact against tables", steps), *jobs]


def cell_jobs(findings: Findings, absent: set[str]) -> list[Job]:
    """Measured conversations; the data set's name is added to ``absent`` where it is not here."""
    runs = find_data_set(_CONVERSATIONS)
    if runs is None:
        absent.add(_CONVERSATIONS)
        return []

    def cells(runs: Path = runs) -> None:
        findings.cells += run_cells(runs)

    def withheld(runs: Path = runs) -> None:
        findings.withheld += run_withheld(runs)

    return [
        Job("cells", "conversations", cells),
        Job("withheld", "conversations without measurements", withheld),
    ]


def router_jobs(findings: Findings, absent: set[str]) -> list[Job]:
    """Measured routers; the data set's name is added to ``absent`` where it is not here."""
    runs = find_data_set(_ROUTERS)
    if runs is None:
        absent.add(_ROUTERS)
        return []

    def routers(runs: Path = runs) -> None:
        findings.routers += run_routers(runs)

    return [Job("routers", "four routers", routers)]


def reuse_jobs(findings: Findings, absent: set[str]) -> list[Job]:
    """The block-exact trace; its name is added to ``absent`` where it is not here."""
    trace = find_data_set(TRACE)
    if trace is None:
        absent.add(TRACE)
        return []

    def reuse(trace: Path = trace) -> None:
        findings.reuse.append(replay_reuse(trace, _REUSE_PROGRAMS))

    return [Job("reuse", "true reuse", reuse)]


def trend_jobs(findings: Findings, absent: set[str]) -> list[Job]:
    """Published trends; the data sets that some of them lack are added to ``absent``."""
    jobs = []
    for number in SOFT_TRENDS:
        lacking = {name for name in NEEDED_DATA_SETS.get(number, ()) if find_data_set(name) is None}
        absent |= lacking
        if not lacking:
            jobs.append(Job("trends", f"trend {number}", _trend(findings, number)))
    return jobs


def print_findings(findings: Findings) -> None:
    """Tables for people."""
    out = console()
    tables: dict[str, list[tuple[str, ...]]] = {}
    if findings.cells:
        tables["Conversations on a B200"] = cell_rows(findings.cells)
    if findings.withheld:
        tables["Conversations, not measured here"] = withheld_rows(findings.withheld)
    if findings.routers:
        tables["Four routers on 16 H100"] = router_rows(findings.routers)
        tables["Their order"] = order_rows(findings.routers)
    for title, (heading, *rows) in tables.items():
        Figures(title, heading, list(rows)).print(out)
    for name, results in findings.by_case().items():
        heading, *rows = case_rows(results)
        Figures(f"{name}: simulated / measured - 1", heading, list(rows)).print(out)
    for result in findings.unmeasured:
        run, figures = result.run, result.replayed.as_dict()
        reference = f" (reference {run.preemptions})" if run.preemptions is not None else ""
        out.print(
            f"{run.accelerator} {run.model} tp{run.tensor_parallel}, {result.timing}, not measured "
            f"here: TTFT {figures['ttft_ms']['mean'] / 1e3:.2f} s, TPOT "
            f"{figures['tpot_ms']['mean']:.2f} ms, E2E {figures['e2e_s']['mean']:.2f} s, "
            f"{figures['preemptions']} preemptions{reference}"
        )
    for ablation in findings.ablations:
        errors = ablation.without
        out.print(
            f"{errors.case} without [{ablation.name}]: TTFT {errors.mean['ttft']:+.1%}, TPOT "
            f"{errors.mean['tpot']:+.1%}, E2E {errors.mean['e2e']:+.1%}, per request "
            f"{errors.per_request['ttft']:.1%} of TTFT, {errors.per_request['e2e']:.1%} of E2E",
            markup=False,
        )
    for pool in findings.pools:
        out.print(
            f"{pool.run} with {pool.wrong_blocks} KV blocks for {pool.blocks}: TTFT "
            f"{pool.ttft:+.1%}, E2E {pool.e2e:+.1%}"
        )
    if findings.steps:
        rows = [
            (e.case, e.kind, f"{e.mean:.2%}", f"{e.p90:.2%}", f"{e.bias:+.2%}")
            for e in findings.steps
        ]
        heading = ("case", "steps", "mean error", "p90", "bias")
        Figures("Compact form against tables", heading, list(rows)).print(out)
    named = {
        "Errors against real prefills": findings.passes,
        "Likewise, calibrated on the lengths between": findings.calibrated,
    }
    for title, passes in named.items():
        if passes:
            heading, *rows = pass_rows(passes)
            Figures(title, heading, list(rows)).print(out)
    for reuse in findings.reuse:
        out.print(
            f"true reuse of {reuse.programs} programs after their first prompts {reuse.true:.2%}, "
            f"simulated {reuse.simulated:.2%}"
        )
    if findings.trends:
        rows = [
            (t.number, t.band, t.measured, "yes" if t.within else "no") for t in findings.trends
        ]
        Figures("Published trends", ("", "band", "measured", "within"), list(rows)).print(out)


def _beside(runs: Path) -> Path | None:
    folder = runs.resolve().parent / "profiles"
    return folder if folder.is_dir() else None


def _timings(case: MeasuredCase, timing: Timing, profiles: Path | None) -> Sequence[str]:
    if timing is not Timing.ALL:
        with_timing(case.settings, timing.value, profiles)  # refuse before anything runs
        return (timing.value,)
    has_tables = profile_folder(case.settings, profiles) is not None
    return TIMINGS if has_tables else TIMINGS[1:]


def _case(
    findings: Findings, case: MeasuredCase, timing: str, profiles: Path | None
) -> Callable[[], None]:
    return lambda: findings.cases.append(run_case(case, timing, profiles))


def _ablations(findings: Findings, name: str) -> Callable[[], None]:
    def run() -> None:
        whole = findings.by_case()[name][0]
        findings.ablations += run_ablations(whole.case, whole.errors)

    return run


def _trend(findings: Findings, number: str) -> Callable[[], None]:
    return lambda: findings.trends.append(SOFT_TRENDS[number]())


def _work(jobs: list[Job]) -> None:
    with reporting() as report:
        for number, job in enumerate(jobs):
            report(f"validate: {job.name},", number, len(jobs))
            job.run()
