"""Results that earlier commands have saved, and their differences."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agentserve_gym.messages import shown
from agentserve_gym.report.statistics import PairedDifference, paired_difference
from agentserve_gym.tables import read_text

BENCH_FILE, TRAINING_FILE = "results.csv", "results.json"
_ALLOWED = (
    f"a folder of bench ({BENCH_FILE}) or train ({TRAINING_FILE}), or what run, evaluate or train "
    "printed with --json"
)


class Measured(NamedTuple):
    """The mean JCT of a policy with one seed; ``origin``: where it is saved."""

    origin: str
    scenario: str
    policy: str
    seed: int
    jct_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """A policy's figures in a comparison.

    Attributes:
        name: the policy's, with where it is saved if there are several of that name.
        policy: its own name. ``origins``: where its results are saved.
        jct_s: mean JCT by seed.
        difference: against the comparison's first row, over the seeds that both have; ``None``
            for that row itself, and for fewer than two such seeds.
    """

    name: str
    policy: str
    origins: tuple[str, ...]
    jct_s: dict[int, float]
    difference: PairedDifference | None

    @property
    def mean_jct_s(self) -> float:
        """Over its seeds."""
        return sum(self.jct_s.values()) / len(self.jct_s)


@dataclass(frozen=True, slots=True)
class Compared:
    """One scenario: the row that all are compared with comes first."""

    scenario: str
    rows: list[Row]


def read_saved(path: Path) -> list[Measured]:
    """What a file or folder has saved.

    Raises:
        ValueError: naming the path, if there is nothing of the kind or something in it is wrong.
    """
    if path.is_dir():
        if (path / BENCH_FILE).is_file():
            return list(_of_bench(path / BENCH_FILE, str(path)))
        if (path / TRAINING_FILE).is_file():
            return _of_document(path / TRAINING_FILE, str(path))
        raise ValueError(f"run is {str(path)!r}, which holds no results; allowed: {_ALLOWED}")
    if path.suffix == ".csv":
        return list(_of_bench(path, str(path)))
    return _of_document(path, str(path))


def compare(found: Sequence[Measured], against: str | None) -> list[Compared]:
    """Every scenario with two rows or more, in the order in which they were found.

    Args:
        found: results, of which the last of a seed counts.
        against: the policy that others are compared with; ``None`` for the first of each scenario.

    Raises:
        ValueError: if nothing can be compared, or ``against`` is in no scenario.
    """
    saved: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
    for each in found:
        by_origin = saved.setdefault(each.scenario, {})
        by_origin.setdefault((each.policy, each.origin), {})[each.seed] = each.jct_s
    compared = []
    for scenario, by_origin in saved.items():
        rows = _joined(by_origin)
        if against is not None:
            rows.sort(key=lambda row: row.policy != against)
        if len(rows) > 1 and against in (None, rows[0].policy):
            compared.append(Compared(scenario, _named(rows)))
    if not compared:
        policies = ", ".join(dict.fromkeys(each.policy for each in found))
        beside = f" beside {against!r}" if against is not None else ""
        raise ValueError(f"no scenario has two results to compare{beside}; found: {policies or 0}")
    return compared


@dataclass(slots=True)
class _Saved:
    """A policy's results, which may come from several places."""

    policy: str
    origins: list[str]
    jct_s: dict[int, float]

    def agrees(self, jct_s: Mapping[int, float]) -> bool:
        """Whether other results may be of the same policy: they have other seeds, or the same
        figures, as runs are deterministic."""
        return all(self.jct_s.get(seed, value) == value for seed, value in jct_s.items())


def _joined(by_origin: Mapping[tuple[str, str], Mapping[int, float]]) -> list[_Saved]:
    """A row for each policy, and more where results of the same seed differ."""
    rows: list[_Saved] = []
    for (policy, origin), jct_s in by_origin.items():
        for row in reversed(rows):
            if row.policy == policy and row.agrees(jct_s):
                row.origins.append(origin)
                row.jct_s.update(jct_s)
                break
        else:
            rows.append(_Saved(policy, [origin], dict(jct_s)))
    return rows


def _named(saved: Sequence[_Saved]) -> list[Row]:
    """Rows with their differences from the first."""
    policies = [each.policy for each in saved]
    first = saved[0].jct_s
    rows: list[Row] = []
    for each in saved:
        seeds = sorted(set(each.jct_s) & set(first))
        difference = None
        if rows and len(seeds) > 1:
            pair = [each.jct_s[seed] for seed in seeds], [first[seed] for seed in seeds]
            difference = paired_difference(*pair)
        is_alone = policies.count(each.policy) == 1
        name = each.policy if is_alone else f"{each.policy}, {each.origins[0]}"
        rows.append(Row(name, each.policy, tuple(each.origins), each.jct_s, difference))
    return rows


# --- files ---------------------------------------------------------------------------------------


def _of_bench(path: Path, origin: str) -> Iterator[Measured]:
    """Rows of a benchmark, which may still be going on: a row cut off at the end is left out."""
    whole, _, _ = read_text(path).rpartition("\n")
    reader = csv.DictReader(io.StringIO(whole))
    needed = {"scenario", "label", "seed", "jct_mean_s"}
    if not needed <= set(reader.fieldnames or ()):
        raise ValueError(f"{path}: has no columns {', '.join(sorted(needed))}; not of bench")
    for row in reader:
        if row.get("nudge") not in (None, "", "0"):
            continue
        where = f"{path}, line {reader.line_num}"
        seed, jct_s = _number(row["seed"], where), _number(row["jct_mean_s"], where)
        yield Measured(origin, row["scenario"], row["label"], int(seed), jct_s)


def _of_document(path: Path, origin: str) -> list[Measured]:
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"run is {str(path)!r}, which is no JSON; allowed: {_ALLOWED}") from error
    try:
        if "runs" in document:
            return [
                Measured(
                    origin, str(document["scenario"]), str(run["policy"]),
                    int(run["seed"]), _number(run["mean_jct_s"]["all"], str(path)),
                )
                for run in document["runs"]
            ]  # fmt: skip
        return list(_of_evaluation(document.get("evaluation", document), path, origin))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"run is {str(path)!r}, a document of something else; allowed: {_ALLOWED}"
        ) from error


def _of_evaluation(evaluation: Any, path: Path, origin: str) -> Iterator[Measured]:
    scenario, seeds = str(evaluation["scenario"]), evaluation["seeds"]
    for scores in evaluation["policies"]:
        for seed, jct_s in zip(seeds, scores["by_seed"]["jct"], strict=True):
            number = _number(jct_s, str(path))
            yield Measured(origin, scenario, str(scores["policy"]), int(seed), number)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {shown(value)} is no finite number")
    return number
