"""One rank of a model on a device: what each layer computes, in the model's precisions.

PyTorch's kernels stand in for the serving engine's: matrix products, attention, grouped products of
experts. Norms and the activation are one kernel or two, as PyTorch has them. KV in fp8 is widened
before attention, which engines do on the way. Numbers are random, since a GPU that multiplies
constants draws less power and runs faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.precision import WEIGHT_FORMATS, WeightDtype

from .products import ExpertProduct, Product, expert_product, product

if TYPE_CHECKING:
    import torch

_SEED = 0
_SPREAD = 0.02

KeysValues = tuple["torch.Tensor", "torch.Tensor"]
"""Keys and values, each (sequences, KV heads of a rank, tokens, width)."""


class Rank:
    """Sizes and operations of one of ``tensor_parallel`` ranks.

    Attributes:
        linear: of every linear layer that is no expert: outputs, inputs, precision.
        heads, kv_heads: of this rank.
    """

    def __init__(self, device: torch.device, llm: Model, tensor_parallel: int) -> None:
        import torch

        self._torch = torch
        self._random = torch.Generator(device).manual_seed(_SEED)
        self.device = device
        self.llm = llm
        self.heads = llm.heads // tensor_parallel
        self.kv_heads = max(llm.kv_heads // tensor_parallel, 1)
        self.query_width = self.heads * llm.head_dim
        self.key_width = self.kv_heads * llm.head_dim
        self.inner = llm.intermediate // tensor_parallel
        self.vocab = llm.vocab // tensor_parallel
        around: WeightDtype = llm.attention_format
        self.linear: dict[str, tuple[int, int, WeightDtype]] = {
            "qkv_proj": (self.query_width + 2 * self.key_width, llm.hidden, around),
            "o_proj": (llm.hidden, self.query_width, around),
        }
        if llm.experts is None:
            self.linear["gate_up_proj"] = (2 * self.inner, llm.hidden, llm.weight_dtype)
            self.linear["down_proj"] = (llm.hidden, self.inner, llm.weight_dtype)

    def tensor(self, *shape: int) -> torch.Tensor:
        """Random numbers in bf16."""
        empty = self._torch.empty(shape, dtype=self._torch.bfloat16, device=self.device)
        return empty.normal_(0.0, _SPREAD, generator=self._random)

    def linear_layer(self, name: str) -> Product:
        """One of the linear layers, with weights of its own."""
        out, into, dtype = self.linear[name]
        return product(dtype, self.tensor(out, into))

    def linear_bytes(self, name: str) -> float:
        """What a linear layer's weights take."""
        out, into, dtype = self.linear[name]
        return out * into * WEIGHT_FORMATS[dtype].bytes

    def keys_values(self, count: int, tokens: int) -> KeysValues:
        """KV of one layer, in the precision it is kept in."""
        shape = (count, self.kv_heads, tokens, self.llm.head_dim)
        both = self.tensor(*shape), self.tensor(*shape)
        if self.llm.kv_dtype != "fp8":
            return both
        narrow = self._torch.float8_e4m3fn
        return both[0].to(narrow), both[1].to(narrow)

    def query(self, count: int, tokens: int) -> torch.Tensor:
        """Queries of one layer, (count, heads, tokens, width)."""
        return self.tensor(count, self.heads, tokens, self.llm.head_dim)

    def widened(self, kept: torch.Tensor) -> torch.Tensor:
        """Keys or values as attention takes them."""
        return kept.to(self._torch.bfloat16)  # nothing to do where KV is bf16

    def norm(self) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """What a layer adds, added to the residual (both tokens, hidden): the new residual, and
        its norm."""
        functional, scale = self._torch.nn.functional, self.tensor(self.llm.hidden)

        def run(added: torch.Tensor, rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rest = added + rest
            return rest, functional.rms_norm(rest, (self.llm.hidden,), scale)

        return run

    def rotated(self, heads: torch.Tensor) -> torch.Tensor:
        """Queries and keys after as much work as a rotary embedding of them."""
        return heads * heads

    def activated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """(tokens, 2 x width) to (tokens, width): SiLU of one half times the other."""
        gate, up = gate_up.chunk(2, dim=-1)
        return self._torch.nn.functional.silu(gate) * up

    def embedding(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Token numbers (tokens) to (tokens, hidden)."""
        functional, table = self._torch.nn.functional, self.tensor(self.vocab, self.llm.hidden)
        return lambda numbers: functional.embedding(numbers, table)

    def token_numbers(self, count: int) -> torch.Tensor:
        """Token numbers all over the vocabulary, (count)."""
        return self._torch.randint(self.vocab, (count,), device=self.device, generator=self._random)

    def head(self) -> Product:
        """Output projection of the last tokens; heads are bf16 in every checkpoint."""
        return product("bf16", self.tensor(self.vocab, self.llm.hidden))

    def sampled(self, logits: torch.Tensor) -> torch.Tensor:
        """Greedy choice of a token from logits (sequences, vocabulary)."""
        return logits.argmax(-1)

    def experts(self, count: int) -> Experts:
        """A layer's experts, the first ``count`` of them."""
        return Experts(self, count)

    def expert_bytes(self) -> float:
        """What one expert's weights take."""
        return (
            3
            * self.llm.intermediate
            * self.llm.hidden
            * WEIGHT_FORMATS[self.llm.expert_format].bytes
        )


class Experts:
    """Some experts of a layer: routing, both products, and the weighted sum.

    Tokens are dealt to the experts in turn, so that each of ``count`` gets its equal share.
    """

    def __init__(self, rank: Rank, count: int) -> None:
        import torch

        self._torch = torch
        self._rank = rank
        self._count = count
        llm = rank.llm
        self._chosen = llm.experts_per_token or 1
        self._router = product("bf16", rank.tensor(llm.experts or 1, llm.hidden))
        self._up = self._product(2 * llm.intermediate, llm.hidden)
        self._down = self._product(llm.hidden, llm.intermediate)
        self._plans: dict[int, tuple[list[int], torch.Tensor, torch.Tensor]] = {}

    def _product(self, out: int, into: int) -> ExpertProduct:
        weights = self._rank.tensor(self._count, out, into)
        return expert_product(self._rank.llm.expert_format, weights)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """(tokens, hidden) to (tokens, hidden)."""
        ends, order, back = self._plan(batch.shape[0])
        shares, _ = self._router(batch).softmax(-1).topk(self._chosen)
        up = self._rank.activated(self._up(batch[order], ends))
        rows = self._down(up, ends)[back].view(batch.shape[0], self._chosen, -1)
        return (rows * shares.unsqueeze(-1)).sum(1)

    def _plan(self, tokens: int) -> tuple[Sequence[int], torch.Tensor, torch.Tensor]:
        """Where each expert's tokens end, the token of each row, and the row of each choice."""
        if tokens not in self._plans:
            torch, total = self._torch, tokens * self._chosen
            expert = torch.arange(total) % self._count
            order = expert.argsort(stable=True)
            back = order.argsort()
            ends = torch.bincount(expert, minlength=self._count).cumsum(0).tolist()
            place = self._rank.device
            self._plans[tokens] = ends, (order // self._chosen).to(place), back.to(place)
        return self._plans[tokens]
