"""Whole steps that were measured on a GPU, against what prices steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentserve_gym.hardware.catalogue import accelerator, link, model
from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.pricing.timing import BatchStep, LatencyModel, prefill_area
from agentserve_gym.hardware.profile import load_profile_of, tables_latency
from agentserve_gym.hardware.profile_tables import read_numbers, read_rows, require_table
from agentserve_gym.hardware.roofline import all_reduce_s_per_step
from agentserve_gym.hardware.sources import (
    Parallelism,
    expert_spread,
    latency_model,
    latency_provenance,
)

from .copies import BLOCK_COLUMNS
from .fit import ProfileCase, profile_case
from .whole_steps import BESIDE_COLUMNS, STEP_COLUMNS, StepPoint

TABLES = "tables"
"""What the sum of the profile's own tables is called among what prices a step."""


@dataclass(frozen=True, slots=True)
class CheckedStep:
    """One measured step of the whole model.

    Attributes:
        layers, all_layers: that were measured, and that the model has.
        measured_s: of all layers: those that were not measured are added as the tables say, and
            all-reduces, which one rank alone has none of, as the link says.
        beside_copies: what it takes while copies to and from the host run, as a multiple; of
            decodes alone.
        priced_s: by ``tables``, the profile's own, and by each of the catalogue's sources.
    """

    point: StepPoint
    layers: int
    all_layers: int
    measured_s: float
    beside_copies: float | None
    priced_s: dict[str, float]

    @property
    def kind(self) -> str:
        """What it computes: decodes, a prefill, or both."""
        if not self.point.chunk:
            return "decode"
        return "mixed" if self.point.decodes else "prefill"

    def off(self, source: str) -> float:
        """How much longer a source says it takes, as a share of what was measured."""
        return self.priced_s[source] / self.measured_s - 1.0


def check_steps(folder: str | Path, case: ProfileCase | None = None) -> list[CheckedStep]:
    """Price every whole step that ``agentserve calibrate measure`` wrote into a profile folder.

    Kernels alone are compared: nothing here has a host.

    Args:
        case: what the folder is of, where its path does not say.

    Raises:
        ValueError: as ``load_profile`` does, or there is no ``steps.csv``.
    """
    what = case or profile_case(folder)
    llm = model(what.model, what.kv_dtype)
    on, ranks = what.accelerator, what.tensor_parallel
    rows = read_numbers(require_table(Path(folder), "steps"), STEP_COLUMNS)
    others = read_numbers(require_table(Path(folder), "beside_copies"), BESIDE_COLUMNS)
    beside = {(int(n), int(c)): busy / alone for n, c, alone, busy in others.tolist()}
    sources: dict[str, LatencyModel] = {TABLES: _of_tables(folder, llm, on, ranks)}
    for source in ("auto", "roofline"):
        kind = latency_provenance(on, llm, ranks, source=source).kind
        sources[kind] = latency_model(on, llm, ranks, source=source, software="none")
    layers = int(rows[0, 0])
    part = llm.model_copy(update={"layers": layers})
    of_part = _of_tables(folder, part, on, ranks)
    all_reduce = all_reduce_s_per_step(part, ranks, link(accelerator(on).peer_link))
    found = []
    for _, *shape, time_us in rows.tolist():
        point = StepPoint(*map(int, shape))
        step = _step(point)
        priced = {name: source.step_s(step) for name, source in sources.items()}
        measured_s = time_us * 1e-6 + priced[TABLES] - of_part.step_s(step)
        measured_s += all_reduce.constant_s + all_reduce.token_s * (point.chunk + point.decodes)
        busy = beside.get(point[2:])
        found.append(CheckedStep(point, layers, llm.layers, measured_s, busy, priced))
    return found


@dataclass(frozen=True, slots=True)
class BlockCopies:
    """GB/s of copies of scattered KV blocks of one size, to the device and from it."""

    block_kib: int
    to_device: float
    from_device: float


def block_copies(folder: str | Path) -> list[BlockCopies]:
    """What ``blocks.csv`` of a measured profile says, by size.

    Raises:
        ValueError: there is no such file, or it lacks something.
    """
    rows = read_rows(require_table(Path(folder), "blocks"), BLOCK_COLUMNS)
    rates = {(row["direction"], int(row["block_kib"])): float(row["gb_per_s"]) for row in rows}
    try:
        return [
            BlockCopies(size, rates["to_device", size], rates["from_device", size])
            for size in sorted({size for _, size in rates})
        ]
    except KeyError as error:
        raise ValueError(f"blocks.csv of {folder} lacks copies {error}") from error


def mean_off(steps: Sequence[CheckedStep], kind: str, source: str) -> float:
    """Mean over the steps of a kind of how much longer a source says they take."""
    alike = [step.off(source) for step in steps if step.kind == kind]
    return sum(alike) / len(alike)


def _of_tables(folder: str | Path, llm: Model, on: str, ranks: int) -> LatencyModel:
    peers = link(accelerator(on).peer_link)
    spread = expert_spread(llm, Parallelism(ranks))
    return tables_latency(load_profile_of(folder, llm), llm, ranks, spread, peers)


def _step(point: StepPoint) -> BatchStep:
    chunk, history, decodes, context = point
    return BatchStep(
        decodes,
        decodes * context,
        context if decodes else 0,
        1 if chunk else 0,
        chunk,
        history,
        prefill_area(chunk, history),
        decodes + (1 if chunk else 0),
    )
