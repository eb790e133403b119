"""The hardware catalogue: accelerators, models, links and memory tiers, as readable data files.

Each entry is one TOML file under ``data/``. Its numbers are plain keys; a ``[sources]`` table says
for each of them where it comes from, and an entry whose number has no source does not load. A user
may pass the path of a file of their own wherever a name is expected.

Units: ``_gb_per_s`` is 1e9 bytes per second, ``_gib`` is 2**30 bytes, ``_s`` seconds.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentserve_gym.messages import unknown, validated
from agentserve_gym.tables import read_table

DATA = Path(__file__).parent / "data"
GIB = 1 << 30


class Entry(BaseModel):
    """What every catalogue entry has: a name, a title, and a source for each number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    title: str
    sources: dict[str, str]

    @model_validator(mode="after")
    def _every_number_has_a_source(self) -> Entry:
        for key in type(self).model_fields:
            value = getattr(self, key)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and not self.sources.get(key, "").strip():
                raise ValueError(f"{self.name}: no source for {key} = {value}")
        return self


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
    """One GPU. ``memory_gib`` is what the driver reports to a process, not the label on the box."""

    memory_gib: float = Field(gt=0)
    memory_bandwidth_gb_per_s: float = Field(gt=0)
    bf16_tflops: float = Field(gt=0)
    host_link: str
    peer_link: str
    roofline: RooflineEfficiency

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * GIB)


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


class Model(Entry):
    """A transformer decoder, by the facts that decide what a step costs and what KV weighs."""

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate: int = Field(gt=0, description="of one expert, for a mixture of experts")
    vocab: int = Field(gt=0)
    parameters: int = Field(gt=0)
    max_context_tokens: int = Field(gt=0)
    dtype_bytes: int = Field(gt=0)
    experts: int | None = Field(default=None, gt=1)
    experts_per_token: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _expert_facts_agree(self) -> Model:
        if (self.experts is None) != (self.experts_per_token is None):
            raise ValueError(f"{self.name}: experts and experts_per_token go together")
        if self.experts and self.experts_per_token and self.experts_per_token > self.experts:
            raise ValueError(
                f"{self.name}: experts_per_token = {self.experts_per_token} exceeds {self.experts}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.name}: kv_heads = {self.kv_heads} must divide {self.heads}")
        return self

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, bytes."""
        return 2 * self.kv_heads * self.head_dim * self.layers * self.dtype_bytes

    def kv_bytes_per_token_per_rank(self, tensor_parallel: int = 1) -> int:
        """As above on one rank; KV heads are copied where there are more ranks than heads."""
        self.check_tensor_parallel(tensor_parallel)
        heads = max(1, self.kv_heads // tensor_parallel)
        return 2 * heads * self.head_dim * self.layers * self.dtype_bytes

    @property
    def attention_parameters_per_layer(self) -> int:
        """Weights of the q, k, v and output projections of one layer."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp_parameters_per_layer(self) -> int:
        """Weights of the gated MLP of one layer (of one expert, for a mixture of experts)."""
        return 3 * self.hidden * self.intermediate

    @property
    def expert_parameters(self) -> int:
        """Weights that expert parallelism spreads, over all layers; 0 for a dense model."""
        return self.layers * (self.experts or 0) * self.mlp_parameters_per_layer

    @property
    def weight_bytes(self) -> int:
        return self.parameters * self.dtype_bytes

    def weight_bytes_per_rank(self, tensor_parallel: int = 1, expert_parallel: int = 1) -> int:
        """Weights on one rank. With expert parallelism, whole experts are spread over its ranks."""
        self.check_tensor_parallel(tensor_parallel)
        self.check_expert_parallel(expert_parallel)
        expert_shards = expert_parallel if expert_parallel > 1 else tensor_parallel
        experts = self.expert_parameters
        per_rank = (self.parameters - experts) / tensor_parallel + experts / expert_shards
        return round(per_rank * self.dtype_bytes)

    def check_tensor_parallel(self, tensor_parallel: int) -> None:
        """Raise ValueError unless the heads can be spread over so many ranks."""
        if tensor_parallel < 1 or self.heads % tensor_parallel:
            allowed = [n for n in (1, 2, 4, 8, 16) if self.heads % n == 0]
            raise ValueError(
                f"tensor_parallel = {tensor_parallel} does not divide the {self.heads} heads of "
                f"{self.name}; use one of {allowed}"
            )

    def check_expert_parallel(self, expert_parallel: int) -> None:
        """Raise ValueError unless the experts can be spread over so many ranks."""
        if expert_parallel == 1:
            return
        if self.experts is None:
            raise ValueError(
                f"expert_parallel = {expert_parallel}, but {self.name} has no experts; use 1"
            )
        if expert_parallel < 1 or self.experts % expert_parallel:
            raise ValueError(
                f"expert_parallel = {expert_parallel} does not divide the {self.experts} experts "
                f"of {self.name}"
            )


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
def model(name: str) -> Model:
    """The model of that name, or of the TOML file at that path. Raises ValueError as above."""
    return _load("model", "models", name, Model)


@lru_cache(maxsize=64)
def link(name: str) -> Link:
    """The link of that name, or of the TOML file at that path. Raises ValueError as above."""
    return _load("link", "links", name, Link)


@lru_cache(maxsize=64)
def memory_tier(name: str) -> MemoryTier:
    """The memory tier of that name, or of a TOML file. Raises ValueError as above."""
    return _load("memory tier", "memory", name, MemoryTier)


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
