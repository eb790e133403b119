"""Shared by the tests of validation: small workloads, and made-up measured runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.validation import Replay, ReplaySettings, replay


def write_workload(path: Path, requests: int = 24, rate_per_s: float = 8.0, seed: int = 0) -> Path:
    """A request file with a common first block of 16 tokens."""
    random = np.random.default_rng(seed)
    arrival_s = 0.0
    rows = []
    for number in range(requests):
        arrival_s += float(random.exponential(1 / rate_per_s))
        rows.append(
            {
                "arrival_s": arrival_s,
                "input_tokens": int(random.integers(40, 400)),
                "output_tokens": int(random.integers(2, 60)),
                "block_ids": [1, 100 + number],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def meta(**engine: Any) -> dict[str, Any]:
    """What meta.json of a measured run holds."""
    return {
        "engine_kwargs": {
            "model": "meta-llama/Llama-3.1-8B",
            "tensor_parallel_size": 1,
            "data_parallel_size": 1,
            "enable_expert_parallel": False,
            "max_num_seqs": 128,
            "max_num_batched_tokens": 2048,
            **engine,
        }
    }


def write_measured(folder: Path, replayed: Replay, stretch: float = 1.0) -> Path:
    """A measured run whose engine took ``stretch`` times as long as a replay, on other clocks."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(meta()), encoding="utf-8")
    rows = [
        {
            "input_toks": turn.prompt_tokens,
            "output_toks": turn.output_tokens,
            "arrival_time": 1.7e9 + turn.ready_s,
            "queued_ts": 5000.0 + turn.ready_s,
            "first_token_ts": _stretched(turn.ready_s, turn.first_token_s, stretch),
            "last_token_ts": _stretched(turn.ready_s, turn.end_s, stretch),
        }
        for turn in reversed(replayed.turns)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "requests.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _stretched(ready_s: float, then_s: float, stretch: float) -> float:
    return 5000.0 + ready_s + stretch * (then_s - ready_s)


def small_case(folder: Path, stretch: float = 1.0) -> Path:
    """A measured run made from a replay on an RTX 4090, with its workload beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    workload = write_workload(folder / "workload.jsonl")
    settings = ReplaySettings(workload, "rtx-4090", "llama-3.1-8b", kv_blocks=2588)
    return write_measured(folder / "rtx-4090_small", replay(settings), stretch)
