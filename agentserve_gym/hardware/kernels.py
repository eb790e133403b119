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

from .catalogue import accelerator, model
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
MIXED_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
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


def calibrate_import(
    on: str, of: str, tensor_parallel: int = 1, kv_dtype: str | None = None
) -> CompactFile:
    """Sample aiconfigurator-core for one case and fit the compact form.

    Args:
        on: accelerator, a key of SYSTEMS.
        of: model, a key of MODELS.
        kv_dtype: precision of the KV; default: the model's own.

    Returns:
        The coefficient file; its ``error`` is that of whole steps away from the sampled grid.

    Raises:
        ValueError: the case is not among those, or aiconfigurator-core is not installed.
    """
    if on not in SYSTEMS:
        raise ValueError(f"no kernel tables for accelerator {on!r}{choices(on, SYSTEMS)}")
    if of not in MODELS:
        raise ValueError(f"no kernel tables for model {of!r}{choices(of, MODELS)}")
    gpu, llm = accelerator(on), model(of, kv_dtype)
    llm.check_tensor_parallel(tensor_parallel)
    if llm.experts is not None and tensor_parallel > 1:
        raise ValueError(f"{of} has experts: kernel tables are imported with tensor_parallel = 1")
    pool_tokens = kv_pool_blocks(gpu, llm, tensor_parallel) * 16

    def engine(**spread: int) -> KernelEngine:
        return _compile(
            MODELS[of], SYSTEMS[on], tp_size=tensor_parallel, **precisions(llm), **spread
        )

    fit = fit_kernels(engine, llm, pool_tokens)
    return CompactFile(
        **dict(fit.coefficients),
        accelerator=on,
        model=of,
        tensor_parallel=tensor_parallel,
        kv_dtype=llm.kv_dtype,
        provenance=PROVENANCE,
        source=(
            f"aiconfigurator-core {_version()} (Apache-2.0), {SYSTEMS[on]}, {MODELS[of]}"
            f"{_precision_text(llm)}, vLLM backend, tp {tensor_parallel}: operators summed, "
            "smoothed, no host overhead"
        ),
        error=fit.error_text(),
    )


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
    sampler = KernelSampler(engine())
    tables = sample_tables(sampler, llm.layers)
    experts = _sample_experts(engine, llm) if llm.experts is not None else None
    none = AllReduce(constant=0.0, token=0.0)  # the all-reduce is in the sampled dense part
    fit = fit_tables(tables, llm, none, experts, pool_tokens)
    spread = ExpertSpread(count=llm.experts or 0, per_token=llm.experts_per_token or 0)
    latency = CompactLatency(fit.coefficients.plain(), spread)
    errors = withheld_errors(latency, sampler, llm, pool_tokens)
    return CompactFit(fit.coefficients, errors)


def sample_tables(sampler: KernelSampler, layers: int) -> ProfileTables:
    """Sample the grid into profile tables; smoothed to rise along every axis."""
    micro = 1e6
    dense = np.array(smooth([sampler.dense_s(tokens) for tokens in TOKENS])) * micro
    head = np.array(smooth([sampler.head_s(count) for count in COUNTS])) * micro
    decode = smooth_grid(
        np.array([[sampler.decode_attention_s(n, c) for c in CONTEXTS] for n in COUNTS])
    )
    prefill = smooth_grid(
        np.array([[sampler.prefill_attention_s(n, h) for h in HISTORIES] for n in CHUNKS])
    )
    rows = [
        (0, 0, count, context, decode[i, j])
        for i, count in enumerate(COUNTS)
        for j, context in enumerate(CONTEXTS)
    ]
    for i, chunk in enumerate(CHUNKS):
        for j, history in enumerate(HISTORIES):
            rows.append((chunk, history, 0, 0, prefill[i, j]))
            for count in MIXED_COUNTS[1:]:
                for context in MIXED_CONTEXTS:
                    aside = decode[COUNTS.index(count), CONTEXTS.index(context)]
                    rows.append((chunk, history, count, context, prefill[i, j] + aside))
    attention = np.array(rows, dtype=np.float64)
    attention[:, 4] *= micro / layers
    return ProfileTables(
        dense={ONCE_PER_STEP[0]: (np.array(TOKENS, dtype=float), dense)},
        per_sequence={"lm_head": (np.array(COUNTS, dtype=float), head)},
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


def _compile(model_path: str, system: str, **options: int | str) -> KernelEngine:
    engine = _aiconfigurator().EngineHandle.compile(model_path, system, "vllm", **options)
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
