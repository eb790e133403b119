"""Measured cases: folders that hold what a real engine did with a workload."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.validation.replay import ReplaySettings
from agentserve_gym.workloads import Program, read_programs

Column = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class MeasuredCase:
    """One measured run.

    Attributes:
        name: of its folder.
        settings: the replay that corresponds to it.
        ttft_s, tpot_s, e2e_s: measured, from arrival, one value per request in workload order.
        makespan_s: first arrival to last token.
    """

    name: str
    settings: ReplaySettings
    ttft_s: Column
    tpot_s: Column
    e2e_s: Column
    makespan_s: float


def find_cases(folder: Path) -> list[Path]:
    """Folders at or below ``folder`` that hold ``meta.json`` and ``requests.jsonl``, sorted.

    Raises:
        ValueError: if the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of measured runs")
    return sorted(path.parent for path in folder.rglob("requests.jsonl") if _meta(path.parent))


def read_case(folder: Path) -> MeasuredCase:
    """Read a measured run in the form of LLMServingSim's published vLLM runs.

    ``meta.json`` holds ``engine_kwargs`` (vLLM's), and may hold ``accelerator`` and ``kv_blocks``;
    without the former the folder's name up to ``_`` is the accelerator. ``requests.jsonl`` holds
    per request ``input_toks``, ``output_toks``, ``arrival_time`` (epoch clock), ``queued_ts``,
    ``first_token_ts`` and ``last_token_ts`` (monotonic clock); the clocks are aligned by the
    smallest gap between arrival and queueing. The workload is the file beside it, or in the folder
    above, whose requests have the same lengths.

    Raises:
        ValueError: something is missing or no workload matches.
    """
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    with open(folder / "requests.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    if not rows:
        raise ValueError(f"{folder / 'requests.jsonl'} is empty")
    offset = min(row["queued_ts"] - row["arrival_time"] for row in rows)
    arrival = np.array([row["arrival_time"] + offset for row in rows])
    first = np.array([row["first_token_ts"] for row in rows])
    last = np.array([row["last_token_ts"] for row in rows])
    tokens = np.array([row["output_toks"] for row in rows])
    order = np.argsort(arrival, kind="stable")
    lengths = [(rows[i]["input_toks"], rows[i]["output_toks"]) for i in order]
    settings = _settings(folder, meta)
    return MeasuredCase(
        folder.name,
        replace(settings, workload=_workload(folder, lengths)),
        (first - arrival)[order],
        ((last - first) / np.maximum(tokens - 1, 1))[order],
        (last - arrival)[order],
        float(last.max() - arrival.min()),
    )


def _meta(folder: Path) -> bool:
    return (folder / "meta.json").is_file()


def _settings(folder: Path, meta: dict[str, Any]) -> ReplaySettings:
    engine = meta["engine_kwargs"]
    tensor = engine.get("tensor_parallel_size") or 1
    data = engine.get("data_parallel_size") or 1
    experts = tensor * data if engine.get("enable_expert_parallel") else 1
    return ReplaySettings(
        Path(),
        meta.get("accelerator") or folder.name.split("_")[0],
        engine["model"].split("/")[-1].lower(),
        tensor,
        data,
        experts,
        engine["max_num_seqs"],
        engine["max_num_batched_tokens"],
        meta.get("kv_blocks"),
    )


def _workload(folder: Path, lengths: list[tuple[int, int]]) -> Path:
    candidates = [
        path
        for place in (folder, folder.parent)
        for path in sorted(place.glob("*.jsonl*"))
        if path.name != "requests.jsonl"
    ]
    for path in candidates:
        programs = sorted(read_programs(path), key=_arrival)
        if [(p.turns[0].input_tokens, p.turns[0].output_tokens) for p in programs] == lengths:
            return path
    raise ValueError(
        f"{folder}: no workload file there or above has requests of the same lengths; looked at "
        f"{', '.join(path.name for path in candidates) or 'none'}"
    )


def _arrival(program: Program) -> float:
    return program.arrival_s or 0.0
