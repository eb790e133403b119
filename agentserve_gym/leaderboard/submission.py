"""Submissions: a policy's runs of an edition in one file, with totals that follow from the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

import agentserve_gym
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.suite import NonNegativeInt
from agentserve_gym.files import write_file
from agentserve_gym.leaderboard.edition import (
    Edition,
    Metric,
    Part,
    canonical,
    metric_values,
    version_key,
)
from agentserve_gym.messages import validated
from agentserve_gym.report.statistics import Estimate, pooled_ratio, ratio
from agentserve_gym.sim.scenario import NonNegative, Positive, StrictModel
from agentserve_gym.tables import read_table

TOLERANCE = 1e-9
"""Relative difference of two numbers that are the same: they are written with ten digits."""
_DIGITS = 10


class Row(NamedTuple):
    """A run.

    ``seed`` counts the part's seeds from 1, so that private ones stay so. What a decision took,
    and the whole run, is of the machine that ran it; all else another machine gets, too.
    """

    cell: str
    seed: int
    jct_mean_s: Positive
    jct_p99_s: Positive
    slowdown: Positive
    ttft_p95_s: NonNegative
    slo_goodput: NonNegative
    decisions: NonNegativeInt
    invalid_answers: NonNegativeInt
    decision_median_us: NonNegative
    decision_p99_us: NonNegative
    wall_s: NonNegative

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.cell}, seed {self.seed}"


REPEATABLE = (
    "jct_mean_s", "jct_p99_s", "slowdown", "ttft_p95_s", "slo_goodput", "decisions",
    "invalid_answers",
)  # fmt: skip
"""Columns that a run on another machine must have the same."""


class Card(StrictModel):
    """What a policy is.

    Attributes:
        name: how the leaderboard calls it. ``policy``: as ``parse_policy`` reads it.
        sha256: fingerprint of code, weights and parameters, of ``policies.fingerprint``.
        observes: what it decides by. ``training_cost``: of its weights, in words.
    """

    name: str = Field(min_length=1)
    policy: str
    author: str = Field(min_length=1)
    description: str = Field(min_length=1)
    sha256: str
    observes: str
    training_cost: str


class Ratio(StrictModel):
    """To the reference, with a two-sided 95 % interval."""

    value: Positive
    low: Positive
    high: Positive

    @classmethod
    def of(cls, estimate: Estimate) -> Ratio:
        """An estimate, with as many digits as a file has."""
        return cls(value=rounded(estimate.value), low=rounded(estimate.low),
                   high=rounded(estimate.high))  # fmt: skip

    @property
    def estimate(self) -> Estimate:
        """What `report.markdown` writes."""
        return Estimate(self.value, self.low, self.high)


class Totals(StrictModel):
    """What follows from the rows.

    Attributes:
        ratios: by metric, geometric mean over cells and paired seeds. ``cells``: of the metric
            that ranks, by cell.
        decision_median_us, decision_p99_us: of the slowest cell, there the median over seeds.
        in_time: whether both are within the edition's.
        wall_s: of all runs, one after another.
    """

    ratios: dict[Metric, Ratio]
    cells: dict[str, Ratio]
    decisions: NonNegativeInt
    invalid_answers: NonNegativeInt
    decision_median_us: NonNegative
    decision_p99_us: NonNegative
    in_time: bool
    wall_s: NonNegative


class MadeBy(StrictModel):
    """Versions that made a submission; ``code`` is the benchmark's fingerprint of a simulation."""

    agentserve_gym: str
    code: str
    commit: str | None
    kernel: str
    python: str
    numpy: str


class Submission(StrictModel):
    """The content of a file but for its checksum.

    Attributes:
        edition, edition_sha256: name and fingerprint. ``part``: which of its seeds.
    """

    edition: str
    edition_sha256: str
    part: Part
    card: Card
    made_by: MadeBy
    totals: Totals
    rows: list[Row]

    def sha256(self) -> str:
        """The checksum over everything."""
        return hashlib.sha256(canonical(self.model_dump(mode="json"))).hexdigest()


def rounded(value: float) -> float:
    """With as many digits as a file has."""
    return float(f"{value:.{_DIGITS}g}")


def row_of(outcome: Outcome, seed: int) -> Row:
    """A row from a run of a timed policy; ``seed`` is its place among the part's seeds."""
    counters = dict(item.split("=") for item in outcome.counters.split(";"))
    return Row(
        outcome.scenario,
        seed,
        rounded(outcome.jct_mean_s),
        rounded(outcome.jct_p99_s),
        rounded(outcome.slowdown),
        rounded(outcome.ttft_p95_s),
        rounded(outcome.slo_goodput),
        int(counters["decisions"]),
        outcome.invalid_answers,
        int(counters["median_ns"]) / 1e3,
        int(counters["p99_ns"]) / 1e3,
        round(int(counters["wall_ns"]) / 1e9, 3),
    )


def totals_of(rows: Sequence[Row], edition: Edition, part: Part) -> Totals:
    """The totals of all rows of a part."""
    ratios: dict[Metric, Ratio] = {}
    cells = edition.cell_names
    for metric in edition.metrics:
        own = [metric_values(rows, cell, metric) for cell in cells]
        others = [edition.reference_values(part, cell, metric) for cell in cells]
        ratios[metric] = Ratio.of(pooled_ratio(own, others))
        if metric == edition.metrics[0]:
            by_cell = {
                cell: Ratio.of(ratio(values, reference))
                for cell, values, reference in zip(cells, own, others, strict=True)
            }
    median_us = _slowest(rows, cells, "decision_median_us")
    p99_us = _slowest(rows, cells, "decision_p99_us")
    allowed = edition.decision_time
    return Totals(
        ratios=ratios,
        cells=by_cell,
        decisions=sum(row.decisions for row in rows),
        invalid_answers=sum(row.invalid_answers for row in rows),
        decision_median_us=median_us,
        decision_p99_us=p99_us,
        in_time=median_us <= 1e3 * allowed.median_ms and p99_us <= 1e3 * allowed.p99_ms,
        wall_s=rounded(sum(row.wall_s for row in rows)),
    )


def too_slow(totals: Totals, edition: Edition) -> str:
    """Why a policy is not ranked, in words."""
    allowed = edition.decision_time
    return (
        f"a decision takes {totals.decision_median_us / 1e3:.2f} ms at the median and "
        f"{totals.decision_p99_us / 1e3:.2f} ms at the 99th percentile of its slowest cell; "
        f"edition {edition.name} allows {allowed.median_ms:g} and {allowed.p99_ms:g} ms"
    )


def _slowest(rows: Sequence[Row], cells: Sequence[str], column: str) -> float:
    return rounded(max(float(np.median(metric_values(rows, cell, column))) for cell in cells))


# --- files ---------------------------------------------------------------------------------------


def write_submission(path: Path, submission: Submission) -> None:
    """Write the file: JSON with a row a line."""
    content = submission.model_dump(mode="json")
    rows = ",\n".join(f"  {json.dumps(row)}" for row in content.pop("rows"))
    columns = json.dumps(Row._fields)
    head = json.dumps({**content, "sha256": submission.sha256()}, indent=1).removesuffix("\n}")
    write_file(path, f'{head},\n "columns": {columns},\n "rows": [\n{rows}\n ]\n}}\n')


def edition_of(path: Path) -> str:
    """The edition that a file says it is of.

    Raises:
        ValueError: naming the file, if it does not.
    """
    name = read_table(path).get("edition")
    if not isinstance(name, str):
        raise ValueError(f"{path}: edition is missing; it is no file of agentserve submit")
    return name


def read_submission(path: Path, edition: Edition) -> Submission:
    """A file of an edition, whose checksum, rows and totals hold.

    Raises:
        ValueError: naming the file and what in it is wrong: a field, edition, version, the
            checksum, a row that is missing or too much, or a total.
    """
    content = read_table(path)
    checksum, columns = content.pop("sha256", None), content.pop("columns", None)
    submission = validated(Submission, content, str(path))
    if columns != list(Row._fields):
        raise ValueError(f"{path}: columns are {columns}; allowed: {list(Row._fields)}")
    if submission.edition != edition.name:
        raise ValueError(f"{path}: edition is {submission.edition!r}; allowed: {edition.name}")
    if submission.edition_sha256 != edition.sha256:
        raise ValueError(
            f"{path}: edition_sha256 is {submission.edition_sha256}, but that of edition "
            f"{edition.name} here is {edition.sha256}: one of them is not as it was frozen"
        )
    _require_version(submission, edition, path)
    problems = [*_wrong_rows(submission, edition)] or [*_wrong_totals(submission, edition)]
    if checksum != submission.sha256():
        problems.insert(0, "the checksum is not that of the content, which was changed")
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")
    return submission


def _require_version(submission: Submission, edition: Edition, path: Path) -> None:
    made_by, here = submission.made_by.agentserve_gym, agentserve_gym.__version__
    if not version_key(edition.minimum_version) <= version_key(made_by) <= version_key(here):
        raise ValueError(
            f"{path}: made_by.agentserve_gym is {made_by!r}; allowed: {edition.minimum_version} "
            f"(the first for edition {edition.name}) to {here} (this one)"
        )


def _wrong_rows(submission: Submission, edition: Edition) -> Iterator[str]:
    """Rows that are missing, twice or of nothing in the edition."""
    count = len(edition.public_seeds)
    wanted = [(cell, seed + 1) for cell in edition.cell_names for seed in range(count)]
    found = [(row.cell, row.seed) for row in submission.rows]
    for key in dict.fromkeys([*wanted, *found]):
        times = found.count(key)
        if times != wanted.count(key):
            yield f"row {key[0]}, seed {key[1]} is there {times} times, not {wanted.count(key)}"


def _wrong_totals(submission: Submission, edition: Edition) -> Iterator[str]:
    """Totals that do not follow from the rows."""
    computed = totals_of(submission.rows, edition, submission.part)
    said = dict(_leaves(submission.totals.model_dump(), "totals"))
    for name, value in _leaves(computed.model_dump(), "totals"):
        if name not in said or not same(said[name], value):
            yield f"{name} is {said.get(name)}, but the rows give {value}"


def _leaves(tree: dict[str, Any], name: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}.{key}")
        else:
            yield f"{name}.{key}", value


def same(value: float, other: float) -> bool:
    """Whether two numbers differ by rounding alone."""
    return abs(value - other) <= TOLERANCE * max(abs(value), abs(other))
