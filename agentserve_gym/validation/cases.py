"""Measured cases: folders that hold what a real engine did with a workload."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.hardware import list_accelerators, plain_name
from agentserve_gym.validation.replay import Column, ReplaySettings
from agentserve_gym.validation.targets import published_run
from agentserve_gym.workloads import Program, TraceError, read_programs

_REQUEST_FIELDS = (
    "input_toks", "output_toks", "arrival_time", "queued_ts", "first_token_ts", "last_token_ts",
)  # fmt: skip
_BLOCK_TOKENS = 16


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
        ValueError: if the folder does not exist or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of measured runs")
    found = sorted(path.parent for path in folder.rglob("requests.jsonl") if _meta(path.parent))
    if not found:
        raise ValueError(f"{folder} has no folder with meta.json and requests.jsonl")
    return found


def read_case(folder: Path) -> MeasuredCase:
    """Read a measured run in the form of LLMServingSim's published vLLM runs.

    ``meta.json`` holds ``engine_kwargs`` (vLLM's), and may hold ``accelerator`` and ``kv_blocks``
    (of one engine). Without the former the folder says it: ``<accelerator>_...``, or, as published,
    ``<GPU>/<model>/vllm``. Without the latter ``kv_cache.num_gpu_blocks`` counts the blocks of all
    data-parallel engines. ``requests.jsonl`` holds per request ``input_toks``, ``output_toks``,
    ``arrival_time`` (epoch clock), ``queued_ts``, ``first_token_ts`` and ``last_token_ts``
    (monotonic clock); the clocks are aligned by the smallest gap between arrival and queueing. The
    workload is the file whose requests have the same lengths: what ``dataset_path`` names, there or
    by its last part, in any folder above, or a file beside the run or in the folder above.

    Raises:
        ValueError: naming the file, and the field or line, that is missing or wrong; or no workload
            matches.
    """
    meta = _read_meta(folder / "meta.json")
    gpu, name = _named(folder.resolve())
    settings = _settings(folder, meta, gpu)
    rows = _read_requests(folder / "requests.jsonl")
    inputs, tokens, arrived, queued, first, last = rows.T
    arrival = arrived + (queued - arrived).min()
    order = np.argsort(arrival, kind="stable")
    lengths = [(int(inputs[i]), int(tokens[i])) for i in order]
    return MeasuredCase(
        name,
        replace(settings, workload=_workload(folder, meta.get("dataset_path"), lengths)),
        (first - arrival)[order],
        ((last - first) / np.maximum(tokens - 1, 1))[order],
        (last - arrival)[order],
        float(last.max() - arrival.min()),
    )


def _named(folder: Path) -> tuple[str, str]:
    """The accelerator and the case's name, as the path has them."""
    if folder.name == "vllm":  # of <GPU>/<model>/vllm, as published
        model, gpu = folder.parent.name, folder.parent.parent.name
        return gpu, f"{gpu}_{model}"
    return folder.name.split("_")[0], folder.name


def _meta(folder: Path) -> bool:
    return (folder / "meta.json").is_file()


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("engine_kwargs"), dict):
        raise ValueError(f"{path} has no engine_kwargs; allowed: a mapping of vLLM's arguments")
    return meta


def _read_requests(path: Path) -> Column:
    """One row per request, with the columns of ``_REQUEST_FIELDS``."""
    rows: list[list[float]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            rows.append(_request(line, f"{path}, line {number}"))
    if not rows:
        raise ValueError(f"{path} is empty; at least 1 request is needed")
    return np.array(rows, dtype=np.float64)


def _request(line: str, where: str) -> list[float]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from error
    values: list[float] = []
    for name in _REQUEST_FIELDS:
        value = row.get(name) if isinstance(row, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{where}: {name} is {value!r}; allowed: a number")
        values.append(float(value))
    if not values[3] <= values[4] <= values[5]:
        raise ValueError(
            f"{where}: queued_ts, first_token_ts and last_token_ts are {values[3:]}; "
            "each must be at least the one before"
        )
    return values


def _settings(folder: Path, meta: dict[str, Any], gpu: str) -> ReplaySettings:
    engine = meta["engine_kwargs"]
    where = folder / "meta.json"
    if not isinstance(engine.get("model"), str):
        raise ValueError(
            f"{where}: engine_kwargs.model is {engine.get('model')!r}; a name is needed"
        )
    tensor = _count(engine, "tensor_parallel_size", 1, where)
    data = _count(engine, "data_parallel_size", 1, where)
    settings = ReplaySettings(
        Path(),
        meta.get("accelerator") or _in_catalogue(gpu),
        engine["model"].split("/")[-1].lower(),
        tensor,
        data,
        tensor * data if engine.get("enable_expert_parallel") else 1,
        _count(engine, "max_num_seqs", 128, where),
        _count(engine, "max_num_batched_tokens", 2048, where),
        meta.get("kv_blocks") or _reported_blocks(meta, data, where),
    )
    published = published_run(settings)
    if settings.kv_blocks is None and published is not None:
        return replace(settings, kv_blocks=published.kv_blocks)
    return settings


def _in_catalogue(gpu: str) -> str:
    alike = (name for name in list_accelerators() if plain_name(name) == plain_name(gpu))
    return next(alike, gpu)


def _reported_blocks(meta: dict[str, Any], engines: int, where: Path) -> int | None:
    """KV blocks of one engine as vLLM reported them, where meta.json has that."""
    pool = meta.get("kv_cache")
    if not isinstance(pool, dict) or pool.get("num_gpu_blocks") is None:
        return None
    if pool.get("block_size") != _BLOCK_TOKENS:
        raise ValueError(
            f"{where}: kv_cache.block_size is {pool.get('block_size')!r}; allowed: {_BLOCK_TOKENS}"
        )
    blocks = pool["num_gpu_blocks"]
    if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < engines:
        raise ValueError(
            f"{where}: kv_cache.num_gpu_blocks is {blocks!r}; allowed: an integer of at least 1 "
            "for each engine"
        )
    return blocks // engines


def _count(engine: dict[str, Any], name: str, default: int, where: Path) -> int:
    """A whole number of at least 1; the default where vLLM's was left to it."""
    value = engine.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{where}: engine_kwargs.{name} is {value!r}; allowed: an integer of at least 1"
        )
    return value


def _workload(folder: Path, named: Any, lengths: list[tuple[int, int]]) -> Path:
    # Many files may lie here: what is not a workload is passed over.
    names = (named, Path(named).name) if isinstance(named, str) else ()
    candidates = [place / name for place in folder.resolve().parents for name in names]
    candidates = [path for path in candidates if path.is_file()]
    candidates += [
        path
        for place in (folder, folder.parent)
        for path in sorted(place.glob("*.jsonl*"))
        if path.name != "requests.jsonl"
    ]
    for path in candidates:
        try:
            programs = sorted(read_programs(path), key=_arrival)
        except TraceError:
            continue
        if [(p.turns[0].input_tokens, p.turns[0].output_tokens) for p in programs] == lengths:
            return path
    raise ValueError(
        f"{folder}: no workload file there or above has requests of the same lengths; looked at "
        f"{', '.join(path.name for path in candidates) or 'none'}"
        + (f" (meta.json names {named})" if named else "")
    )


def _arrival(program: Program) -> float:
    return program.arrival_s or 0.0
