"""Editions: what is scored, and how, frozen as data.

``editions/NAME.toml`` says it. ``editions/NAME.json`` records what some policies achieved when the
edition was frozen: the reference, which every score is a ratio to, and more for the test that tells
whether this version still simulates the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from agentserve_gym.bench.suite import Cell, NonNegativeInt
from agentserve_gym.messages import unknown, validated
from agentserve_gym.report.statistics import Array
from agentserve_gym.sim.scenario import Positive, StrictModel
from agentserve_gym.tables import read_table

Part = Literal["public", "private"]
Metric = Literal["jct_mean_s", "jct_p99_s", "slowdown"]


class ScoredCell(Cell):
    """A cell of an edition, and what it is there for."""

    covers: str


class DecisionTime(StrictModel):
    """Most wall time that one decision may take, at the median and at the 99th percentile."""

    median_ms: Positive
    p99_ms: Positive


class Recorded(NamedTuple):
    """What a policy achieved in a cell with the edition's ``seed``-th seed, counted from 1."""

    cell: str
    seed: int
    jct_mean_s: Positive
    jct_p99_s: Positive
    slowdown: Positive


class Records(StrictModel):
    """What was recorded when an edition was frozen.

    Attributes:
        reference: by part of the edition.
        golden: by policy, with the first public seed.
    """

    reference: dict[Part, list[Recorded]] = Field(default={})
    golden: dict[str, list[Recorded]] = Field(default={})


class PrivateSeeds(StrictModel):
    """The seeds of an edition's private part, which its organisers keep.

    Attributes:
        nonce: random text, so that nobody finds the list by trying.
    """

    edition: str
    nonce: str
    seeds: list[NonNegativeInt]

    @property
    def sha256(self) -> str:
        """What is published of it: of its compact JSON with sorted keys."""
        return hashlib.sha256(canonical(self.model_dump())).hexdigest()


class Edition(StrictModel):
    """What is scored.

    Attributes:
        minimum_version: of the package, that can score it.
        reference: the policy whose figures are 1.
        metrics: what ratios are taken of; the first one ranks.
        public_seeds: of the public part.
        private_seeds_sha256: as ``PrivateSeeds.sha256`` of the private part's, which are as many.
        decision_time: what a policy must decide in to be ranked.
        records: what was achieved when the edition was frozen.
    """

    name: str
    description: str
    minimum_version: str
    reference: str
    metrics: list[Metric] = Field(min_length=1)
    public_seeds: list[NonNegativeInt] = Field(min_length=2)
    private_seeds_sha256: str
    decision_time: DecisionTime
    cells: list[ScoredCell] = Field(min_length=1)
    records: Records = Records()

    @property
    def sha256(self) -> str:
        """Of all that it says and records."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(canonical(content)).hexdigest()

    @property
    def cell_names(self) -> list[str]:
        """Scenarios of the cells, in order."""
        return [cell.scenario for cell in self.cells]

    def reference_values(self, part: Part, cell: str, metric: Metric) -> Array:
        """What the reference achieved in a cell, in the order of the part's seeds.

        Raises:
            ValueError: if it was not recorded.
        """
        rows = self.records.reference.get(part)
        if rows is None:
            raise ValueError(f"edition {self.name}: there is no record of its {part} part")
        return metric_values(rows, cell, metric)

    def seeds(self, private: PrivateSeeds | None) -> list[int]:
        """Those of the private part, or the public ones.

        Raises:
            ValueError: if the private ones are not this edition's.
        """
        if private is None:
            return self.public_seeds
        if private.sha256 != self.private_seeds_sha256:
            raise ValueError(
                f"seeds: the list's SHA-256 is {private.sha256}; allowed: that of edition "
                f"{self.name}, {self.private_seeds_sha256}"
            )
        return private.seeds


class HasSeed(Protocol):
    """A row: of a cell, with the place of a seed in its part's list, from 1 on."""

    @property
    def cell(self) -> str: ...

    @property
    def seed(self) -> int: ...


def canonical(content: Any) -> bytes:
    """JSON of which there is one form: what checksums are over."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def metric_values(rows: Iterable[HasSeed], cell: str, column: str) -> Array:
    """A column of a cell's rows, in the order of the seeds."""
    found = sorted((row.seed, float(getattr(row, column))) for row in rows if row.cell == cell)
    return np.array([value for _, value in found])


def edition_names() -> list[str]:
    """Editions that this version can score."""
    names = (item.name for item in _folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def edition_file(name: str) -> Path:
    """Where an edition is written down: by name in the package, or the ``.toml`` file itself.

    Raises:
        ValueError: for an unknown one.
    """
    if name.endswith(".toml"):
        return Path(name)
    if name not in edition_names():
        raise ValueError(f"{unknown('edition', name, edition_names())}; or a .toml file")
    return Path(str(_folder() / f"{name}.toml"))


def load_edition(name: str) -> Edition:
    """An edition by name, or of a ``.toml`` file, with the records in the ``.json`` file beside it.

    Raises:
        ValueError: for an unknown one, or naming a bad value.
    """
    path = edition_file(name)
    content, records = read_table(path), path.with_suffix(".json")
    if records.is_file():
        content["records"] = read_table(records)
    return validated(Edition, content, f"edition {name}")


def load_private_seeds(path: Path) -> PrivateSeeds:
    """A private list.

    Raises:
        ValueError: naming the file, if it is none.
    """
    return validated(PrivateSeeds, read_table(path), str(path))


def version_key(version: str) -> tuple[int, ...]:
    """Numbers by which versions are ordered: those of ``1.2.3`` in ``1.2.3rc1``."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _folder() -> Any:
    return resources.files(__package__) / "editions"
