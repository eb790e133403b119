"""Models of the catalogue: the facts that decide what a step costs and what weights and KV weigh.

Units: ``_bytes`` are bytes, everything else counts tokens, layers, heads, weights or elements.
"""

from __future__ import annotations

from typing import get_args

from pydantic import Field, model_validator

from agentserve_gym.messages import unknown

from .entry import Entry
from .precision import KV_BYTES, WEIGHT_FORMATS, KvDtype, WeightDtype


class Model(Entry):
    """A transformer decoder.

    ``weight_dtype`` is that of the linear layers; ``attention_dtype`` and ``expert_dtype`` are
    named where they differ from it. Embeddings, head and norms are bf16. The chat template adds
    ``template_start_tokens`` to the first prompt of a conversation and ``template_turn_tokens`` to
    each further one; 0 where it is not known.
    """

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    intermediate: int = Field(gt=0, description="of one expert, for a mixture of experts")
    vocab: int = Field(gt=0)
    parameters: int = Field(gt=0)
    max_context_tokens: int = Field(gt=0)
    weight_dtype: WeightDtype
    attention_dtype: WeightDtype | None = None
    expert_dtype: WeightDtype | None = None
    kv_dtype: KvDtype
    experts: int | None = Field(default=None, gt=1)
    experts_per_token: int | None = Field(default=None, gt=0)
    template_start_tokens: int = Field(default=0, ge=0)
    template_turn_tokens: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _expert_facts_agree(self) -> Model:
        if (self.experts is None) != (self.experts_per_token is None):
            raise ValueError(f"{self.name}: experts and experts_per_token go together")
        if self.experts and self.experts_per_token and self.experts_per_token > self.experts:
            raise ValueError(
                f"{self.name}: experts_per_token = {self.experts_per_token} exceeds {self.experts}"
            )
        if self.experts is None and self.expert_dtype is not None:
            raise ValueError(f"{self.name}: expert_dtype = {self.expert_dtype}, but no experts")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.name}: kv_heads = {self.kv_heads} must divide {self.heads}")
        return self

    def with_kv_dtype(self, kv_dtype: str | None) -> Model:
        """The same model with its KV kept in another precision; ``None`` keeps its own.

        Raises:
            ValueError: no such precision.
        """
        if kv_dtype is None or kv_dtype == self.kv_dtype:
            return self
        if kv_dtype not in get_args(KvDtype):
            raise ValueError(unknown("kv_dtype", kv_dtype, get_args(KvDtype)))
        return self.model_copy(update={"kv_dtype": kv_dtype})

    # --- KV ----------------------------------------------------------------------------------

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, bytes."""
        return 2 * self.kv_heads * self.head_dim * self.layers * KV_BYTES[self.kv_dtype]

    def kv_bytes_per_token_per_rank(self, tensor_parallel: int = 1) -> int:
        """As above on one rank; KV heads are copied where there are more ranks than heads."""
        self.check_tensor_parallel(tensor_parallel)
        heads = max(1, self.kv_heads // tensor_parallel)
        return 2 * heads * self.head_dim * self.layers * KV_BYTES[self.kv_dtype]

    # --- weights -----------------------------------------------------------------------------

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
    def attention_format(self) -> WeightDtype:
        """How the projections around attention are kept."""
        return self.attention_dtype or self.weight_dtype

    @property
    def expert_format(self) -> WeightDtype:
        """How the experts are kept."""
        return self.expert_dtype or self.weight_dtype

    @property
    def _attention_bytes(self) -> float:
        weights = self.layers * self.attention_parameters_per_layer
        return weights * WEIGHT_FORMATS[self.attention_format].bytes

    @property
    def _expert_bytes(self) -> float:
        return self.expert_parameters * WEIGHT_FORMATS[self.expert_format].bytes

    @property
    def _other_bytes(self) -> float:
        """What is neither attention nor an expert: the MLP, and what stays bf16."""
        attention = self.layers * self.attention_parameters_per_layer
        mlp = self.layers * self.mlp_parameters_per_layer if self.experts is None else 0
        wide = self.parameters - attention - mlp - self.expert_parameters
        return mlp * WEIGHT_FORMATS[self.weight_dtype].bytes + wide * WEIGHT_FORMATS["bf16"].bytes

    @property
    def weight_bytes(self) -> int:
        """All weights with their scales."""
        return round(self._attention_bytes + self._other_bytes + self._expert_bytes)

    def weight_bytes_per_rank(self, tensor_parallel: int = 1, expert_parallel: int = 1) -> int:
        """Weights on one rank. With expert parallelism, whole experts are spread over its ranks."""
        self.check_tensor_parallel(tensor_parallel)
        self.check_expert_parallel(expert_parallel)
        expert_shards = expert_parallel if expert_parallel > 1 else tensor_parallel
        sliced = (self._attention_bytes + self._other_bytes) / tensor_parallel
        return round(sliced + self._expert_bytes / expert_shards)

    # --- how it can be spread ----------------------------------------------------------------

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
