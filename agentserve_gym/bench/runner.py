"""What a benchmark runs: jobs, each of which gives one outcome wherever it runs.

Jobs are ordered seed by seed: whenever a run is stopped, the seeds before it are complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agentserve_gym.baselines import parse_policy
from agentserve_gym.baselines.learned.parts import learned_weights
from agentserve_gym.bench.measure import Outcome, measure
from agentserve_gym.bench.suite import (
    Entry,
    LuckPlan,
    Suite,
)
from agentserve_gym.scale import Workers
from agentserve_gym.scale.version import PACKAGE, package_contents
from agentserve_gym.sim import Scenario
from agentserve_gym.sim.loading import with_trace

LEARNED = "baselines/learned"
"""The room of learned policies: what changes there changes no other outcome."""


@dataclass(frozen=True, slots=True)
class Job:
    """One outcome to measure."""

    scenario: Scenario
    label: str
    policy: str
    seed: int
    digest: str
    code: str
    nudge: int = 0

    @property
    def key(self) -> tuple[str, str, int, str]:
        """As ``results.key`` of its outcome."""
        return (self.scenario.name, self.label, self.seed, self.digest)


def digest(scenario: Scenario, policy: str, nudge: int = 0) -> str:
    """A short fingerprint of what is run: another scenario, policy or nudge, another digest; for
    a learned policy, other weights too."""
    text = f"{scenario.model_dump_json()}\n{policy}{_learned_mark(policy)}"
    mark = hashlib.sha256(text.encode("utf-8")).hexdigest()[:10]
    return f"{mark}+{nudge}" if nudge else mark


@cache
def _learned_mark(policy: str) -> str:
    """Of a learned policy: its weights, and the code that reads them; nothing for others."""
    weights = learned_weights(parse_policy(policy))
    if not weights:
        return ""
    mark = hashlib.sha256(repr([one.vector() for one in weights]).encode("utf-8"))
    for content in package_contents(LEARNED, (".py",)):
        mark.update(content)
    return f"\n{mark.hexdigest()}"


@cache
def code_fingerprint() -> str:
    """A short fingerprint of every file of the package that all outcomes depend on."""
    mark = hashlib.sha256((PACKAGE / "bench" / "measure.py").read_bytes())
    for room in ("hardware", "workloads", "sim", "baselines"):
        for content in package_contents(room, besides=f"{LEARNED}/"):
            mark.update(content)
    return mark.hexdigest()[:10]


def plan_jobs(suite: Suite, traces: Path | None = None) -> list[Job]:
    """Every outcome that the suite asks for, seed by seed; after those of a seed the runs that
    measure luck with it.

    Raises:
        ValueError: for an unknown scenario or policy.
    """
    jobs = []
    planned = []
    code = code_fingerprint()
    for cell in suite.cells:
        # A digest must not depend on where the trace lies.
        scenario = suite.scenario_of(cell)
        ready = with_trace(scenario, traces)
        planned += [
            (entry, ready, _digests(scenario, entry, suite.luck))
            for entry in suite.policies
            if entry.scenarios is None or cell.scenario in entry.scenarios
        ]
    for number, seed in enumerate(suite.seed_numbers()):
        for entry, scenario, marks in planned:
            if entry.seeds is None or number < entry.seeds:
                jobs.append(Job(scenario, entry.label, entry.policy, seed, marks[0], code))
        if number < suite.luck.seeds:
            jobs += [
                Job(scenario, entry.label, entry.policy, seed, mark, code, nudge)
                for entry, scenario, marks in planned
                if entry.label in suite.luck.policies
                for nudge, mark in enumerate(marks[1:], start=1)
            ]
    return jobs


def _digests(scenario: Scenario, entry: Entry, luck: LuckPlan) -> list[str]:
    """Of an entry's runs in a cell: plain, and with each nudge."""
    return [digest(scenario, entry.policy, nudge) for nudge in range(luck.nudges + 1)]


def run_job(job: Job) -> Outcome:
    """Measure one outcome."""
    return measure(
        job.scenario,
        job.label,
        parse_policy(job.policy),
        job.seed,
        nudge=job.nudge,
        digest=job.digest,
        code=job.code,
    )


def run_jobs(
    jobs: Sequence[Job],
    workers: Workers,
    done: Callable[[Outcome], None],
    failed: Callable[[Job, Exception], None],
) -> None:
    """Run jobs; ``done`` and ``failed`` are called in this thread, one at a time."""
    workers.run(
        run_job,
        jobs,
        lambda _, outcome: done(outcome),
        lambda number, error: failed(jobs[number], error),
    )
