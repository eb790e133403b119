"""Which timing source prices an (accelerator, model, parallelism), and how far it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .catalogue import DATA, Accelerator, Model, accelerator, link, model, nearest
from .coefficient_file import read_compact_file
from .compact import CompactLatency, ExpertSpread
from .roofline import RooflineLatency
from .timing import LatencyModel

TimingSource = Literal["auto", "compact", "roofline"]


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How an engine is spread. With data parallelism, ``data`` engines step together."""

    tensor: int = 1
    expert: int = 1
    data: int = 1

    def __post_init__(self) -> None:
        for name in ("tensor", "expert", "data"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}_parallel = {value} must be at least 1")


@dataclass(frozen=True, slots=True)
class LatencyProvenance:
    """Where the step times of an engine come from, and how far they are trusted."""

    kind: str
    source: str
    trust: str


def latency_model(
    on: str | Accelerator,
    of: str | Model,
    tensor_parallel: int = 1,
    *,
    expert_parallel: int = 1,
    data_parallel: int = 1,
    source: str = "auto",
) -> LatencyModel:
    """The latency model of one engine.

    Args:
        on: accelerator, by catalogue name, path or value.
        of: model, likewise.
        source: ``compact`` needs fitted coefficients in the catalogue, ``roofline`` always works,
            ``auto`` takes the first of these that exists.

    Raises:
        ValueError: unknown name or source, no coefficients for this case, or the model cannot be
            spread so.
    """
    gpu, llm, ranks = _case(on, of, tensor_parallel, expert_parallel, data_parallel)
    return _BUILDERS[_kind(gpu, llm, ranks, source)](gpu, llm, ranks)


def latency_provenance(
    on: str | Accelerator,
    of: str | Model,
    tensor_parallel: int = 1,
    *,
    expert_parallel: int = 1,
    data_parallel: int = 1,
    source: str = "auto",
) -> LatencyProvenance:
    """What ``latency_model`` with the same arguments rests on. Raises ValueError as it does."""
    gpu, llm, ranks = _case(on, of, tensor_parallel, expert_parallel, data_parallel)
    kind = _kind(gpu, llm, ranks, source)
    if kind == "compact":
        file = read_compact_file(_compact_path(gpu, llm, ranks))
        return LatencyProvenance(kind, file.source, file.error)
    return LatencyProvenance(kind, gpu.roofline.source, gpu.roofline.trust)


def list_compact_cases() -> list[tuple[str, str, int]]:
    """(accelerator, model, tensor parallelism) of every coefficient file in the catalogue."""
    files = sorted((DATA / "timing").glob("*/*/tp*.toml"))
    return [(p.parent.parent.name, p.parent.name, int(p.stem[2:])) for p in files]


def _case(
    on: str | Accelerator, of: str | Model, tensor: int, expert: int, data: int
) -> tuple[Accelerator, Model, Parallelism]:
    gpu = accelerator(on) if isinstance(on, str) else on
    llm = model(of) if isinstance(of, str) else of
    ranks = Parallelism(tensor, expert, data)
    llm.check_tensor_parallel(tensor)
    llm.check_expert_parallel(expert)
    if expert > 1 and expert != tensor * data:
        raise ValueError(
            f"expert_parallel = {expert} must be 1 or tensor_parallel * data_parallel = "
            f"{tensor * data}"
        )
    return gpu, llm, ranks


def _compact_path(gpu: Accelerator, llm: Model, ranks: Parallelism) -> Path:
    return DATA / "timing" / gpu.name / llm.name / f"tp{ranks.tensor}.toml"


def _kind(gpu: Accelerator, llm: Model, ranks: Parallelism, source: str) -> str:
    if source != "auto" and source not in _BUILDERS:
        valid = ["auto", *_BUILDERS]
        raise ValueError(f"unknown timing source {source!r}; {nearest(source, valid)}")
    if source == "roofline":
        return source
    if _compact_path(gpu, llm, ranks).is_file():
        return "compact"
    if source == "compact":
        cases = [f"{a}/{m}/tp{t}" for a, m, t in list_compact_cases()]
        case = f"{gpu.name}/{llm.name}/tp{ranks.tensor}"
        raise ValueError(f"no compact coefficients for {case}; {nearest(case, cases)}")
    return "roofline"


def _compact(gpu: Accelerator, llm: Model, ranks: Parallelism) -> LatencyModel:
    coefficients = read_compact_file(_compact_path(gpu, llm, ranks))
    return CompactLatency(coefficients, expert_spread(llm, ranks))


def expert_spread(llm: Model, ranks: Parallelism) -> ExpertSpread:
    """How the experts of a model are spread; nothing to spread for a dense model."""
    if llm.experts is None or llm.experts_per_token is None:
        return ExpertSpread()
    return ExpertSpread(
        count=llm.experts,
        per_token=llm.experts_per_token,
        ranks=ranks.expert,
        engines=ranks.data,
        slices=ranks.tensor if ranks.expert == 1 else 1,
    )


def _roofline(gpu: Accelerator, llm: Model, ranks: Parallelism) -> LatencyModel:
    peers = link(gpu.peer_link)
    return RooflineLatency(gpu, llm, ranks.tensor, ranks.expert, ranks.data, peers)


_BUILDERS: dict[str, Callable[[Accelerator, Model, Parallelism], LatencyModel]] = {
    "compact": _compact,
    "roofline": _roofline,
}
