"""Which timing source prices an (accelerator, model, parallelism), and how far it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from agentserve_gym.messages import choices, unknown
from agentserve_gym.tables import read_table

from .catalogue import (
    DATA,
    Accelerator,
    ServingSoftware,
    accelerator,
    link,
    model,
    serving_software,
)
from .coefficient_file import CompactFile, read_compact_file
from .decoder import Model
from .pricing.compact import NO_HOST_TIME, CompactLatency
from .pricing.layers import ExpertSpread
from .pricing.timing import LatencyModel
from .profile import profile_latency
from .roofline import roofline_latency

_NAMED = ("auto", "compact", "measured", "roofline")


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
    kv_dtype: str | None = None,
    source: str = "auto",
    software: str = "auto",
) -> LatencyModel:
    """The latency model of one engine.

    Args:
        on: accelerator, by catalogue name, path or value.
        of: model, likewise.
        kv_dtype: precision of its KV; default: the model's own.
        source: ``compact`` needs fitted coefficients in the catalogue, ``roofline`` always works,
            ``auto`` takes the first of these that exists; ``measured`` needs tables that this
            project measured with PyTorch's kernels. Or a path: of a coefficient file (``.toml``),
            or of a folder of profile tables.
        software: the serving software, by catalogue name or path, whose host time steps get;
            ``auto``: that of the coefficient file; ``none``: the kernels alone.

    Raises:
        ValueError: unknown name or source, no coefficients for this case, or the model cannot be
            spread so.
    """
    named = isinstance(on, str) and isinstance(of, str)
    build = _shared if named and source in _NAMED else _build
    ranks = (tensor_parallel, expert_parallel, data_parallel)
    return build(on, of, *ranks, kv_dtype, source, software)


def latency_provenance(
    on: str | Accelerator,
    of: str | Model,
    tensor_parallel: int = 1,
    *,
    expert_parallel: int = 1,
    data_parallel: int = 1,
    kv_dtype: str | None = None,
    source: str = "auto",
) -> LatencyProvenance:
    """What ``latency_model`` with the same arguments rests on. Raises ValueError as it does."""
    case = _case(on, of, tensor_parallel, expert_parallel, data_parallel, kv_dtype)
    kind = _kind(case, source)
    return LatencyProvenance(kind, *_DESCRIBE[kind](case, source))


class CompactCase(NamedTuple):
    """What a coefficient file is of. ``str`` gives its place in the catalogue: the precision of the
    KV is named where it is not bf16."""

    accelerator: str
    model: str
    tensor_parallel: int
    kv_dtype: str

    def __str__(self) -> str:
        kv = "" if self.kv_dtype == "bf16" else f"{_KV}{self.kv_dtype}"
        return f"{self.accelerator}/{self.model}/tp{self.tensor_parallel}{kv}"


_KV = "-kv-"

MEASURED = DATA / "measured"
"""Profile folders that this project measured, ``<accelerator>/<model>/tp<k>``."""


def latency_software(
    on: str, of: str, tensor_parallel: int, *, kv_dtype: str | None, source: str, software: str
) -> ServingSoftware | None:
    """The serving software that ``latency_model`` takes with the same arguments."""
    return _software(_case(on, of, tensor_parallel, 1, 1, kv_dtype), source, software)


def list_compact_cases() -> list[CompactCase]:
    """The case of every coefficient file in the catalogue."""
    return [_case_of(path) for path in sorted((DATA / "timing").glob("*/*/tp*.toml"))]


def list_measured_cases() -> list[CompactCase]:
    """The case of every profile that this project measured."""
    return [_case_of(path) for path in sorted(MEASURED.glob("*/*/tp*"))]


def _case_of(path: Path) -> CompactCase:
    ranks, _, kv_dtype = path.stem.removeprefix("tp").partition(_KV)
    return CompactCase(path.parent.parent.name, path.parent.name, int(ranks), kv_dtype or "bf16")


def _build(
    on: str | Accelerator,
    of: str | Model,
    tensor: int,
    expert: int,
    data: int,
    kv_dtype: str | None,
    source: str,
    software: str,
) -> LatencyModel:
    case = _case(on, of, tensor, expert, data, kv_dtype)
    kind = _kind(case, source)
    if kind == "compact":
        return _build_compact(case, source, software)
    if software not in ("auto", "none"):
        raise ValueError(
            f"software is {software!r}, but {case} is priced by {kind}; host time comes on top of "
            "coefficient files alone: allowed here are 'auto' and 'none'"
        )
    return _build_roofline(case) if kind == "roofline" else _build_profile(case, source)


# Catalogue models are immutable, and tabulating one takes as long as a short episode.
_shared = lru_cache(maxsize=64)(_build)


class _Case(NamedTuple):
    gpu: Accelerator
    llm: Model
    ranks: Parallelism

    def __str__(self) -> str:
        llm = self.llm
        return str(CompactCase(self.gpu.name, llm.name, self.ranks.tensor, llm.kv_dtype))


def expert_spread(llm: Model, ranks: Parallelism) -> ExpertSpread:
    """How the experts of a model are spread; nothing to spread for a dense model."""
    if llm.experts is None or llm.experts_per_token is None:
        return ExpertSpread()
    return ExpertSpread(
        count=llm.experts,
        per_token=llm.experts_per_token,
        ranks=ranks.expert,
        engines=ranks.data if ranks.expert > 1 else 1,
        slices=ranks.tensor if ranks.expert == 1 else 1,
    )


def _case(
    on: str | Accelerator,
    of: str | Model,
    tensor: int,
    expert: int,
    data: int,
    kv_dtype: str | None,
) -> _Case:
    gpu = accelerator(on) if isinstance(on, str) else on
    llm = (model(of) if isinstance(of, str) else of).with_kv_dtype(kv_dtype)
    ranks = Parallelism(tensor, expert, data)
    llm.check_tensor_parallel(tensor)
    llm.check_expert_parallel(expert)
    if expert > 1 and expert != tensor * data:
        raise ValueError(
            f"expert_parallel = {expert} must be 1 or tensor_parallel * data_parallel = "
            f"{tensor * data}"
        )
    return _Case(gpu, llm, ranks)


def _catalogue_path(case: _Case) -> Path:
    return DATA / "timing" / f"{case}.toml"


def _kind(case: _Case, source: str) -> str:
    """Which of the sources a name or a path means."""
    if source == "auto":
        return "compact" if _catalogue_path(case).is_file() else "roofline"
    if source in ("compact", "roofline"):
        return source
    if source.endswith(".toml"):
        return "compact"
    if source == "measured" or Path(source).is_dir():
        return "profile"
    raise ValueError(
        f"{unknown('timing source', source, _NAMED)}, a coefficient file (.toml), or a folder of "
        "profile tables"
    )


@lru_cache(maxsize=64)
def _file(path: Path) -> CompactFile:
    return read_compact_file(path)


def _compact_file(case: _Case, source: str) -> CompactFile:
    if not source.endswith(".toml"):
        path = _catalogue_path(case)
        if not path.is_file():
            cases = map(str, list_compact_cases())
            raise ValueError(f"no compact coefficients for {case}{choices(str(case), cases)}")
        return _file(path)
    file = read_compact_file(source)
    of = str(CompactCase(file.accelerator, file.model, file.tensor_parallel, file.kv_dtype))
    if of != str(case):
        raise ValueError(f"{source} has the coefficients of {of}, not of {case}")
    return file


def _build_compact(case: _Case, source: str, software: str) -> LatencyModel:
    file = _compact_file(case, source)
    named = _software(case, source, software)
    host = NO_HOST_TIME if named is None else named.host_time(case.llm.layers)
    if case.llm.experts is not None and file.experts is None:
        raise ValueError(f"{case.llm.name} has experts, but the coefficients of {case} have none")
    return CompactLatency(file.plain(host), expert_spread(case.llm, case.ranks))


def _software(case: _Case, source: str, software: str) -> ServingSoftware | None:
    """What serves: the software that is named, or that of the coefficients."""
    if software == "auto" and _kind(case, source) == "compact":
        named = _compact_file(case, source).software
    else:
        named = None if software in ("auto", "none") else software
    return None if named is None else serving_software(named)


def _describe_compact(case: _Case, source: str) -> tuple[str, str]:
    file = _compact_file(case, source)
    return f"{file.provenance}: {file.source}", file.error


def _build_roofline(case: _Case) -> LatencyModel:
    ranks, peers = case.ranks, link(case.gpu.peer_link)
    engines = ranks.data if ranks.expert > 1 else 1
    return roofline_latency(case.gpu, case.llm, ranks.tensor, ranks.expert, engines, peers)


_OTHER_KINDS = (
    "; fitted to bf16 models with full attention: of others that have kernel tables its decode "
    "steps are 42 % too short to 12 % too long, and its prefills 6 to 55 % too short"
)


def _describe_roofline(case: _Case, _: str) -> tuple[str, str]:
    roofline = case.gpu.roofline
    other = not case.llm.is_bf16 or case.llm.is_latent or case.llm.is_hybrid
    return roofline.source, roofline.trust + (_OTHER_KINDS if other else "")


def _build_profile(case: _Case, source: str) -> LatencyModel:
    spread = expert_spread(case.llm, case.ranks)
    peers = link(case.gpu.peer_link)
    folder = _profile_folder(case, source)
    return profile_latency(folder, case.llm, case.ranks.tensor, spread, peers)


def _profile_folder(case: _Case, source: str) -> Path:
    if source != "measured":
        return Path(source)
    folder = MEASURED / str(case)
    if not folder.is_dir():
        cases = map(str, list_measured_cases())
        raise ValueError(f"no measured tables of {case}{choices(str(case), cases)}")
    return folder


def _describe_profile(case: _Case, source: str) -> tuple[str, str]:
    trust = "measured; linear between the points of the tables"
    if source != "measured":
        return f"profile tables in {source}", trust
    about = read_table(_profile_folder(case, source) / "about.toml")
    how = f"agentserve calibrate measure: {about['device']}, PyTorch {about['torch']}"
    return how, f"{trust}; PyTorch's kernels, not an engine's"


_DESCRIBE: dict[str, Callable[[_Case, str], tuple[str, str]]] = {
    "compact": _describe_compact,
    "roofline": _describe_roofline,
    "profile": _describe_profile,
}
