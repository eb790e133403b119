"""Kernel tables for engines with FlashInfer's own attention and contexts of unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from agentserve_gym.hardware.catalogue import Accelerator, accelerator, model
from agentserve_gym.hardware.coefficient_file import CompactFile
from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.profile_tables import Array

from .decode_plan import DecodePlan
from .fit import CompactFit
from .kernel_engines import compile_engine
from .kernels import COUNTS, KernelCase, KernelSampler, fit_sampler

_MEASURED_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
_MEASURED_CONTEXTS = (512, 1024, 2048, 4096, 8192, 16384)
_MEASURED_TOKENS = 262_144
"""Largest batch of the tables: what lies beyond is extrapolated, here by the planner."""
_LONG_TOKENS = 2048
"""Makespan from which on the tables are a straight line."""


@dataclass(frozen=True, kw_only=True)
class UnequalDecodes(KernelSampler):
    """A sampler whose decodes have unequal contexts, as batches of agents do.

    Decode attention is the planner's makespan at the rate of the tables, whose contexts are equal:
    a straight line for each number of sequences. What the longest context adds is told apart, see
    ``skew``.

    Attributes:
        engine: what all but attention is read from.
        attention: sampler of FlashInfer's attention.
    """

    attention: KernelSampler
    plan: DecodePlan

    def decode_attention_s(self, count: int, context: int) -> float:
        base, _ = _unequal(self.plan, count)
        start, rate = self._line(count)
        return start + rate * base * context

    def batch_attention_s(self, contexts: Array) -> float:
        """Decode attention of one batch, from all its contexts (tokens)."""
        start, rate = self._line(len(contexts))
        return start + rate * self.plan.makespan_tokens(contexts)

    def decode_grid_s(self, counts: Sequence[int], contexts: Sequence[int]) -> Array:
        """As it is: where the planner stops cutting contexts, more of them take less."""
        return np.array([[self.decode_attention_s(n, c) for c in contexts] for n in counts])

    def prefill_attention_s(self, chunk: int, history: int) -> float:
        return self.attention.prefill_attention_s(chunk, history)

    def skew(self, count: int) -> float:
        """Share of the way from mean to longest context that ``count`` unequal decodes cost."""
        base, slope = _unequal(self.plan, count)
        return max(slope / base, 0.0)

    @cached_property
    def _measured(self) -> Array:
        """Rows of (count, makespan in tokens, seconds) of equal contexts, as far as they are on
        the straight line."""
        rows = [
            (
                count,
                self.plan.makespan_tokens(np.full(count, context)),
                self.attention.decode_attention_s(count, context),
            )
            for count in _MEASURED_COUNTS
            for context in _MEASURED_CONTEXTS
            if count * context <= _MEASURED_TOKENS
        ]
        return np.array([row for row in rows if row[1] >= _LONG_TOKENS])

    @cached_property
    def _lines(self) -> tuple[list[int], Array]:
        """Measured counts, and for each the seconds per token of makespan and apart from it."""
        counts, lines = [], []
        for count in _MEASURED_COUNTS:
            rows = self._measured[self._measured[:, 0] == count]
            if len(rows) > 1:
                counts.append(count)
                lines.append(np.polyfit(rows[:, 1], rows[:, 2], 1))
        return counts, np.array(lines)

    def _line(self, count: int) -> tuple[float, float]:
        """Seconds apart from the makespan and per token of it, between those of measured counts."""
        counts, lines = self._lines
        rate, start = (float(np.interp(np.log2(count), np.log2(counts), c)) for c in lines.T)
        return start, rate


_unequal = lru_cache(maxsize=1024)(DecodePlan.unequal)


def decode_plan(gpu: Accelerator, llm: Model, tensor_parallel: int) -> DecodePlan:
    """FlashInfer's planner for a model on a GPU.

    Raises:
        ValueError: the catalogue does not say how many multiprocessors the GPU has.
    """
    if gpu.multiprocessors is None:
        raise ValueError(f"{gpu.name}: multiprocessors is missing; FlashInfer's plan needs it")
    return DecodePlan(gpu.multiprocessors, max(1, llm.kv_heads // tensor_parallel))


def fit_unequal(sampler: UnequalDecodes, llm: Model, pool_tokens: int) -> CompactFit:
    """Fit the compact form, with grid lines where the planner changes its ways."""
    most = sampler.plan.most_pieces
    counts = sorted({*COUNTS, *(n * 3 // 2 for n in COUNTS if n >= 16), most - 1, most, most + 1})
    fit = fit_sampler(sampler, llm, pool_tokens, counts=[n for n in counts if n <= COUNTS[-1]])
    decode, mixed = fit.coefficients.decode_attention, fit.coefficients.mixed_attention
    skew = [round(sampler.skew(count), 4) for count in decode.counts]
    share = [[round(sampler.skew(n), 4)] * len(mixed.skew.rates) for n in mixed.skew.counts]
    changed = {
        "decode_attention": decode.model_copy(update={"skew": tuple(skew)}),
        "mixed_attention": mixed.model_copy(
            update={"skew": mixed.skew.model_copy(update={"share": tuple(map(tuple, share))})}
        ),
    }
    return CompactFit(fit.coefficients.model_copy(update=changed), fit.errors)


def unequal_decodes(
    on: str, of: str, tensor_parallel: int = 1, kv_dtype: str | None = None
) -> UnequalDecodes:
    """The sampler of a case; arguments as of ``calibrate_import``.

    Raises:
        ValueError: as ``calibrate_import``, or FlashInfer's plan is not known for the case.
    """
    llm = model(of, kv_dtype)
    if llm.is_latent or llm.experts is not None:
        raise ValueError(f"{of}: FlashInfer's attention is imported for dense grouped-query models")
    linear = compile_engine(on, llm, tensor_parallel)
    attention = compile_engine(on, llm, tensor_parallel, backend="sglang", attention="flashinfer")
    plan = decode_plan(accelerator(on), llm, tensor_parallel)
    measured = KernelSampler(attention, tensor_parallel)
    return UnequalDecodes(linear, tensor_parallel, attention=measured, plan=plan)


def import_flashinfer(
    on: str,
    of: str,
    tensor_parallel: int = 1,
    kv_dtype: str | None = None,
    software: str | None = None,
) -> CompactFile:
    """As ``calibrate_import``, for an engine with FlashInfer's own attention kernels.

    Raises:
        ValueError: as ``unequal_decodes``.
    """
    case = KernelCase(on, of, tensor_parallel, kv_dtype, software)
    sampler = unequal_decodes(on, of, tensor_parallel, kv_dtype)
    kernels = (
        "vLLM backend, attention of FlashInfer without TensorRT-LLM (measured in SGLang), decodes "
        "of unequal length by its plan"
    )
    return case.file(lambda: fit_unequal(sampler, case.llm, case.pool_tokens), kernels)
