"""``agentserve hardware``: what the catalogue has."""

from __future__ import annotations

from typing import Any

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, print_json
from agentserve_gym.hardware import (
    GIB,
    accelerator,
    hybrid_blocks,
    list_accelerators,
    list_compact_cases,
    list_models,
    model,
)


def hardware(json: JsonOption = False) -> None:
    """List models, accelerators and the cases with fitted iteration times."""
    if json:
        print_json({"models": _models(), "accelerators": _accelerators(), "timing": _timing()})
        return
    _model_table().print(console())
    _accelerator_table().print(console())
    cases = Figures("Iteration times from measured tables; the roofline prices the rest", ["case"])
    cases.rows += [[case] for case in _timing()]
    cases.print(console())


def _models() -> list[dict[str, Any]]:
    rows = []
    for name in list_models():
        llm = model(name)
        besides = hybrid_blocks(llm)
        rows.append(
            {
                "name": name,
                "weight_gib": llm.weight_bytes / GIB,
                "kv_dtype": llm.kv_dtype,
                "kv_bytes_per_token": llm.kv_bytes_per_token,
                "kv_bytes_of_16k_tokens": llm.kv_bytes(16_384),
                "blocks_besides": besides.windows + besides.states,
                "max_context_tokens": llm.max_context_tokens,
            }
        )
    return rows


def _accelerators() -> list[dict[str, Any]]:
    keys = ("memory_gib", "memory_bandwidth_gb_per_s", "bf16_tflops", "fp8_tflops", "fp4_tflops")
    found = [accelerator(name) for name in list_accelerators()]
    return [{"name": gpu.name} | {key: getattr(gpu, key) for key in keys} for gpu in found]


def _timing() -> list[str]:
    return [str(case) for case in list_compact_cases()]


def _model_table() -> Figures:
    table = Figures(
        "Models",
        ["", "weights, GiB", "KV", "KV/token, bytes", "KV of 16k tokens, GiB", "longest context"],
    )
    for row in _models():
        table.rows.append(
            [
                row["name"],
                f"{row['weight_gib']:,.1f}",
                row["kv_dtype"],
                f"{row['kv_bytes_per_token']:,}",
                f"{row['kv_bytes_of_16k_tokens'] / GIB:,.2f}",
                f"{row['max_context_tokens']:,}",
            ]
        )
    table.remarks.append("KV/token: what one more token of a long context adds")
    return table


def _accelerator_table() -> Figures:
    heading = ["", "memory, GiB", "GB/s", "bf16, TFLOPS", "fp8", "fp4"]
    table = Figures("Accelerators (dense peaks)", heading)
    for row in _accelerators():
        name, *figures = row.values()
        table.rows.append([name, *("" if value is None else f"{value:,.10g}" for value in figures)])
    return table
