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

    Attention is grouped-query, or multi-head latent (MLA) where ``kv_lora_rank`` is given: then a
    layer keeps one latent per token, ``kv_lora_rank + rope_head_dim`` elements, for all heads. Some
    layers may attend to the last ``window_tokens`` only, and some keep a state of constant size in
    place of KV (linear attention); the others grow with the context.

    Attributes:
        head_dim: of queries, keys and values; in MLA of queries and keys without their rotary part,
            ``rope_head_dim``, while values have ``v_head_dim``.
        q_lora_rank: MLA compresses the queries to so many elements.
        window_layers, window_tokens: layers with sliding-window attention, and their window.
        linear_layers, linear_state_bytes, linear_parameters: layers with linear attention; of each
            the state of one sequence, and the weights around it.
        attention_parameters: weights around the attention of one layer, where they are not those of
            q, k, v and output projections alone.
        intermediate: of the MLP; of one expert, for a mixture of experts.
        experts, experts_per_token, shared_experts: of a layer; every token runs the shared ones.
        dense_layers, dense_intermediate: the first layers have an MLP of that size, no experts.
        parameters: all weights that an engine loads.
        weight_dtype: precision of the linear layers; ``attention_dtype``, ``expert_dtype`` (of the
            routed experts) are named where they differ. Embeddings, head and norms are bf16.
        template_start_tokens, template_turn_tokens: what the chat template adds to the first prompt
            of a conversation, and to each further one, where it is known.
    """

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    kv_lora_rank: int | None = Field(default=None, gt=0)
    q_lora_rank: int | None = Field(default=None, gt=0)
    rope_head_dim: int | None = Field(default=None, gt=0)
    v_head_dim: int | None = Field(default=None, gt=0)
    attention_parameters: int | None = Field(default=None, gt=0)
    window_layers: int | None = Field(default=None, gt=0)
    window_tokens: int | None = Field(default=None, gt=0)
    linear_layers: int | None = Field(default=None, gt=0)
    linear_state_bytes: int | None = Field(default=None, gt=0)
    linear_parameters: int | None = Field(default=None, gt=0)
    intermediate: int = Field(gt=0)
    vocab: int = Field(gt=0)
    parameters: int = Field(gt=0)
    max_context_tokens: int = Field(gt=0)
    weight_dtype: WeightDtype
    attention_dtype: WeightDtype | None = None
    expert_dtype: WeightDtype | None = None
    kv_dtype: KvDtype
    experts: int | None = Field(default=None, gt=1)
    experts_per_token: int | None = Field(default=None, gt=0)
    shared_experts: int | None = Field(default=None, gt=0)
    dense_layers: int | None = Field(default=None, gt=0)
    dense_intermediate: int | None = Field(default=None, gt=0)
    template_start_tokens: int | None = Field(default=None, ge=0)
    template_turn_tokens: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _expert_facts_agree(self) -> Model:
        _together(self, "experts", "experts_per_token")
        _together(self, "dense_layers", "dense_intermediate")
        if self.experts and self.experts_per_token and self.experts_per_token > self.experts:
            raise ValueError(
                f"{self.name}: experts_per_token = {self.experts_per_token} exceeds {self.experts}"
            )
        for key in ("expert_dtype", "shared_experts", "dense_layers"):
            if self.experts is None and getattr(self, key) is not None:
                raise ValueError(f"{self.name}: {key} = {getattr(self, key)}, but no experts")
        if self.dense_layers and self.dense_layers >= self.layers:
            raise ValueError(f"{self.name}: dense_layers = {self.dense_layers} of {self.layers}")
        return self

    @model_validator(mode="after")
    def _attention_facts_agree(self) -> Model:
        _together(self, "kv_lora_rank", "q_lora_rank", "rope_head_dim", "v_head_dim")
        _together(self, "window_layers", "window_tokens")
        _together(self, "linear_layers", "linear_state_bytes", "linear_parameters")
        if self.growing_layers < 1:
            raise ValueError(
                f"{self.name}: window_layers and linear_layers leave {self.growing_layers} of "
                f"{self.layers} layers; one at least must attend to the whole context"
            )
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
    def growing_layers(self) -> int:
        """Layers whose KV grows with the context without end."""
        return self.layers - (self.window_layers or 0) - (self.linear_layers or 0)

    @property
    def is_hybrid(self) -> bool:
        """Whether some layers have windows or states."""
        return self.growing_layers < self.layers

    @property
    def kv_bytes_per_token(self) -> int:
        """By how much one more token lets the KV of a long context grow, over all layers, bytes."""
        return self.growing_layers * self.layer_kv_bytes()

    def kv_bytes_per_token_per_rank(self, tensor_parallel: int = 1) -> int:
        """As above on one rank. KV heads are copied where there are more ranks than heads, and a
        latent is copied to every rank."""
        return self.growing_layers * self.layer_kv_bytes(tensor_parallel)

    def layer_kv_bytes(self, tensor_parallel: int = 1) -> int:
        """KV of one token in one layer on one rank, bytes."""
        self.check_tensor_parallel(tensor_parallel)
        elements = 2 * max(1, self.kv_heads // tensor_parallel) * self.head_dim
        if self.kv_lora_rank is not None:
            elements = self.kv_lora_rank + (self.rope_head_dim or 0)
        return elements * KV_BYTES[self.kv_dtype]

    def kv_bytes(self, context_tokens: int) -> int:
        """KV of a whole context: layers that grow, windows as far as it fills them, and states."""
        missing = max((self.window_tokens or 0) - context_tokens, 0)
        unfilled = (self.window_layers or 0) * missing * self.layer_kv_bytes()
        return self.kv_bytes_per_token * context_tokens + self.constant_kv_bytes - unfilled

    @property
    def constant_kv_bytes(self) -> int:
        """What a long context has besides the layers that grow: full windows, and states."""
        windows = (self.window_layers or 0) * (self.window_tokens or 0) * self.layer_kv_bytes()
        return windows + (self.linear_layers or 0) * (self.linear_state_bytes or 0)

    def kv_ranks(self, tensor_parallel: int) -> int:
        """Over how many ranks KV is spread without copies: they share what a transfer moves."""
        return self.kv_bytes_per_token // self.kv_bytes_per_token_per_rank(tensor_parallel)

    # --- attention ---------------------------------------------------------------------------

    @property
    def is_latent(self) -> bool:
        """Whether attention is multi-head latent."""
        return self.kv_lora_rank is not None

    @property
    def attention_width(self) -> float:
        """Elements over all heads that a query-key pair multiplies, the mean of the query's and the
        value's: 4 floating-point operations each."""
        if self.v_head_dim is None:
            return self.heads * self.head_dim
        return self.heads * (self.head_dim + (self.rope_head_dim or 0) + self.v_head_dim) / 2

    @property
    def decode_width(self) -> float:
        """Likewise for a decode. In MLA the up-projections are absorbed into queries and outputs,
        so that it attends to latents (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""
        if self.kv_lora_rank is None:
            return self.attention_width
        return self.heads * (2 * self.kv_lora_rank + (self.rope_head_dim or 0)) / 2

    # --- weights -----------------------------------------------------------------------------

    @property
    def attention_parameters_per_layer(self) -> int:
        """Weights around the attention of one layer that is not linear."""
        if self.attention_parameters is not None:
            return self.attention_parameters
        if self.kv_lora_rank is None:
            return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        query, rope, value = self.head_dim, self.rope_head_dim or 0, self.v_head_dim or 0
        up = (self.q_lora_rank or 0) * (query + rope) + self.kv_lora_rank * (query + value)
        return self.copied_parameters_per_layer + self.heads * (up + value * self.hidden)

    @property
    def all_attention_parameters(self) -> int:
        """Weights around attention over all layers, linear ones included."""
        linear = self.linear_layers or 0
        quadratic = (self.layers - linear) * self.attention_parameters_per_layer
        return quadratic + linear * (self.linear_parameters or 0)

    @property
    def copied_parameters_per_layer(self) -> int:
        """Those of them that every rank has: the down-projections to latents."""
        latents = (self.q_lora_rank or 0) + (self.kv_lora_rank or 0) + (self.rope_head_dim or 0)
        return self.hidden * latents

    @property
    def mlp_parameters_per_layer(self) -> int:
        """Weights of the gated MLP of one layer (of one expert, for a mixture of experts)."""
        return 3 * self.hidden * self.intermediate

    @property
    def expert_layers(self) -> int:
        """Layers that have experts."""
        return 0 if self.experts is None else self.layers - (self.dense_layers or 0)

    @property
    def expert_parameters(self) -> int:
        """Weights that expert parallelism spreads, over all layers; 0 for a dense model."""
        return self.expert_layers * (self.experts or 0) * self.mlp_parameters_per_layer

    @property
    def dense_parameters(self) -> int:
        """Weights of MLPs that every token runs, over all layers: of a dense model, of dense layers
        and of shared experts."""
        if self.experts is None:
            return self.layers * self.mlp_parameters_per_layer
        first = (self.dense_layers or 0) * 3 * self.hidden * (self.dense_intermediate or 0)
        shared = self.expert_layers * (self.shared_experts or 0) * self.mlp_parameters_per_layer
        return first + shared

    @property
    def attention_format(self) -> WeightDtype:
        """How the projections around attention are kept."""
        return self.attention_dtype or self.weight_dtype

    @property
    def expert_format(self) -> WeightDtype:
        """How the routed experts are kept."""
        return self.expert_dtype or self.weight_dtype

    @property
    def is_bf16(self) -> bool:
        """Whether all weights and KV are bf16."""
        formats = {self.weight_dtype, self.attention_format, self.expert_format, self.kv_dtype}
        return formats == {"bf16"}

    def require_plain_layers(self, what: str) -> None:
        """Profile tables know layers that are all alike: grouped-query attention over the whole
        context, and an MLP or experts.

        Args:
            what: is asked for, in words.

        Raises:
            ValueError: the model has others.
        """
        others = {
            "latent attention": self.is_latent,
            "windows or linear attention": self.is_hybrid,
            "shared experts": self.shared_experts is not None,
            "dense layers beside experts": self.dense_layers is not None,
        }
        found = [name for name, has in others.items() if has]
        if found:
            raise ValueError(f"{self.name} has {' and '.join(found)}; {what} cannot have them")

    @property
    def _expert_bytes(self) -> float:
        return self.expert_parameters * WEIGHT_FORMATS[self.expert_format].bytes

    @property
    def _copied_bytes(self) -> float:
        copied = self.layers * self.copied_parameters_per_layer
        return copied * WEIGHT_FORMATS[self.attention_format].bytes

    @property
    def _sliced_bytes(self) -> float:
        """What tensor parallelism cuts, the experts apart; embeddings and the rest are bf16."""
        attention = self.all_attention_parameters
        wide = self.parameters - attention - self.dense_parameters - self.expert_parameters
        weights: tuple[tuple[int, WeightDtype], ...] = (
            (attention, self.attention_format),
            (self.dense_parameters, self.weight_dtype),
            (wide, "bf16"),
        )
        return sum(n * WEIGHT_FORMATS[form].bytes for n, form in weights) - self._copied_bytes

    @property
    def weight_bytes(self) -> int:
        """All weights with their scales."""
        return self.weight_bytes_per_rank()

    def weight_bytes_per_rank(self, tensor_parallel: int = 1, expert_parallel: int = 1) -> int:
        """Weights on one rank. With expert parallelism, whole experts are spread over its ranks."""
        self.check_tensor_parallel(tensor_parallel)
        self.check_expert_parallel(expert_parallel)
        expert_shards = expert_parallel if expert_parallel > 1 else tensor_parallel
        sliced = self._sliced_bytes / tensor_parallel + self._expert_bytes / expert_shards
        return round(sliced + self._copied_bytes)

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


def _together(entry: Model, *keys: str) -> None:
    """Refuse an entry that has some of these and lacks others."""
    given = [key for key in keys if getattr(entry, key) is not None]
    if given and len(given) < len(keys):
        raise ValueError(f"{entry.name}: {', '.join(keys)} go together; given: {', '.join(given)}")
