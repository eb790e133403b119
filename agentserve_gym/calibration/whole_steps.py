"""Whole steps of a model on a device: a check on tables of its parts.

Layers run one after the other with weights and KV of their own, from token numbers to the next
tokens, as one CUDA graph. Where the model and its KV do not fit, there are fewer layers, and the
rows say how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from .attention import Attention, fastest_attention
from .copies import HostCopies
from .rank import KeysValues, Rank
from .stopwatch import Stopwatch, Work

if TYPE_CHECKING:
    import torch

STEP_COLUMNS = ("layers", "prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
BESIDE_COLUMNS = ("n_decode", "kv_decode", "alone_us", "beside_copies_us")
"""Of decode steps while copies to and from the host run, too."""

_SHARE_OF_MEMORY = 0.75


class StepPoint(NamedTuple):
    """A step: a chunk after a history, and decodes of equal contexts; tokens."""

    chunk: int
    history: int
    decodes: int
    context: int

    @property
    def kv_tokens(self) -> int:
        """Whose KV it reads."""
        return self.chunk + self.history + self.decodes * self.context


@dataclass(frozen=True, slots=True)
class _Timed:
    """A step's times, microseconds; ``beside_us``: beside copies, of decodes alone."""

    point: StepPoint
    alone_us: float
    beside_us: float | None


class WholeSteps:
    """Whole steps of one rank, timed when first asked for."""

    def __init__(
        self, rank: Rank, watch: Stopwatch, copies: HostCopies, points: Sequence[StepPoint]
    ) -> None:
        import torch

        self._torch = torch
        self._rank = rank
        self._watch = watch
        self._copies = copies
        self._points = points

    def step_rows(self) -> list[str]:
        """Rows of steps.csv."""
        return [
            f"{self._layers},{','.join(map(str, step.point))},{step.alone_us:.3f}"
            for step in self._timed
        ]

    def beside_rows(self) -> list[str]:
        """Rows of beside_copies.csv."""
        return [
            f"{step.point.decodes},{step.point.context},{step.alone_us:.3f},{step.beside_us:.3f}"
            for step in self._timed
            if step.beside_us is not None
        ]

    @cached_property
    def _timed(self) -> list[_Timed]:
        stack = [_Layer(self._rank) for _ in range(self._layers)]
        ends = _Ends(self._rank)
        found = []
        for point in self._points:
            work = self._step(point, stack, ends)
            alone_us = self._watch.device_us([work])
            beside_us = None
            if not point.chunk:
                beside_us = self._watch.device_us([work], beside=self._copies.start)
            found.append(_Timed(point, alone_us, beside_us))
        return found

    def _step(self, point: StepPoint, stack: Sequence[_Layer], ends: _Ends) -> Work:
        with self._torch.inference_mode():
            kept = [_LayerKv.of(self._rank, point) for _ in stack]
            step = _Step(self._rank, self._watch, point, kept[0])
            numbers = self._rank.token_numbers(point.chunk + point.decodes)

        def run() -> object:
            added = rest = ends.embed(numbers)
            for layer, kv in zip(stack, kept, strict=True):
                added, rest = layer.forward(added, rest, step, kv)
            return ends.sample(added, rest, step.last_rows)

        return run

    @cached_property
    def _layers(self) -> int:
        """As many as fit, with KV of the largest step."""
        llm, rank = self._rank.llm, self._rank
        if rank.device.type != "cuda":
            return llm.layers
        free, _ = self._torch.cuda.mem_get_info(rank.device)
        kv_tokens = max(point.kv_tokens for point in self._points)
        layer_bytes = sum(rank.linear_bytes(name) for name in rank.linear)
        layer_bytes += (llm.experts or 0) * rank.expert_bytes()
        layer_bytes += kv_tokens * 2 * rank.key_width * (1 if llm.kv_dtype == "fp8" else 2)
        ends_bytes = 2 * 2 * rank.vocab * llm.hidden
        fitting = (_SHARE_OF_MEMORY * free - ends_bytes) // layer_bytes
        return max(min(int(fitting), llm.layers), 1)


@dataclass(frozen=True, slots=True)
class _LayerKv:
    """KV of one layer: of the chunk with its history, and of the decodes."""

    of_chunk: KeysValues | None
    of_decodes: KeysValues | None

    @classmethod
    def of(cls, rank: Rank, point: StepPoint) -> _LayerKv:
        chunk = rank.keys_values(1, point.history + point.chunk) if point.chunk else None
        decodes = rank.keys_values(point.decodes, point.context) if point.decodes else None
        return cls(chunk, decodes)


class _Step:
    """Shape of a step, and the kernels that are fastest for it."""

    def __init__(self, rank: Rank, watch: Stopwatch, point: StepPoint, kv: _LayerKv) -> None:
        self.point = point
        self.chunk_kernel = self.decode_kernel = None
        if kv.of_chunk is not None:
            self.chunk_kernel = _chosen(rank, watch, 1, point.chunk, kv.of_chunk)
        if kv.of_decodes is not None:
            self.decode_kernel = _chosen(rank, watch, point.decodes, 1, kv.of_decodes)
        first = point.chunk - 1 if point.chunk else 0
        self.last_rows = slice(first, point.chunk + point.decodes)


def _chosen(rank: Rank, watch: Stopwatch, count: int, queries: int, kv: KeysValues) -> Attention:
    query = rank.query(count, queries)
    keys, values = map(rank.widened, kv)

    def time_us(kernel: Attention) -> float:
        return watch.device_us([lambda: kernel(query, keys, values)])

    return fastest_attention(queries, keys.shape[2], rank.device, time_us)[1]


class _Layer:
    """One layer with weights of its own."""

    def __init__(self, rank: Rank) -> None:
        import torch

        self._torch = torch
        self._rank = rank
        self._linear = {name: rank.linear_layer(name) for name in rank.linear}
        self._norms = rank.norm(), rank.norm()
        self._experts = None if rank.llm.experts is None else rank.experts(rank.llm.experts)

    def forward(
        self, added: torch.Tensor, rest: torch.Tensor, step: _Step, kv: _LayerKv
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last layer adds and the residual to what this one adds and the residual; all
        (tokens, hidden), the chunk's tokens first."""
        rank = self._rank
        rest, normed = self._norms[0](added, rest)
        projected = self._linear["qkv_proj"](normed)
        heads = rank.rotated(projected[:, : rank.query_width + rank.key_width])
        attended = self._attended(heads[:, : rank.query_width], step, kv)
        rest, normed = self._norms[1](self._linear["o_proj"](attended), rest)
        if self._experts is not None:
            return self._experts(normed), rest
        inner = rank.activated(self._linear["gate_up_proj"](normed))
        return self._linear["down_proj"](inner), rest

    def _attended(self, query: torch.Tensor, step: _Step, kv: _LayerKv) -> torch.Tensor:
        rank, chunk, parts = self._rank, step.point.chunk, []
        width = rank.llm.head_dim
        if step.chunk_kernel is not None and kv.of_chunk is not None:
            turned = query[:chunk].view(1, chunk, rank.heads, width).transpose(1, 2)
            found = step.chunk_kernel(turned, *map(rank.widened, kv.of_chunk))
            parts.append(found.transpose(1, 2).reshape(chunk, -1))
        if step.decode_kernel is not None and kv.of_decodes is not None:
            turned = query[chunk:].view(-1, rank.heads, 1, width)
            found = step.decode_kernel(turned, *map(rank.widened, kv.of_decodes))
            parts.append(found.reshape(query.shape[0] - chunk, -1))
        return parts[0] if len(parts) == 1 else self._torch.cat(parts)


class _Ends:
    """What a step does once: embedding, last norm, head and sampler."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self.embed = rank.embedding()
        self._norm = rank.norm()
        self._head = rank.head()

    def sample(self, added: torch.Tensor, rest: torch.Tensor, rows: slice) -> torch.Tensor:
        """The next tokens of some rows."""
        _, normed = self._norm(added, rest)
        return self._rank.sampled(self._head(normed[rows]))
