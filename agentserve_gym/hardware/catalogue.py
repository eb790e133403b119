"""The hardware catalogue: accelerators, models, links, memory tiers and serving software, as
readable data files.

Each entry is one TOML file under ``data/``. Its numbers are plain keys; a ``[sources]`` table says
for each of them where it comes from, and an entry whose number has no source does not load. A user
may pass the path of a file of their own wherever a name is expected.

Units: ``_gb_per_s`` is 1e9 bytes per second, ``_gib`` is 2**30 bytes, ``_s`` seconds.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from agentserve_gym.messages import unknown, validated
from agentserve_gym.tables import read_table

from .decoder import Model
from .entry import Entry
from .precision import ComputeDtype
from .pricing.compact import HostTime

DATA = Path(__file__).parent / "data"
GIB = 1 << 30


class RooflineEfficiency(BaseModel):
    """How much of its peaks an accelerator reaches (symbols of the roofline form, see roofline.py).

    Times in seconds. ``source`` names the data the factors were fitted to, ``trust`` the error
    found on rows that were not used for the fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    linear_memory: float = Field(gt=0, le=1.2)
    linear_compute: float = Field(gt=0, le=1.2)
    linear_exponent: float = Field(ge=1)
    layer_overhead_s: float = Field(ge=0)
    head_memory: float = Field(gt=0, le=1.2)
    sequence_s: float = Field(ge=0)
    decode_attention_memory: float = Field(gt=0, le=1.2)
    decode_attention_overhead_s: float = Field(ge=0)
    mixed_attention_compute: float = Field(gt=0, le=1.2)
    mixed_sequence_s: float = Field(ge=0)
    mixed_overhead_s: float = Field(ge=0)
    expert_memory: float = Field(gt=0, le=1.2)
    expert_overhead_s: float = Field(ge=0)
    step_overhead_s: float = Field(default=0.0, ge=0)
    source: str
    trust: str


class Accelerator(Entry):
    """One GPU. ``memory_gib`` is what the driver reports to a process, not the label on the box.

    ``fp8_tflops`` and ``fp4_tflops`` are dense peaks, and absent where its tensor cores lack them.
    """

    memory_gib: float = Field(gt=0)
    memory_bandwidth_gb_per_s: float = Field(gt=0)
    bf16_tflops: float = Field(gt=0)
    fp8_tflops: float | None = Field(default=None, gt=0)
    fp4_tflops: float | None = Field(default=None, gt=0)
    multiprocessors: int | None = Field(default=None, gt=0)
    host_link: str
    peer_link: str
    roofline: RooflineEfficiency

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * GIB)

    def peak_flops(self, compute: ComputeDtype) -> float:
        """Dense peak of a precision; that of bf16 where the tensor cores lack it, as weight-only
        kernels then widen the weights."""
        tflops = {"bf16": None, "fp8": self.fp8_tflops, "fp4": self.fp4_tflops}[compute]
        return (tflops or self.bf16_tflops) * 1e12


class Link(Entry):
    """A directed channel pair between a device and a memory or a peer; rates are effective ones.

    ``bidirectional_gb_per_s`` caps the sum of both directions where it is known to be below twice
    one direction. ``all_reduce_*`` price a ring all-reduce over this link:
    ``latency + bytes * 2 * (n - 1) / n / bandwidth``.
    """

    to_device_gb_per_s: float = Field(gt=0)
    from_device_gb_per_s: float = Field(gt=0)
    bidirectional_gb_per_s: float | None = Field(default=None, gt=0)
    latency_s: float = Field(ge=0)
    all_reduce_latency_s: float | None = Field(default=None, ge=0)
    all_reduce_gb_per_s: float | None = Field(default=None, gt=0)


class MemoryTier(Entry):
    """A memory for offloaded KV blocks: its own bandwidth, apart from the link to the GPU."""

    kind: Literal["dram", "cxl", "nvme"]
    shared_by_nodes: bool
    capacity_gib: float = Field(gt=0)
    read_gb_per_s: float = Field(gt=0)
    write_gb_per_s: float = Field(gt=0)
    bidirectional_gb_per_s: float | None = Field(default=None, gt=0)
    latency_s: float = Field(ge=0)

    @property
    def capacity_bytes(self) -> int:
        return int(self.capacity_gib * GIB)


class ServingSoftware(Entry):
    """A serving engine's program in one version and configuration: what its host side costs.

    Attributes:
        step_s: what every step takes beside its kernels.
        layer_launch_s: launching the kernels of one layer, in steps with prefill; 0 where those run
            as CUDA graphs too.
        request_s: from a client's request to its place in the scheduler's queue (HTTP, template),
            and ``token_s`` on top for each token of its prompt (tokenizer).
    """

    step_s: float = Field(ge=0)
    layer_launch_s: float = Field(ge=0)
    request_s: float = Field(ge=0)
    token_s: float = Field(ge=0)

    def host_time(self, layers: int) -> HostTime:
        """What it adds to the steps of a model with so many layers."""
        return HostTime(self.step_s, layers * self.layer_launch_s)


EntryType = TypeVar("EntryType", bound=Entry)


def _names(folder: str) -> list[str]:
    return sorted(path.stem for path in (DATA / folder).glob("*.toml"))


def _load(kind: str, folder: str, name: str, entry: type[EntryType]) -> EntryType:
    if name.endswith(".toml"):
        path = Path(name)
    elif name in _names(folder):
        path = DATA / folder / f"{name}.toml"
    else:
        raise ValueError(
            f"{unknown(kind, name, _names(folder))}, or a file whose name ends in .toml"
        )
    return validated(entry, read_table(path), str(path))


@lru_cache(maxsize=64)
def accelerator(name: str) -> Accelerator:
    """The accelerator of that name, or of the TOML file at that path.

    Raises:
        ValueError: the name is unknown (the message gives the nearest), or the file is not valid.
    """
    return _load("accelerator", "accelerators", name, Accelerator)


@lru_cache(maxsize=64)
def model(name: str, kv_dtype: str | None = None) -> Model:
    """The model of that name, or of the TOML file at that path. Raises ValueError as above.

    ``kv_dtype`` keeps its KV in another precision than its own.
    """
    return _load("model", "models", name, Model).with_kv_dtype(kv_dtype)


@lru_cache(maxsize=64)
def link(name: str) -> Link:
    """The link of that name, or of the TOML file at that path. Raises ValueError as above."""
    return _load("link", "links", name, Link)


@lru_cache(maxsize=64)
def memory_tier(name: str) -> MemoryTier:
    """The memory tier of that name, or of a TOML file. Raises ValueError as above."""
    return _load("memory tier", "memory", name, MemoryTier)


@lru_cache(maxsize=64)
def serving_software(name: str) -> ServingSoftware:
    """The serving software of that name, or of a TOML file. Raises ValueError as above."""
    return _load("serving software", "software", name, ServingSoftware)


def list_accelerators() -> list[str]:
    """Names of the accelerators in the catalogue."""
    return _names("accelerators")


def list_models() -> list[str]:
    """Names of the models in the catalogue."""
    return _names("models")


def list_links() -> list[str]:
    """Names of the links in the catalogue."""
    return _names("links")


def list_memory_tiers() -> list[str]:
    """Names of the memory tiers in the catalogue."""
    return _names("memory")


def list_serving_software() -> list[str]:
    """Names of the serving software in the catalogue."""
    return _names("software")
