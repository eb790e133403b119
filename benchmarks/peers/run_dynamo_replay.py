"""Run by the peer's Python: replays the trace twice, prints figures of the second time."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from dynamo._core import run_mocker_trace_replay

_TRACE_BLOCK_TOKENS = 512


def _replay(setting: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    engine = {
        "block_size": setting["block_tokens"],
        "num_gpu_blocks": setting["kv_blocks"],
        "max_num_seqs": setting["max_num_seqs"],
        "max_num_batched_tokens": setting["max_num_batched_tokens"],
    }
    started = time.perf_counter()
    result = run_mocker_trace_replay(
        [setting["trace"]],
        extra_engine_args={"engine": engine},
        num_workers=setting["instances"],
        replay_mode="offline",
        router_mode="kv_router",
        trace_block_size=_TRACE_BLOCK_TOKENS,
    )
    return time.perf_counter() - started, result.summary


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    _replay(chosen)
    wall_s, summary = _replay(chosen)
    measured = {
        "wall_s": wall_s,
        "turns": summary["completed_requests"],
        "ttft_ms": summary["mean_ttft_ms"],
        "tpot_ms": summary["mean_tpot_ms"],
        "cached_share": summary["prefix_cache_reused_ratio"],
    }
    sys.stdout.write(json.dumps(measured) + "\n")
