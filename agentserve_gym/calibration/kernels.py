"""Import measured kernel tables of data-centre GPUs from aiconfigurator-core.

aiconfigurator-core (NVIDIA, Apache-2.0, the optional ``calibration`` extra) has operator times
measured on real GPUs and sums them to a step. A call costs too much for a simulation, so a grid is
sampled once, smoothed, and fitted to the compact form. What comes out has the provenance
``measured kernels, summed``: no host overhead, and norms and activations are its estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agentserve_gym.hardware.catalogue import Accelerator, accelerator, model, serving_software
from agentserve_gym.hardware.coefficient_file import CompactFile
from agentserve_gym.hardware.coefficients import AllReduce, Experts
from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.kv_pool import kv_pool_blocks
from agentserve_gym.hardware.pricing.compact import CompactLatency
from agentserve_gym.hardware.pricing.curves import smooth
from agentserve_gym.hardware.pricing.layers import ExpertSpread
from agentserve_gym.hardware.pricing.timing import BatchStep, lone_chunk, prefill_area
from agentserve_gym.hardware.profile_tables import ONCE_PER_STEP, Array, ProfileTables

from .fit import CompactFit, HeldOutError, fit_tables, held_out_error
from .kernel_engines import (
    LATENT_MODULE,
    KernelEngine,
    PerOperator,
    compile_engine,
    kernel_source,
    require_tables,
    table_errors,
)

PROVENANCE = "measured kernels, summed"

TOKENS = (
    *(*range(1, 8), *range(8, 32, 4), *range(32, 256, 8)),
    *(*range(256, 1024, 32), *range(1024, 2048, 64), *range(2048, 8193, 256)),
)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CONTEXTS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
HISTORIES = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 122880)
MOST_BESIDE = 256
"""Most decodes that are sampled beside a chunk."""
MIXED_CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
WITHHELD_STEPS = 200
EXPERT_RANKS = (1, 2, 4)

OVERLAPPED_TOKENS = 256
"""Up to so many tokens vLLM runs shared experts beside the routed ones on a stream of its own."""
PROMPTS = 16
"""Many short prompts in place of a long one: what their tokens cost apart from attention."""

_MS = 1e-3
_ATTENTION = ("attention", LATENT_MODULE, "gdn_conv1d", "gdn_recurrence", "gdn_scan")
_EXPERTS = ("moe", "shared", "router")
_TWICE = "tp_allreduce"
"""Of models with latent attention: the two all-reduces of a layer once more, which are in the
dispatches of the expert layers."""
_LEAST_S = 1e-6


@dataclass(frozen=True)
class KernelSampler:
    """Reads single components out of an engine's per-operator times, in seconds.

    Most engines have an operator for each component. Some bundle them: decodes have the whole
    expert layer in one operator, or latent attention comes with the projections around it.
    """

    engine: KernelEngine
    tensor_parallel: int = 1

    def dense_s(self, tokens: int) -> float:
        """All that depends on the batch's tokens alone, expert layers apart."""
        skip = ("logits", _TWICE, *(_EXPERTS if self._bundled else ("moe",)), *_ATTENTION)
        operators = self._of_tokens(tokens)
        return _sum(operators, lambda name: not _has(name, skip)) + self._projections_s(tokens)

    def head_s(self, sequences: int) -> float:
        return _sum(self._decode(sequences, 16), lambda name: "logits" in name)

    def decode_attention_s(self, count: int, context: int) -> float:
        whole = _sum(self._decode(count, context), lambda name: _has(name, _ATTENTION))
        return max(whole - self._projections_s(count), _LEAST_S)

    def decode_grid_s(self, counts: Sequence[int], contexts: Sequence[int]) -> Array:
        """Decode attention by (count, context), without the dips of measured tables."""
        return smooth_grid(
            np.array([[self.decode_attention_s(n, c) for c in contexts] for n in counts])
        )

    def prefill_attention_s(self, chunk: int, history: int) -> float:
        operators = self._prefill(1, chunk, history)
        whole = _sum(operators, lambda name: _has(name, _ATTENTION))
        return max(whole - self._projections_s(chunk), _LEAST_S)

    def experts_s(self, tokens: int) -> float:
        """The expert layers, with the all-reduces of tensor parallelism; of bundled ones with
        router and shared experts, too."""
        if self._bundled:
            return _sum(self._of_tokens(tokens), lambda name: _has(name, _EXPERTS))
        alone = _sum(self._decode(tokens, 16), lambda name: name.endswith("_moe"))
        return alone if self.tensor_parallel == 1 else alone + self.dispatch_s(tokens)

    def dispatch_s(self, tokens: int) -> float:
        """The exchange of tokens between engines, or, in its place, all-reduces between ranks."""
        return _sum(self._decode(tokens, 16), lambda name: "dispatch" in name)

    @cached_property
    def _bundled(self) -> bool:
        return any("overlap" in operator[0] for operator in self._decode(1, 16))

    @cached_property
    def _with_projections(self) -> bool:
        return any(LATENT_MODULE in operator[0] for operator in self._decode(1, 16))

    def _projections_s(self, tokens: int) -> float:
        """The projections that come with latent attention: what it costs without a context."""
        if not self._with_projections:
            return 0.0
        if tokens <= OVERLAPPED_TOKENS:
            return _sum(self._decode(tokens, 1), lambda name: LATENT_MODULE in name)
        operators = self._prefill(PROMPTS, round(tokens / PROMPTS))
        return _sum(operators, lambda name: LATENT_MODULE in name)

    def _of_tokens(self, tokens: int) -> PerOperator:
        """Operators that see a batch's tokens only."""
        if self._bundled and tokens > OVERLAPPED_TOKENS:
            return self._prefill(PROMPTS, round(tokens / PROMPTS))
        return self._decode(tokens, 16)

    def _decode(self, count: int, context: int) -> PerOperator:
        return self.engine.decode_step_per_op(count, context, 2)

    def _prefill(self, prompts: int, chunk: int, history: int = 0) -> PerOperator:
        operators, _ = self.engine.run_static_per_op(
            batch_size=prompts, isl=chunk + history, osl=1, prefix=history
        )
        return operators


def calibrate_import(
    on: str,
    of: str,
    tensor_parallel: int = 1,
    kv_dtype: str | None = None,
    software: str | None = None,
) -> CompactFile:
    """Sample aiconfigurator-core for one case and fit the compact form.

    Args:
        on: accelerator, a key of SYSTEMS.
        of: model, a key of CHECKPOINTS.
        kv_dtype: precision of the KV; default: the model's own.
        software: serving software of the catalogue whose host time such steps get.

    Returns:
        The coefficient file; its ``error`` is that of whole steps away from the sampled grid.

    Raises:
        ValueError: the case is not among those, or aiconfigurator-core is not installed.
    """
    case = KernelCase(on, of, tensor_parallel, kv_dtype, software)
    llm = case.llm

    def engine(expert_parallel: int = 1, data_parallel: int = 1) -> KernelEngine:
        return compile_engine(on, llm, tensor_parallel, expert_parallel, data_parallel)

    def fit() -> CompactFit:
        return fit_kernels(engine, llm, case.pool_tokens, tensor_parallel)

    return case.file(fit, "vLLM backend")


@dataclass(frozen=True, slots=True)
class KernelCase:
    """What is imported; arguments as of ``calibrate_import``."""

    on: str
    of: str
    tensor_parallel: int
    kv_dtype: str | None
    software: str | None

    def __post_init__(self) -> None:
        require_tables(self.on, self.of)
        self.llm.check_tensor_parallel(self.tensor_parallel)
        if self.software is not None:
            serving_software(self.software)

    @property
    def gpu(self) -> Accelerator:
        return accelerator(self.on)

    @property
    def llm(self) -> Model:
        return model(self.of, self.kv_dtype)

    @property
    def pool_tokens(self) -> int:
        """Tokens of KV that fit beside the weights."""
        return kv_pool_blocks(self.gpu, self.llm, self.tensor_parallel) * 16

    def file(self, fit: Callable[[], CompactFit], kernels: str) -> CompactFile:
        """The coefficient file of a fit; ``kernels``: whose were summed.

        Raises:
            ValueError: the tables lack a part of what the fit asks for.
        """
        source = kernel_source(self.on, self.llm, self.tensor_parallel, kernels)
        try:
            fitted = fit()
        except table_errors() as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"the kernel tables lack a part of {source}: {reason}") from error
        return CompactFile(
            **dict(fitted.coefficients),
            accelerator=self.on,
            model=self.of,
            tensor_parallel=self.tensor_parallel,
            kv_dtype=self.llm.kv_dtype,
            software=self.software,
            provenance=PROVENANCE,
            source=source,
            error=fitted.error_text(),
        )


def fit_kernels(
    engine: Callable[..., KernelEngine], llm: Model, pool_tokens: int, tensor_parallel: int = 1
) -> CompactFit:
    """Sample engines made by ``engine(expert_parallel, data_parallel)`` and fit; checked off the
    grid."""
    experts = _sample_experts(engine, llm, tensor_parallel) if llm.experts is not None else None
    sampler = KernelSampler(engine(), tensor_parallel)
    return fit_sampler(sampler, llm, pool_tokens, tensor_parallel, experts)


def fit_sampler(
    sampler: KernelSampler,
    llm: Model,
    pool_tokens: int,
    tensor_parallel: int = 1,
    experts: Experts | None = None,
    counts: Sequence[int] = COUNTS,
) -> CompactFit:
    """Sample the grid, with batches of ``counts`` sequences, and fit; checked off the grid."""
    tables = sample_tables(sampler, llm.layers, counts)
    none = AllReduce(constant=0.0, token=0.0)  # the all-reduce is in the sampled dense part
    spread = ExpertSpread(
        count=llm.experts or 0, per_token=llm.experts_per_token or 0, slices=tensor_parallel
    )
    fit = fit_tables(tables, llm.layers, none, experts, pool_tokens, spread)
    latency = CompactLatency(fit.coefficients.plain(), spread)
    errors = withheld_errors(latency, sampler, llm, pool_tokens)
    return CompactFit(fit.coefficients, errors)


def sample_tables(
    sampler: KernelSampler, layers: int, counts: Sequence[int] = COUNTS
) -> ProfileTables:
    """Sample the grid into profile tables; smoothed to rise along every axis."""
    micro = 1e6
    dense = np.array(smooth([sampler.dense_s(tokens) for tokens in TOKENS])) * micro
    head = np.array(smooth([sampler.head_s(count) for count in counts])) * micro
    decode = sampler.decode_grid_s(counts, CONTEXTS)
    prefill = smooth_grid(
        np.array([[sampler.prefill_attention_s(n, h) for h in HISTORIES] for n in CHUNKS])
    )
    rows = [
        (0, 0, count, context, decode[i, j])
        for i, count in enumerate(counts)
        for j, context in enumerate(CONTEXTS)
    ]
    beside = [(i, count) for i, count in enumerate(counts) if count <= MOST_BESIDE]
    for i, chunk in enumerate(CHUNKS):
        for j, history in enumerate(HISTORIES):
            rows.append((chunk, history, 0, 0, prefill[i, j]))
            for row, count in beside:
                for context in MIXED_CONTEXTS:
                    aside = decode[row, CONTEXTS.index(context)]
                    rows.append((chunk, history, count, context, prefill[i, j] + aside))
    attention = np.array(rows, dtype=np.float64)
    attention[:, 4] *= micro / layers
    return ProfileTables(
        dense={ONCE_PER_STEP[0]: (np.array(TOKENS, dtype=float), dense)},
        per_sequence={"lm_head": (np.array(counts, dtype=float), head)},
        attention=attention,
        experts=np.empty((0, 3)),
    )


def _sample_experts(
    engine: Callable[..., KernelEngine], llm: Model, tensor_parallel: int
) -> Experts:
    """Expert layers for several spreads: the same tokens on a rank, with fewer experts on it."""
    if tensor_parallel > 1:
        return _sample_sliced_experts(engine, llm, tensor_parallel)
    points: list[tuple[float, float, float]] = []
    samplers = {
        ranks: KernelSampler(engine() if ranks == 1 else engine(ranks, ranks))
        for ranks in EXPERT_RANKS
    }
    for ranks, sampler in samplers.items():
        spread = _spread(llm, ranks, engines=ranks)
        seconds = smooth([sampler.experts_s(tokens) for tokens in TOKENS])
        points += _expert_points(TOKENS, spread, seconds)
    ranks = EXPERT_RANKS[1]
    group = np.array(TOKENS, dtype=float) * ranks
    exchange = np.array([samplers[ranks].dispatch_s(tokens) for tokens in TOKENS])
    slope, constant = np.polyfit(group, exchange, 1)
    dispatch = AllReduce(constant=max(float(constant), 0.0), token=max(float(slope), 0.0))
    return Experts(points=tuple(sorted(points)), dispatch=dispatch)


def _sample_sliced_experts(
    engine: Callable[..., KernelEngine], llm: Model, tensor_parallel: int
) -> Experts:
    """Expert layers of one engine on several ranks, all-reduces included.

    Every expert is cut into as many slices as there are ranks, or whole experts are spread over
    them. The form divides the former by the slices, so that its points are of uncut experts.
    """
    sliced = KernelSampler(engine(), tensor_parallel)
    spread = KernelSampler(engine(tensor_parallel), tensor_parallel)
    uncut = [tensor_parallel * sliced.experts_s(tokens) for tokens in TOKENS]
    points = _expert_points(TOKENS, _spread(llm), smooth(uncut))
    local = [tokens for tokens in TOKENS if tokens * tensor_parallel <= TOKENS[-1]]
    seconds = [spread.experts_s(tokens * tensor_parallel) for tokens in local]
    everyone = _spread(llm, tensor_parallel, engines=tensor_parallel)
    points += _expert_points(local, everyone, smooth(seconds))
    return Experts(points=tuple(sorted(points)))


def _spread(llm: Model, ranks: int = 1, engines: int = 1) -> ExpertSpread:
    count, per_token = llm.experts or 0, llm.experts_per_token or 0
    return ExpertSpread(count=count, per_token=per_token, ranks=ranks, engines=engines)


def _expert_points(
    tokens: Sequence[int], spread: ExpertSpread, seconds: Sequence[float]
) -> list[tuple[float, float, float]]:
    return [
        (float(count), round(spread.activated(count), 3), float(f"{value:.5g}"))
        for count, value in zip(tokens, seconds, strict=True)
    ]


def withheld_errors(
    latency: CompactLatency, sampler: KernelSampler, llm: Model, pool_tokens: int
) -> dict[str, HeldOutError]:
    """Errors of whole steps at random places off the sampled grid, against the engine's own sum."""
    random = np.random.default_rng(1)
    predicted: dict[str, list[float]] = {"prefill steps": [], "decode steps": [], "mixed steps": []}
    true: dict[str, list[float]] = {kind: [] for kind in predicted}
    for _ in range(WITHHELD_STEPS):
        chunk = int(np.exp(random.uniform(np.log(64), np.log(8192))))
        history = int(np.exp(random.uniform(0, np.log(32768))))
        count = int(np.exp(random.uniform(0, np.log(257))))
        room = max((pool_tokens - chunk - history) // count, 128)
        context = int(np.exp(random.uniform(np.log(64), np.log(min(room, 65536)))))
        area = prefill_area(chunk, history)
        prefill = sampler.prefill_attention_s(chunk, history)
        decode = sampler.decode_attention_s(count, context)
        shapes = {
            "prefill steps": (lone_chunk(chunk, history), prefill),
            "decode steps": (
                BatchStep(count, count * context, context, 0, 0, 0, 0.0, count),
                decode,
            ),
            "mixed steps": (
                BatchStep(count, count * context, context, 1, chunk, history, area, count + 1),
                prefill + decode,
            ),
        }
        for kind, (step, attention) in shapes.items():
            tokens = step.decode_count + step.prefill_tokens
            whole = attention + sampler.dense_s(tokens) + sampler.head_s(step.sampled_count)
            if llm.experts is not None:
                whole += sampler.experts_s(tokens)
            true[kind].append(whole)
            predicted[kind].append(latency.step_s(step))
    return {
        kind: held_out_error(np.array(predicted[kind]), np.array(true[kind]), np.array(true[kind]))
        for kind in predicted
    }


def smooth_grid(values: Array) -> Array:
    """``smooth`` along both axes."""
    rows = np.array([smooth(row) for row in values.tolist()])
    return np.array([smooth(column) for column in rows.T.tolist()]).T


def _has(name: str, parts: Sequence[str]) -> bool:
    return any(part in name for part in parts)


def _sum(operators: PerOperator, wanted: Callable[[str], bool]) -> float:
    return _MS * sum(operator[1] for operator in operators if wanted(operator[0]))
