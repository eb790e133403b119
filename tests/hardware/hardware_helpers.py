"""Shared by the hardware tests: small synthetic tables, latency models, and measured tables."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path

import numpy as np

from agentserve_gym.hardware import BatchStep, ExpertSpread, latency_model, link, model
from agentserve_gym.hardware.pricing.profile import ProfileLatency
from agentserve_gym.hardware.pricing.timing import prefill_area
from agentserve_gym.hardware.profile import tables_latency
from agentserve_gym.hardware.profile_tables import load_profile
from tests.data_sets import needed_data_set

MOE = "qwen3-30b-a3b-instruct-2507"

COUNTS = (1, 2, 4, 8, 16)
CONTEXTS = (16, 32, 64, 128, 256, 512, 1024)


def profile_folder(name: str) -> Path:
    """A folder of measured tables; the test is skipped where the data set is absent."""
    return needed_data_set("gpu-profiles") / name


def write_csv(path: Path, header: list[str], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


def decode_us(count: float, context: float) -> float:
    """Attention of decodes in the synthetic tables: linear, so that interpolation is exact."""
    return 5.0 + 0.5 * count + 0.01 * count * context


def mixed_us(chunk: float, history: float, count: float, context: float) -> float:
    return 8.0 + 0.1 * chunk + 0.02 * history + 1.0 * count + 0.02 * count * context


def write_profile(folder: Path) -> Path:
    """A tiny profile folder with known formulas."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    dense = [(name, t, 100.0 + 2.0 * t) for name in ("qkv_proj", "layernorm") for t in tokens]
    dense += [("embedding", t, 10.0 + t) for t in tokens]
    write_csv(folder / "dense.csv", ["layer", "tokens", "time_us"], dense)
    head = [("lm_head", s, 300.0 + 4.0 * s) for s in (1, 4, 16, 64)]
    write_csv(folder / "per_sequence.csv", ["layer", "sequences", "time_us"], head)
    rows = [(0, 0, n, c, decode_us(n, c)) for n in COUNTS for c in CONTEXTS]
    for chunk in (16, 64, 256):
        for history in (0, 64, 1024):
            rows.append((chunk, history, 0, 0, mixed_us(chunk, history, 0, 0)))
            rows += [
                (chunk, history, n, c, mixed_us(chunk, history, n, c))
                for n in COUNTS
                for c in CONTEXTS
            ]
    columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"]
    write_csv(folder / "attention.csv", columns, rows)
    return folder


def synthetic_profile(folder: Path) -> ProfileLatency:
    tables = load_profile(write_profile(folder))
    return tables_latency(tables, model("llama-3.1-8b"), 1, ExpertSpread(), link("pcie-peer"))


def every_source(tmp_path: Path) -> dict[str, object]:
    """One latency model of each kind."""
    return {
        "compact": latency_model("rtx-pro-6000", "llama-3.1-8b", source="compact"),
        "compact experts": latency_model(
            "rtx-pro-6000", MOE, expert_parallel=2, data_parallel=2, source="compact"
        ),
        "kernels": latency_model("h100-sxm", "llama-3.1-70b", 4, source="compact"),
        "roofline": latency_model("gh200", "llama-3.1-8b", source="roofline"),
        "roofline experts": latency_model("b200", "phi-3.5-moe", source="roofline"),
        "roofline latent": latency_model("h200", "deepseek-r1-fp8", 8, source="roofline"),
        "roofline states": latency_model("h200", "qwen3.5-35b-a3b", source="roofline"),
        "roofline windows": latency_model("h100-sxm", "gemma-3-27b", source="roofline"),
        "profile": synthetic_profile(tmp_path / "profile"),
    }


def decode(count: int, context: int, longest: int | None = None) -> BatchStep:
    """A decode-only step whose contexts sum to ``context``."""
    longest = -(-context // count) if longest is None else longest
    return BatchStep(count, context, longest, 0, 0, 0, 0.0, count)


def prefill(chunk: int, history: int = 0, count: int = 0, context: int = 0) -> BatchStep:
    """A step with one chunk, beside ``count`` decodes of ``context`` tokens each."""
    area = prefill_area(chunk, history)
    return BatchStep(count, count * context, context, 1, chunk, history, area, count + 1)


def later(step: BatchStep, steps: int) -> BatchStep:
    """The same decode batch some steps later: every context has grown by as many tokens."""
    return replaced(
        step,
        decode_context_tokens=step.decode_context_tokens + steps * step.decode_count,
        decode_max_context_tokens=step.decode_max_context_tokens + steps,
    )


def replaced(step: BatchStep, **changes: int) -> BatchStep:
    """The step with some attributes changed."""
    names = list(inspect.signature(BatchStep).parameters)
    return BatchStep(**dict(zip(names, step.astuple(), strict=True)) | changes)


def assert_rising(values: list[float]) -> None:
    assert np.all(np.diff(values) > 0), values
