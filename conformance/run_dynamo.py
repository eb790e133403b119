"""Run by the Python that has ai-dynamo-runtime: ``run_dynamo.py CASES RESULTS``, JSON lines.

Drives Dynamo's own selection service, which runs without a cluster, through requests that begin,
end their prefill and end. Before each choice it writes down the state that the choice was made on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ["DYN_LOG"] = "error"
os.environ["DYN_ROUTER_USE_KV_EVENTS"] = "false"

from dynamo._core import SelectionService

_BLOCK_TOKENS = 16
_MODEL = "m"
_POLL_S = 0.001


async def _drive(case: dict[str, Any]) -> list[Any]:
    service = SelectionService(indexer_threads=1)
    for worker in range(case["workers"]):
        await service.upsert_worker(
            {
                "worker_id": worker, "model_name": _MODEL, "block_size": _BLOCK_TOKENS,
                "endpoint": f"http://127.0.0.1:{9000 + worker}", "total_kv_blocks": 10**6,
                "max_num_batched_tokens": 8192,
            }
        )  # fmt: skip
    choices = []
    for what, name, tokens in case["moves"]:
        if what == "begin":
            choices.append(await _choose(service, str(name), tokens))
        elif what == "prefilled":
            await service.prefill_complete(str(name))
        else:
            await service.free_reservation(str(name))
    service.shutdown()
    return choices


async def _choose(service: SelectionService, name: str, tokens: list[int]) -> dict[str, Any]:
    request = {"model_name": _MODEL, "token_ids": tokens}
    overlaps = (await service.overlap_scores(request))["workers"]
    (loads,) = service.loads(model_name=_MODEL) or [{"loads": []}]
    chosen = await service.select_and_reserve(request | {"selection_id": name})
    where = chosen["worker_id"]
    while await _cached_blocks(service, request, where) < len(tokens) // _BLOCK_TOKENS:
        await asyncio.sleep(_POLL_S)  # its index learns of the choice in a thread of its own
    return {
        "chosen": where,
        "cached_blocks": {each["worker_id"]: each["device_blocks"] for each in overlaps},
        "loads": {
            each["worker_id"]: [
                each["potential_prefill_tokens"], each["potential_decode_blocks"],
                each["active_requests"],
            ]
            for each in loads["loads"]
        },
    }  # fmt: skip


async def _cached_blocks(service: SelectionService, request: dict[str, Any], where: int) -> int:
    overlaps = (await service.overlap_scores(request))["workers"]
    return next(int(each["device_blocks"]) for each in overlaps if each["worker_id"] == where)


def main() -> None:
    with open(sys.argv[1]) as cases, open(sys.argv[2], "w") as results:
        for line in cases:
            results.write(json.dumps(asyncio.run(_drive(json.loads(line)))) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
