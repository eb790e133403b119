"""Suites: which cells are run under which policies, as readable data.

A *cell* is a scenario. All of its programs count, and a run ends when the last of them is done.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agentserve_gym.baselines import parse_policy
from agentserve_gym.baselines.learned.parts import learned_weights
from agentserve_gym.bench.luck import NUDGED_OF
from agentserve_gym.messages import unknown, validated
from agentserve_gym.sim.loading import cell_names, load_cell, load_scenario, with_trace
from agentserve_gym.sim.scenario import PositiveInt, Scenario, StrictModel
from agentserve_gym.tables import read_table
from agentserve_gym.workloads.spec import TraceWorkload

NonNegativeInt = Annotated[int, Field(ge=0)]
Lever = Literal[
    "stock", "routing", "residency", "tiers", "order", "admission", "mixed", "learned", "oracle"
]
LEVERS: tuple[Lever, ...] = (
    "stock", "routing", "residency", "tiers", "order", "admission", "mixed", "learned", "oracle",
)  # fmt: skip


FOUND = "found"
"""Among a suite's policies: all that a search found."""


class Cell(StrictModel):
    """One scenario of a suite.

    Attributes:
        scenario: a name of the benchmark's scenarios, a preset, or a file.
        load: what the cell is meant to be; results decide whether it is a control.
        parallel: cells of one group differ in their hardware alone, and may be compared.
    """

    scenario: str
    load: Literal["light", "near saturation", "saturated"]
    parallel: str | None = None


class Entry(StrictModel):
    """One policy of a suite.

    Attributes:
        label: its name in results; never changes meaning, unlike tuned parameters.
        policy: as ``parse_policy`` reads it.
        lever: which decision differs from the stock policy (session affinity, LRU, no admission
            control, first come first served); ``mixed`` for several, ``learned`` where weights
            were trained here, ``oracle`` for oracles.
        seeds, scenarios: limits for policies too slow to run everywhere; ``None`` for none.
    """

    label: str
    policy: str
    lever: Lever
    seeds: PositiveInt | None = None
    scenarios: list[str] | None = None

    @model_validator(mode="after")
    def _oracles_are_marked(self) -> Entry:
        is_oracle = parse_policy(self.policy).is_oracle
        if is_oracle != (self.lever == "oracle"):
            raise ValueError(
                f"lever of {self.label} is {self.lever!r}; allowed: 'oracle' for oracles alone"
            )
        return self


class LuckPlan(StrictModel):
    """Runs that measure luck in every cell: see ``bench.luck``.

    Attributes:
        policies: labels of the suite's policies to nudge.
        seeds: on how many of the first seeds. ``nudges``: how often on each; 0 measures no luck.
    """

    policies: list[str] = Field(default=[])
    seeds: PositiveInt = 2
    nudges: Annotated[int, Field(ge=0, le=NUDGED_OF)] = 4


class SuiteFile(StrictModel):
    """What a suite file says; ``policies`` are labels of ``policies.toml``, and ``found``."""

    name: str
    description: str
    seeds: PositiveInt
    first_seed: NonNegativeInt
    reference: str = "random"
    stock: str = "affinity"
    luck: LuckPlan = LuckPlan()
    cells: list[Cell] = Field(min_length=1)
    policies: list[str] = Field(min_length=1)


class Suite(StrictModel):
    """Cells, policies and seeds.

    Attributes:
        reference: label whose score is 0. ``stock``: label that levers are measured against.
        luck: which policies are nudged; those that a part of the suite leaves out are not.
        programs_share: of each cell's programs, the first ones, how many are run.
        skipped: cells that cannot run here, with the reason.
    """

    name: str
    description: str
    seeds: Annotated[int, Field(gt=0, le=1000)]
    first_seed: NonNegativeInt
    reference: str = "random"
    stock: str = "affinity"
    luck: LuckPlan = LuckPlan()
    cells: list[Cell] = Field(min_length=1)
    policies: list[Entry] = Field(min_length=1)
    programs_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    skipped: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _labels_are_known(self) -> Suite:
        labels = [entry.label for entry in self.policies]
        scenarios = [cell.scenario for cell in self.cells]
        for kind, names in (("policies", labels), ("cells", scenarios)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} names {', '.join(twice)} twice")
        for role in (self.reference, self.stock):
            if role not in labels:
                raise ValueError(f"policies must hold {role!r}, got {', '.join(labels)}")
        return self

    @property
    def command(self) -> str:
        """What runs it, all of its cells and policies, and writes its page."""
        return f"agentserve bench --suite {self.name} --seeds {self.seeds} --docs docs"

    def entry(self, label: str) -> Entry:
        """The policy with this label."""
        return next(entry for entry in self.policies if entry.label == label)

    def scenario_of(self, cell: Cell) -> Scenario:
        """What is run of a cell; all of it where programs are listed, or a trace is taken whole."""
        whole = find_scenario(cell.scenario)
        programs = whole.workload.programs
        if self.programs_share == 1.0 or not isinstance(programs, int):
            return whole
        fewer = max(round(programs * self.programs_share), 1)
        workload = whole.workload.model_copy(update={"programs": fewer})
        return whole.model_copy(update={"workload": workload})

    def seed_numbers(self) -> range:
        """Every seed, in the order in which they are run."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def only(self, scenarios: list[str], policies: list[str], seeds: int | None) -> Suite:
        """A part of the suite; the reference and the stock policy always stay.

        Args:
            scenarios: cells to keep; empty for all. A name that the suite does not hold is added.
            policies: labels to keep, or policies to add, as ``parse_policy`` reads them; empty for
                all.
            seeds: how many; ``None`` for the suite's number.

        Raises:
            ValueError: for an unknown scenario or policy.
        """
        cells = [self._cell(name) for name in scenarios] or self.cells
        entries = [self._chosen(name) for name in policies] or self.policies
        labels = {entry.label for entry in entries}
        kept = [self.entry(role) for role in (self.reference, self.stock) if role not in labels]
        part = {
            **self.model_dump(),
            "cells": [cell.model_dump() for cell in cells],
            "policies": [entry.model_dump() for entry in (*kept, *entries)],
            "seeds": self.seeds if seeds is None else seeds,
        }
        return validated(Suite, part, f"suite {self.name!r}")

    def _cell(self, name: str) -> Cell:
        for cell in self.cells:
            if cell.scenario == name:
                return cell
        if name in self.skipped:
            raise ValueError(f"scenario {name!r} cannot run here: {self.skipped[name]}")
        find_scenario(name)  # refuses an unknown name
        return Cell(scenario=name, load="near saturation")

    def _chosen(self, name: str) -> Entry:
        for entry in self.policies:
            if entry.label == name:
                return entry
        curated = _curated_entries()
        if name in curated:
            return Entry.model_validate(curated[name])
        policy = parse_policy(name)
        lever: Lever = "learned" if learned_weights(policy) else "mixed"
        return Entry(label=name, policy=name, lever="oracle" if policy.is_oracle else lever)


def suite_names() -> list[str]:
    """Suites that ship with the package."""
    return _names("suites")


def load_suite(name: str, traces: Path | None = None) -> Suite:
    """A suite by name or from a ``.toml`` file, with tuned parameters in its policies.

    Args:
        name: ``standard``, ``quick``, or a file.
        traces: folder of recorded traces; ``None`` for ``traces`` in the data folder.
            Cells whose trace is not there are left out and named in ``skipped``.

    Raises:
        ValueError: for an unknown suite, scenario or policy, or a bad value.
    """
    content = _read(name)
    where = name if name.endswith(".toml") else f"suite {name!r}"
    file = validated(SuiteFile, content, where)
    entries = _curated_entries()
    found = found_labels().values()
    labels = [label for name in file.policies for label in (found if name == FOUND else [name])]
    for label in labels:
        if label not in entries:
            raise ValueError(f"{where}: {unknown('policy', label, entries)}")
    cells, skipped = [], {}
    for cell in file.cells:
        reason = missing_trace(find_scenario(cell.scenario), traces)
        if reason is None:
            cells.append(cell.model_dump())
        else:
            skipped[cell.scenario] = reason
    if not cells:
        raise ValueError(f"{where}: no cell can run here; {next(iter(skipped.values()))}")
    policies = [entries[label] for label in dict.fromkeys(labels)]
    whole = {**file.model_dump(), "policies": policies, "cells": cells, "skipped": skipped}
    return validated(Suite, whole, where)


def _curated_entries() -> dict[str, dict[str, Any]]:
    """Label -> entry of policies.toml, with tuned parameters, and of what a search found."""
    tuned = tuned_parts()
    entries = {
        entry["label"]: {**entry, "policy": with_tuned_parts(entry["policy"], tuned)}
        for entry in _data("policies.toml")["policies"]
    }
    known = _by_name(entries)
    for record in search_record().get("found", {}).values():
        policy = record["policy"]
        label = known.setdefault(parse_policy(policy).name, policy)
        entries.setdefault(label, {"label": policy, "policy": policy, "lever": "mixed"})
    return entries


def _by_name(entries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Full name of a policy -> its label: a policy may be written in several ways."""
    return {parse_policy(entry["policy"]).name: label for label, entry in entries.items()}


def tuned_parts() -> dict[str, str]:
    """Part or bundle with default parameters -> with those that ``agentserve bench --tune`` found.

    Parts that were tuned together in a system are used so by other compositions, too, unless they
    were tuned alone.
    """
    chosen = list(tuning_record().get("tuned", {}).values())
    tuned = {record["default"]: record["policy"] for record in chosen}
    for record in chosen:
        for part in record["policy"].split("+"):
            tuned.setdefault(part.split("(")[0], part)
    return tuned


def with_tuned_parts(policy: str, tuned: dict[str, str]) -> str:
    """The policy, every part of which that has its defaults and was tuned being replaced."""
    return "+".join(tuned.get(part, part) for part in policy.split("+"))


def tuning_record() -> dict[str, Any]:
    """What ``--tune`` wrote: the chosen policies with their provenance."""
    return _data("tuned.toml")


def search_record() -> dict[str, Any]:
    """What ``--search`` wrote: the best combination of each cell with its provenance."""
    return _data("found.toml")


def found_labels() -> dict[str, str]:
    """Scenario of a cell -> label, in suites, of the combination that a search found there.

    It is a curated policy's label where the combination is one.
    """
    known = _by_name(_curated_entries())
    found = search_record().get("found", {})
    return {cell: known[parse_policy(record["policy"]).name] for cell, record in found.items()}


def curated_policies() -> dict[str, str]:
    """Label -> policy with its default parameters."""
    return {entry["label"]: entry["policy"] for entry in _data("policies.toml")["policies"]}


def search_space() -> dict[str, Any]:
    """Which parts a search combines, and on which seeds."""
    return _data("search.toml")


def tuning_grids() -> dict[str, Any]:
    """Which parameters are tried, where, and on which seeds."""
    return _data("grids.toml")


# --- scenarios -----------------------------------------------------------------------------------


def find_scenario(name: str) -> Scenario:
    """A cell of the benchmark, a preset or a file, without a horizon, which would cut programs off;
    paths of traces are as written there.

    Raises:
        ValueError: for an unknown name.
    """
    scenario = load_cell(name) if name in cell_names() else load_scenario(name)
    return scenario.model_copy(update={"horizon_s": None})


def has_lower_tier(scenario: Scenario) -> bool:
    """Whether any node has a memory tier below HBM."""
    return bool(scenario.cluster.tier_names)


def missing_trace(scenario: Scenario, traces: Path | None) -> str | None:
    """Why the scenario's trace cannot be read; ``None`` if it can, or there is none."""
    workload = with_trace(scenario, traces).workload
    if isinstance(workload, TraceWorkload) and not Path(workload.path).exists():
        return (
            f"there is no trace {workload.path} (agentserve data says where to get it; name "
            "another folder with --traces)"
        )
    return None


# --- files ---------------------------------------------------------------------------------------


def _folder() -> Traversable:
    return resources.files("agentserve_gym.bench")


def _names(kind: str) -> list[str]:
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in (_folder() / kind).iterdir()
        if entry.name.endswith(".toml")
    )


def _data(name: str) -> dict[str, Any]:
    return tomllib.loads((_folder() / name).read_text(encoding="utf-8"))


def _read(name: str) -> dict[str, Any]:
    if name.endswith(".toml"):
        return read_table(Path(name))
    if name not in suite_names():
        raise ValueError(f"{unknown('suite', name, suite_names())}, or a file that ends in .toml")
    return _data(f"suites/{name}.toml")
