"""Engines of aiconfigurator-core: which of its tables are those of an accelerator and a model.

It carries the configurations of some checkpoints and infers their precisions; others are derived
here from one of the same shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

from agentserve_gym.extras import how_to_install
from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.precision import KvDtype
from agentserve_gym.messages import choices

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


class Checkpoint(NamedTuple):
    """A checkpoint as aiconfigurator takes it.

    Attributes:
        name: of the configuration that it carries.
        modes: precisions that differ from those of that configuration.
        quantization: an ``hf_quant_config.json`` in place of what that configuration says.
    """

    name: str
    modes: Mapping[str, str] = {}
    quantization: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        changes = [f"{key} {mode}" for key, mode in self.modes.items()]
        if self.quantization is not None:
            left_out = " ".join(self.quantization["exclude_modules"])
            changes.append(f"{self.quantization['quant_algo']} but for {left_out}")
        return ", ".join([self.name, *changes])


_FP8 = {"gemm_quant_mode": "fp8"}
"""fp8 with one scale a matrix. Checkpoints have one for 128 x 128 weights, but the rows of such
matrices were measured with their launches: at least 60 us on an H100 and 170 us on a B200, however
small the matrix, which CUDA graphs hide. Expert layers and latent attention have no such floor."""

CHECKPOINTS = {
    "deepseek-r1-fp8": Checkpoint("deepseek-ai/DeepSeek-R1", _FP8),
    "deepseek-r1-nvfp4": Checkpoint(
        "deepseek-ai/DeepSeek-R1",
        quantization={
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": "FP8",
            "group_size": 16,
            "exclude_modules": ["lm_head", "model.layers.*.self_attn*"],
        },
    ),
    "gpt-oss-120b": Checkpoint("openai/gpt-oss-120b"),
    "kimi-k2-fp8": Checkpoint("moonshotai/Kimi-K2-Instruct", _FP8),
    "kimi-k2.5-int4": Checkpoint("moonshotai/Kimi-K2.5"),
    "llama-3.1-8b": Checkpoint("meta-llama/Meta-Llama-3.1-8B"),
    "llama-3.1-70b": Checkpoint("meta-llama/Meta-Llama-3.1-70B"),
    "llama-3.3-70b-nvfp4": Checkpoint(
        "meta-llama/Meta-Llama-3.1-70B", {"gemm_quant_mode": "nvfp4"}
    ),
    "qwen3-30b-a3b-instruct-2507": Checkpoint("Qwen/Qwen3-30B-A3B"),
    "qwen3-32b": Checkpoint("Qwen/Qwen3-32B"),
    "qwen3.5-35b-a3b": Checkpoint("Qwen/Qwen3.5-35B-A3B"),
    "qwen3-32b-fp8": Checkpoint("Qwen/Qwen3-32B-FP8", _FP8),
    "qwen3-coder-30b-a3b-fp8": Checkpoint("Qwen/Qwen3-30B-A3B-FP8", _FP8),
}
"""Catalogue model to a checkpoint of its shapes and precisions."""

KV_MODES: dict[KvDtype, str] = {"bf16": "bfloat16", "fp8": "fp8"}

LATENT_MODULE = "mla_block"
"""The operator of latent attention with the projections around it."""

PerOperator = Sequence[tuple[str, float, float, str]]
"""(name, milliseconds, ...) of every operator of a step."""


class KernelEngine(Protocol):
    """What is used of aiconfigurator_core.sdk.engine.EngineHandle; milliseconds."""

    def decode_step_per_op(self, gen_tokens: int, isl: int, osl: int) -> PerOperator: ...

    def run_static_per_op(
        self, *, batch_size: int, isl: int, osl: int, prefix: int = 0
    ) -> tuple[PerOperator, PerOperator]: ...


def compile_engine(
    on: str,
    llm: Model,
    tensor_parallel: int,
    expert_parallel: int = 1,
    data_parallel: int = 1,
    *,
    backend: str = "vllm",
    attention: str | None = None,
) -> KernelEngine:
    """aiconfigurator's engine of a case; queries are bf16, as vLLM's are by default.

    ``backend`` and ``attention`` (its attention kernels; default: the backend's own) are
    aiconfigurator's names.

    Raises:
        ValueError: the case is not among those, or aiconfigurator-core is not installed.
    """
    require_tables(on, llm.name)
    checkpoint = CHECKPOINTS[llm.name]
    options: dict[str, int | str] = {"tp_size": tensor_parallel}
    if attention is not None:
        options["attention_backend"] = attention
    if expert_parallel > 1:
        options |= {"moe_ep_size": expert_parallel, "attention_dp_size": data_parallel}
    elif llm.experts is not None and tensor_parallel > 1:
        options["moe_tp_size"] = tensor_parallel
    if not llm.is_bf16:  # which aiconfigurator takes for granted
        options |= {
            "kvcache_quant_mode": KV_MODES[llm.kv_dtype],
            "fmha_quant_mode": "bfloat16",
        }
    sdk = _aiconfigurator()

    def engine(modes: Mapping[str, str]) -> KernelEngine:
        with _model_path(checkpoint) as path:
            try:
                made: KernelEngine = sdk.EngineHandle.compile(
                    path, SYSTEMS[on], backend, **options, **modes
                )
            except ValueError as error:
                said = ", ".join(f"{key} {value}" for key, value in options.items())
                reason = str(error).splitlines()[0].strip()
                raise ValueError(
                    f"aiconfigurator-core does not take {checkpoint} with {said}: {reason}"
                ) from error
        return made

    if llm.is_latent and checkpoint.modes:
        return _LatentFrom(engine({}), engine(checkpoint.modes))
    return engine(checkpoint.modes)


class _LatentFrom:
    """An engine that takes latent attention, a module that is measured whole, from another."""

    def __init__(self, latent: KernelEngine, engine: KernelEngine) -> None:
        self._latent = latent
        self._engine = engine

    def decode_step_per_op(self, gen_tokens: int, isl: int, osl: int) -> PerOperator:
        latent, engine = self._latent, self._engine
        return _merged(
            latent.decode_step_per_op(gen_tokens, isl, osl),
            engine.decode_step_per_op(gen_tokens, isl, osl),
        )

    def run_static_per_op(
        self, *, batch_size: int, isl: int, osl: int, prefix: int = 0
    ) -> tuple[PerOperator, PerOperator]:
        latent, engine = (
            each.run_static_per_op(batch_size=batch_size, isl=isl, osl=osl, prefix=prefix)
            for each in (self._latent, self._engine)
        )
        return _merged(latent[0], engine[0]), _merged(latent[1], engine[1])


def _merged(latent: PerOperator, others: PerOperator) -> PerOperator:
    modules = [operator for operator in latent if LATENT_MODULE in operator[0]]
    return [*modules, *(operator for operator in others if LATENT_MODULE not in operator[0])]


def require_tables(on: str, of: str) -> None:
    """Raises ValueError where there are no tables for an accelerator or a model."""
    if on not in SYSTEMS:
        raise ValueError(f"no kernel tables for accelerator {on!r}{choices(on, SYSTEMS)}")
    if of not in CHECKPOINTS:
        raise ValueError(f"no kernel tables for model {of!r}{choices(of, CHECKPOINTS)}")


def table_errors() -> tuple[type[Exception], ...]:
    """What aiconfigurator raises where its tables lack a case."""
    _aiconfigurator()
    from aiconfigurator_core.sdk import errors

    return (
        errors.EmpiricalNotImplementedError,
        errors.InterpolationDataNotAvailableError,
        errors.MissingSystemFlopsError,
        errors.PerfDataNotAvailableError,
        errors.SolNotImplementedError,
    )


def kernel_source(on: str, llm: Model, tensor_parallel: int, kernels: str = "vLLM backend") -> str:
    """One line on what an import rests on; ``kernels``: whose were summed.

    Raises:
        ValueError: aiconfigurator-core is not installed.
    """
    _aiconfigurator()
    from importlib.metadata import version

    kv = "" if llm.is_bf16 else f", {llm.kv_dtype} KV"
    return (
        f"aiconfigurator-core {version('aiconfigurator-core')} (Apache-2.0), {SYSTEMS[on]}, "
        f"{CHECKPOINTS[llm.name]}{kv}, {kernels}, tp {tensor_parallel}: operators summed, "
        "smoothed, no host overhead"
    )


@contextmanager
def _model_path(checkpoint: Checkpoint) -> Iterator[str]:
    """The name of a checkpoint, or a folder with the configuration that aiconfigurator carries
    under it: by name it takes only those that it lists, as they are."""
    from aiconfigurator_core.sdk.common import DefaultHFModels

    if checkpoint.quantization is None and checkpoint.name in DefaultHFModels:
        yield checkpoint.name
        return
    file = f"{checkpoint.name.replace('/', '--')}_config.json"
    carried = resources.files("aiconfigurator_core") / "model_configs" / file
    config = json.loads(carried.read_text(encoding="utf-8"))
    with TemporaryDirectory() as place:
        if checkpoint.quantization is not None:
            config.pop("quantization_config", None)
            content = {"quantization": dict(checkpoint.quantization)}
            (Path(place) / "hf_quant_config.json").write_text(json.dumps(content), encoding="utf-8")
        (Path(place) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        yield place


def _aiconfigurator() -> Any:
    try:
        from aiconfigurator_core.sdk import engine
    except ImportError as error:
        raise ValueError(
            f"importing kernel tables: {how_to_install('aiconfigurator_core')}"
        ) from error
    return engine
