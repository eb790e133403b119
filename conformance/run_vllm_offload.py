"""Run by the Python that has vLLM: ``run_vllm_offload.py HISTORIES RESULTS``, JSON lines each way.

Asks vLLM's CPU offloading manager what our simulation asked its DRAM tier. A turn is a request of
its own; it is finished when its blocks are offered for storing, as the connector does it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from zlib import crc32

os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from vllm.v1.kv_offload.base import LookupResult, OffloadKey, ReqContext, make_offload_key
from vllm.v1.kv_offload.cpu.manager import CPUOffloadingManager

Turn = tuple[int, int]


class _Asked:
    """The manager, asked one thing after the other."""

    def __init__(self, blocks: int, policy: str) -> None:
        self._manager = CPUOffloadingManager(num_chunks=blocks, cache_policy=policy)
        self._blocks = blocks
        self._requests: dict[Turn, ReqContext] = {}
        self._loading: dict[Turn, list[OffloadKey]] = {}
        self._storing: dict[Turn, list[OffloadKey]] = {}
        self._names: dict[OffloadKey, list[Any]] = {}
        self._dropped: set[tuple[Any, ...]] = set()

    def ask(self, event: dict[str, Any]) -> Any:
        turn = tuple(event["turn"])
        request = self._request(turn)
        keys = [self._key(block) for block in event.get("chain", ())]
        for place, key in enumerate(keys):
            request.set_offload_key_position(key, 16 * (place + 1))
        wanted = keys[event.get("first", 0) :]
        self._dropped.update(map(tuple, event.get("dropped", ())))
        match event["do"]:
            case "find":
                return self._find(wanted, request)
            case "load":
                self._loading[turn] = wanted
                self._manager.prepare_load(wanted, request)
            case "loaded":
                self._manager.complete_load(self._loading.pop(turn), request)
            case "store":
                return self._store(turn, keys, request)
            case "stored":
                self._manager.complete_store(self._storing.pop(turn), request)
        return None

    def _request(self, turn: Turn) -> ReqContext:
        request = self._requests.get(turn)
        if request is None:
            request = self._requests[turn] = ReqContext(f"{turn[0]}/{turn[1]}")
            self._manager.on_new_request(request)
        return request

    def _key(self, block: list[Any]) -> OffloadKey:
        key = make_offload_key(json.dumps(block).encode(), 0)
        self._names[key] = block
        return key

    def _find(self, keys: list[OffloadKey], request: ReqContext) -> int:
        for number, key in enumerate(keys):
            if self._manager.lookup(key, request) is not LookupResult.HIT:
                return number
        return len(keys)

    def _store(self, turn: Turn, keys: list[OffloadKey], request: ReqContext) -> Any:
        output = self._manager.prepare_store(keys, request)
        self._manager.on_request_finished(request)
        stored = evicted = -1
        if output is not None:
            self._storing[turn] = output.keys_to_store
            stored, evicted = len(output.keys_to_store), len(output.evicted_keys)
        free = self._manager._get_num_free_chunks()
        found = sorted(self._found(request))
        which = crc32(json.dumps(found).encode())
        return [stored, max(evicted, 0), self._blocks - free, len(found), which]

    def _found(self, request: ReqContext) -> list[list[Any]]:
        """Names of every owner's blocks that can be found: up to the first that is not there."""
        ready = {
            (name[0], name[1]): name
            for key, name in self._names.items()
            if tuple(name) not in self._dropped
            and self._manager.lookup(key, request) is LookupResult.HIT
        }
        found = []
        for owner in {owner for owner, _ in ready}:
            place = 0
            while (owner, place) in ready:
                found.append(ready[owner, place])
                place += 1
        return found


def main() -> None:
    with open(sys.argv[1]) as histories, open(sys.argv[2], "w") as results:
        for line in histories:
            history = json.loads(line)
            asked = _Asked(history["host_blocks"], history["eviction"])
            answers = []
            for event, expected in zip(history["events"], history["answers"], strict=True):
                answers.append(asked.ask(event))
                if answers[-1] != expected:
                    break  # what follows may ask for blocks that are not there
            results.write(json.dumps(answers) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
