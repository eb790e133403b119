"""Import measured kernel tables of data-centre GPUs from aiconfigurator-core.

aiconfigurator-core (NVIDIA, Apache-2.0, the optional ``calibration`` extra) has operator times
measured on real GPUs and sums them to a step. A call costs too much for a simulation, so a grid is
sampled once, smoothed, and fitted to the compact form. What comes out has the provenance
``measured kernels, summed``: no host overhead, and norms and activations are its estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from agentserve_gym.extras import how_to_install
from agentserve_gym.messages import choices

from .catalogue import Accelerator, accelerator, model, serving_software
from .coefficient_file import CompactFile
from .coefficients import AllReduce, Experts
from .decoder import Model
from .fit import CompactFit, HeldOutError, fit_tables, held_out_error
from .kv_pool import kv_pool_blocks
from .precision import KvDtype, WeightDtype
from .pricing.compact import CompactLatency
from .pricing.curves import smooth
from .pricing.layers import ExpertSpread
from .pricing.timing import BatchStep, lone_chunk, prefill_area
from .profile_tables import ONCE_PER_STEP, Array, ProfileTables

PROVENANCE = "measured kernels, summed"

SYSTEMS = {
    "a100-80": "a100_sxm",
    "b200": "b200_sxm",
    "gb200": "gb200",
    "h100-sxm": "h100_sxm",
    "h200": "h200_sxm",
    "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
}
"""Catalogue accelerator to aiconfigurator system."""

MODELS = {
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "llama-3.3-70b-nvfp4": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-30b-a3b-instruct-2507": "Qwen/Qwen3-30B-A3B",
    "qwen3-32b": "Qwen/Qwen3-32B",
}
"""Catalogue model to the name under which aiconfigurator carries its configuration, or that of
another checkpoint of the same shapes: the precisions are the catalogue's (see ``precisions``)."""

WEIGHT_MODES: dict[WeightDtype, str] = {"bf16": "bfloat16", "fp8": "fp8_block", "nvfp4": "nvfp4"}
KV_MODES: dict[KvDtype, str] = {"bf16": "bfloat16", "fp8": "fp8"}
"""The catalogue's precisions to aiconfigurator's quantization modes."""

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

_MS = 1e-3
PerOperator = Sequence[tuple[str, float, float, str]]


class KernelEngine(Protocol):
    """What is used of aiconfigurator_core.sdk.engine.EngineHandle; milliseconds."""

    def decode_step_per_op(self, gen_tokens: int, isl: int, osl: int) -> PerOperator: ...

    def run_static_per_op(
        self, *, batch_size: int, isl: int, osl: int, prefix: int = 0
    ) -> tuple[PerOperator, PerOperator]: ...


@dataclass(frozen=True, slots=True)
class KernelSampler:
    """Reads single components out of an engine's per-operator times, in seconds."""

    engine: KernelEngine

    def dense_s(self, tokens: int) -> float:
        """All that depends on the batch's tokens alone, expert layers apart."""
        skip = ("attention", "logits", "moe")
        return _sum(self._decode(tokens, 16), lambda name: not any(s in name for s in skip))

    def head_s(self, sequences: int) -> float:
        return _sum(self._decode(sequences, 16), lambda name: "logits" in name)

    def decode_attention_s(self, count: int, context: int) -> float:
        return _sum(self._decode(count, context), lambda name: "attention" in name)

    def decode_grid_s(self, counts: Sequence[int], contexts: Sequence[int]) -> Array:
        """Decode attention by (count, context), without the dips of measured tables."""
        return smooth_grid(
            np.array([[self.decode_attention_s(n, c) for c in contexts] for n in counts])
        )

    def prefill_attention_s(self, chunk: int, history: int) -> float:
        operators, _ = self.engine.run_static_per_op(
            batch_size=1, isl=chunk + history, osl=1, prefix=history
        )
        return _sum(operators, lambda name: "attention" in name)

    def experts_s(self, tokens: int) -> float:
        return _sum(self._decode(tokens, 16), lambda name: name.endswith("_moe"))

    def dispatch_s(self, tokens: int) -> float:
        return _sum(self._decode(tokens, 16), lambda name: "dispatch" in name)

    def _decode(self, count: int, context: int) -> PerOperator:
        return self.engine.decode_step_per_op(count, context, 2)


@dataclass(frozen=True, slots=True)
class KernelCase:
    """A case of the catalogue for which aiconfigurator-core has tables.

    Raises:
        ValueError: it has none, or the model cannot be spread so.
    """

    on: str
    of: str
    tensor_parallel: int = 1
    kv_dtype: str | None = None
    software: str | None = None

    def __post_init__(self) -> None:
        if self.on not in SYSTEMS:
            raise ValueError(
                f"no kernel tables for accelerator {self.on!r}{choices(self.on, SYSTEMS)}"
            )
        if self.of not in MODELS:
            raise ValueError(f"no kernel tables for model {self.of!r}{choices(self.of, MODELS)}")
        if self.software is not None:
            serving_software(self.software)
        self.llm.check_tensor_parallel(self.tensor_parallel)
        if self.llm.experts is not None and self.tensor_parallel > 1:
            raise ValueError(
                f"{self.of} has experts: kernel tables are imported with tensor_parallel = 1"
            )

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

    def engine(self, backend: str = "vllm", **options: int | str) -> KernelEngine:
        """The tables' engine. Raises ValueError if aiconfigurator-core is not installed."""
        return _compile(
            MODELS[self.of],
            SYSTEMS[self.on],
            backend,
            tp_size=self.tensor_parallel,
            **precisions(self.llm),
            **options,
        )

    def file(self, fit: CompactFit, kernels: str) -> CompactFile:
        """The coefficient file of a fit; ``kernels`` says whose were summed."""
        return CompactFile(
            **dict(fit.coefficients),
            accelerator=self.on,
            model=self.of,
            tensor_parallel=self.tensor_parallel,
            kv_dtype=self.llm.kv_dtype,
            software=self.software,
            provenance=PROVENANCE,
            source=(
                f"aiconfigurator-core {_version()} (Apache-2.0), {SYSTEMS[self.on]}, "
                f"{MODELS[self.of]}{_precision_text(self.llm)}, {kernels}, "
                f"tp {self.tensor_parallel}: operators summed, smoothed, no host overhead"
            ),
            error=fit.error_text(),
        )


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
        of: model, a key of MODELS.
        kv_dtype: precision of the KV; default: the model's own.
        software: serving software whose host time such steps get, where it is known.

    Returns:
        The coefficient file; its ``error`` is that of whole steps away from the sampled grid.

    Raises:
        ValueError: the case is not among those, or aiconfigurator-core is not installed.
    """
    case = KernelCase(on, of, tensor_parallel, kv_dtype, software)
    fit = fit_kernels(case.engine, case.llm, case.pool_tokens)
    return case.file(fit, "vLLM backend")


def precisions(llm: Model) -> dict[str, str]:
    """aiconfigurator's quantization modes for a model; none where all is bf16, its default.

    Raises:
        ValueError: the tables have no such precision.
    """
    if llm.weight_dtype == "bf16" and llm.kv_dtype == "bf16":
        return {}
    if llm.weight_dtype not in WEIGHT_MODES:
        raise ValueError(
            f"no kernel tables for the weights of {llm.name}"
            f"{choices(llm.weight_dtype, WEIGHT_MODES)}"
        )
    return {
        "gemm_quant_mode": WEIGHT_MODES[llm.weight_dtype],
        "kvcache_quant_mode": KV_MODES[llm.kv_dtype],
        "fmha_quant_mode": "bfloat16",
    }


def _precision_text(llm: Model) -> str:
    modes = precisions(llm)
    return "".join(f", {name} {mode}" for name, mode in modes.items())


def fit_kernels(engine: Callable[..., KernelEngine], llm: Model, pool_tokens: int) -> CompactFit:
    """Sample engines made by ``engine(moe_ep_size=.., ...)`` and fit; checked off the grid."""
    experts = _sample_experts(engine, llm) if llm.experts is not None else None
    return fit_sampler(KernelSampler(engine()), llm, pool_tokens, experts)


def fit_sampler(
    sampler: KernelSampler,
    llm: Model,
    pool_tokens: int,
    experts: Experts | None = None,
    counts: Sequence[int] = COUNTS,
) -> CompactFit:
    """Sample the grid, with batches of ``counts`` sequences, and fit; checked off the grid."""
    tables = sample_tables(sampler, llm.layers, counts)
    none = AllReduce(constant=0.0, token=0.0)  # the all-reduce is in the sampled dense part
    fit = fit_tables(tables, llm, none, experts, pool_tokens)
    spread = ExpertSpread(count=llm.experts or 0, per_token=llm.experts_per_token or 0)
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


def _sample_experts(engine: Callable[..., KernelEngine], llm: Model) -> Experts:
    """Expert layers for several spreads: the same tokens on a rank, with fewer experts on it."""
    points: list[tuple[float, float, float]] = []
    samplers = {
        ranks: KernelSampler(
            engine() if ranks == 1 else engine(moe_ep_size=ranks, attention_dp_size=ranks)
        )
        for ranks in EXPERT_RANKS
    }
    for ranks, sampler in samplers.items():
        spread = ExpertSpread(
            count=llm.experts or 0, per_token=llm.experts_per_token or 0, ranks=ranks, engines=ranks
        )
        seconds = smooth([sampler.experts_s(tokens) for tokens in TOKENS])
        points += [
            (float(tokens), round(spread.activated(tokens), 3), float(f"{value:.5g}"))
            for tokens, value in zip(TOKENS, seconds, strict=True)
        ]
    ranks = EXPERT_RANKS[1]
    group = np.array(TOKENS, dtype=float) * ranks
    exchange = np.array([samplers[ranks].dispatch_s(tokens) for tokens in TOKENS])
    slope, constant = np.polyfit(group, exchange, 1)
    dispatch = AllReduce(constant=max(float(constant), 0.0), token=max(float(slope), 0.0))
    return Experts(points=tuple(sorted(points)), dispatch=dispatch)


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


def _sum(operators: PerOperator, wanted: Callable[[str], bool]) -> float:
    return _MS * sum(operator[1] for operator in operators if wanted(operator[0]))


def _compile(model_path: str, system: str, backend: str, **options: int | str) -> KernelEngine:
    engine = _aiconfigurator().EngineHandle.compile(model_path, system, backend, **options)
    compiled: KernelEngine = engine
    return compiled


def _aiconfigurator() -> Any:
    try:
        from aiconfigurator_core.sdk import engine
    except ImportError as error:
        raise ValueError(
            f"importing kernel tables: {how_to_install('aiconfigurator_core')}"
        ) from error
    return engine


def _version() -> str:
    from importlib.metadata import version

    return version("aiconfigurator-core")
